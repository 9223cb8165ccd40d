"""Do the uncertainty and the far flag rank errors? On FS-Mol's held-out train assays, one draw of 16 an assay.

python docs/benchmarks/check_flags.py
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from molmeta.bundle import Bundle
from molmeta.core.task import Split, TaskKind
from molmeta.domains.molecules.fsmol import FSMol
from molmeta.domains.molecules.labels import AssayLabels
from molmeta.predicting.assay import AssayModel, predict_molecules


def main() -> None:
    torch.set_num_threads(1)
    source, bundle = FSMol(), Bundle.load("default")
    wrong, unsure, far, weight = [], [], [], []
    for task in source.tasks(Split.HELDOUT):
        support, query = source.draw(task, 16, 0)
        take = source.store.arrays.take
        labels, texts = task.labels[support], source.smiles(task.rows[support])
        assay = AssayLabels(task.name, support, support + 1, texts, [], labels, TaskKind.BINARY, ("0", "1"))
        model = AssayModel.fit(bundle, assay, take(task.rows[support]), texts)
        found = predict_molecules([model], take(task.rows[query]))[0]
        wrong.append(found.probabilities.argmax(1) != task.labels[query])
        unsure.append(found.uncertainty)
        far.append(found.far)
        weight.append(np.full(len(query), 1 / len(query)))  # every assay counts the same
    wrong, unsure, far, weight = map(np.concatenate, (wrong, unsure, far, weight))
    edges = np.quantile(unsure, [0, 0.2, 0.4, 0.6, 0.8, 1])
    for low, high in pairwise(edges):
        part = (unsure >= low) & (unsure <= high)
        print(f"uncertainty {low:.2f} to {high:.2f}: {np.average(wrong[part], weights=weight[part]):.1%} wrong")
    for name, part in (("far", far), ("not far", ~far)):
        print(f"{name}: {part.mean():.1%} of the molecules, {np.average(wrong[part], weights=weight[part]):.1%} wrong")


if __name__ == "__main__":
    main()
