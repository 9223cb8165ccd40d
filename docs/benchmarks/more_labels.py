"""Does the estimate of quality with more labels hold, and does a chosen batch teach more than a random one?

python docs/benchmarks/more_labels.py estimate    # the estimate against what is measured, on assays that nobody read
python docs/benchmarks/more_labels.py choose      # 16 labels and 16 more, by several rules
"""

from __future__ import annotations

import sys
from collections import defaultdict

import numpy as np
import torch

from molmeta.bundle import Bundle
from molmeta.core.random import keyed_rng
from molmeta.core.sampling import stratified
from molmeta.core.task import Split, Task
from molmeta.domains.molecules.featurise import MoleculeArrays
from molmeta.domains.molecules.fsmol import FSMol
from molmeta.domains.molecules.nearest import Counts, NearestTable
from molmeta.evaluation.metrics import metrics_of_draw
from molmeta.predicting.outlook import COVERAGE, Curve
from molmeta.predicting.selection import conditioned, most_telling
from molmeta.predicting.specialised import Labelled, Specialised
from molmeta.scoring.curves import KINDS, CurveDraw, CurvePairs, draw_curves

SPLITS = (Split.HELDOUT, Split.VALID)
SHOWN = ((16, 16), (16, 32), (16, 64), (16, 128), (64, 64), (64, 128))
START = MORE = 16
POOL, QUERY, SEEDS = 500, 1000, 2


def estimate() -> None:
    source, bundle = FSMol(), Bundle.load("default")
    for split in SPLITS:
        for kind in KINDS:
            draws = [d for task in source.tasks(split, kind) for d in draw_curves(bundle, source, task)]
            print(f"{split}, {kind}")
            print("\n".join(estimate_lines(draws, Curve.of(bundle.curves, kind))))


def estimate_lines(draws: list[CurveDraw], curve: Curve) -> list[str]:
    """A row for each pair of sizes; errors are mean absolute differences to what was measured: of the estimate, of the
    mean curve that was learned from other assays, and of these assays' own mean, which nobody knows beforehand."""
    pairs = CurvePairs.of(draws)
    expected, (low, high) = curve.expected(pairs.seen, pairs.later), curve.interval(pairs.seen, pairs.later)
    lines = [f"labels later assays expected measured error mean-curve own-mean in-{COVERAGE:.0%} width correlation"]
    for now, later in SHOWN:
        rows = (pairs.seen.size == now) & (pairs.later == later)
        q, e, task = pairs.quality[rows], expected[rows], np.array(pairs.task)[rows]
        of_task = np.array([(q[task == t].mean(), e[task == t].mean()) for t in np.unique(task)]).T
        inside = ((low <= pairs.quality) & (pairs.quality <= high))[rows].mean()
        errors = [np.abs(q - told).mean() for told in (e, curve.average[str(later)], q.mean())]
        lines.append(
            f"{now:6} {later:5} {len(of_task.T):6} {e.mean():8.3f} {q.mean():8.3f} {errors[0]:5.3f} {errors[1]:10.3f} "
            f"{errors[2]:8.3f} {inside:6.2f} {(high - low)[rows].mean():5.2f} {np.corrcoef(of_task)[0, 1]:11.2f}"
        )
    return lines


def choose() -> None:
    """On held-out and valid assays: a random support of 16, a fixed query, and 16 more of the other molecules."""
    source, bundle = FSMol(), Bundle.load("default")
    for split in SPLITS:
        gains: dict[str, list[dict[str, float]]] = defaultdict(list)
        for task in source.tasks(split):
            if len(task) >= START + 2 * MORE + 60:
                for rule, scores in chosen(source, bundle, task).items():
                    gains[rule].append(scores)
        print(f"{split}, {len(gains['random'])} assays: mean, difference to random and its standard error")
        for rule, found in gains.items():
            cells = []
            for metric in found[0]:
                values = np.array([scores[metric] for scores in found])
                gain = values - [scores[metric] for scores in gains["random"]]
                error = gain.std(ddof=1) / np.sqrt(len(gain))
                cells.append(f"{metric} {values.mean():.3f} {gain.mean():+.4f} ± {error:.4f}")
            print(f"{rule:20} {'   '.join(cells)}")


def chosen(source: FSMol, bundle: Bundle, task: Task) -> dict[str, dict[str, float]]:
    """Scores by rule, means of :data:`SEEDS` draws."""
    molecules = source.store.arrays.take(task.rows)
    encoded = bundle.encode(source.gather(task.rows))

    def fitted(rows: np.ndarray) -> Specialised:
        picked = tuple(each[torch.from_numpy(rows)] for each in encoded)
        return Specialised.fit(bundle, Labelled(picked, task.labels[rows], task.kind, 2))

    def probability(model: Specialised, rows: np.ndarray) -> np.ndarray:
        return model.predict(tuple(each[torch.from_numpy(rows)] for each in encoded))[0][:, 1]

    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for seed in range(SEEDS):
        rng = keyed_rng(seed, f"choose {task.name}")
        support, rest = stratified(task.labels, START, len(task), rng)
        query, pool = rest[: len(rest) // 2][:QUERY], rest[len(rest) // 2 :][:POOL]
        p = probability(fitted(support), pool)
        picks = {"none": pool[:0], **rules(molecules, support, pool, p, rng)}
        for rule, picked in picks.items():
            scores = metrics_of_draw(task.labels[query], probability(fitted(np.concatenate([support, picked])), query))
            hits = float(task.labels[picked].mean()) if len(picked) else np.nan
            found[rule].append({name: scores[name] for name in ("delta_auprc", "roc_auc", "nll")} | {"actives": hits})
    return {r: {name: float(np.mean([s[name] for s in each])) for name in each[0]} for r, each in found.items()}


def rules(
    molecules: MoleculeArrays, support: np.ndarray, pool: np.ndarray, p: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """What each rule picks of the pool, whose molecules are active with probability ``p``."""
    counts = Counts.of(molecules.take(np.concatenate([support, pool])))
    similar = NearestTable(counts).similarities(counts).astype(float)
    within, across, known = similar[START:, START:], similar[START:, :START], similar[:START, :START]
    covariance = conditioned(within, across, known)
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p))
    picks = {
        "random": rng.permutation(len(pool))[:MORE],
        "most uncertain": np.argsort(-entropy)[:MORE],
        "uncertain, far apart": spread_out(within, across, entropy),
        "farthest": spread_out(within, across, np.ones(len(pool))),
        "variance": np.array(most_telling(covariance, np.ones(len(pool)), MORE)[0]),
        "weighted variance": np.array(most_telling(covariance, p * (1 - p), MORE)[0]),
        "likeliest actives": np.argsort(-p)[:MORE],
    }
    return {rule: pool[picked] for rule, picked in picks.items()}


def spread_out(within: np.ndarray, across: np.ndarray, value: np.ndarray) -> np.ndarray:
    """One after the other, the largest value times distance to what is labelled or picked."""
    near, picked = across.max(1), []
    for _ in range(MORE):
        left = np.where(np.isin(np.arange(len(near)), picked), -1, value * (1 - near))
        picked.append(int(left.argmax()))
        near = np.maximum(near, within[picked[-1]])
    return np.array(picked)


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"estimate": estimate, "choose": choose}[sys.argv[1]]()
