"""MAML through a graph network against itself without adapting, and against the same network from scratch.

    molmeta train --config maml-gnn --seed 0 -o maml-0
    python docs/benchmarks/compare_maml.py maml-0

From scratch: fresh weights, trained on the support alone by gradient descent; of a grid of step sizes and numbers of
steps, the best on ten held-out assays is taken. All are scored at a support of 16, on FS-Mol's valid fold and on the
other held-out assays.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

from molmeta.core.random import seed_torch
from molmeta.core.task import Split
from molmeta.domains.molecules.fsmol import FSMol
from molmeta.evaluation.comparisons import compare
from molmeta.evaluation.fewshot import evaluate
from molmeta.evaluation.statistics import per_task, summarise
from molmeta.export import member_of_run
from molmeta.methods.maml import MAML

SIZE, SEEDS, TUNING_TASKS = 16, range(2), 10


def main(run: Path) -> None:
    torch.set_num_threads(1)
    source = FSMol()
    trained = member_of_run(run).learner
    assert isinstance(trained, MAML)

    def scores(learner, tasks, seeds=SEEDS):
        return evaluate(learner, source, tasks, sizes=(SIZE,), seeds=seeds, draw=source.draw)

    def with_steps(learner, lr, steps):
        learner.config = replace(learner.config, inner_lr=lr, test_inner_steps=steps)
        return learner

    def fresh(lr, steps):
        seed_torch(0, 0)
        return with_steps(MAML(type(trained.backbone)(trained.backbone.config), trained.config), lr, steps)

    heldout = source.tasks(Split.HELDOUT)
    tuning = heldout[::8][:TUNING_TASKS]
    grid = [(lr, steps) for lr in (0.03, 0.1) for steps in (5, 20)]
    tuned = {g: summarise(scores(fresh(*g), tuning, range(1)), "delta_auprc", SIZE).mean for g in grid}
    best = max(tuned, key=lambda g: -1.0 if tuned[g] != tuned[g] else tuned[g])  # NaN: it diverged
    print(f"from scratch: step size {best[0]}, {best[1]} steps (held-out ΔAUPRC {tuned[best]:.3f})")
    lr = trained.config.inner_lr
    used = {task.name for task in tuning}
    folds = {"heldout": [t for t in heldout if t.name not in used], "valid": source.tasks(Split.VALID)}
    for fold, tasks in folds.items():
        found = {
            "MAML": scores(with_steps(trained, lr, None), tasks),
            "MAML, not adapted": scores(with_steps(trained, lr, 0), tasks),
            "from scratch": scores(fresh(*best), tasks),
        }
        for name, result in found.items():
            print(f"{fold}: {name:<20} ΔAUPRC {summarise(result, 'delta_auprc', SIZE)}", flush=True)
        left = per_task(found["MAML"], "delta_auprc", SIZE)
        for name in ("MAML, not adapted", "from scratch"):
            print(f"{fold}: MAML - {name}: {compare(left, per_task(found[name], 'delta_auprc', SIZE))}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
