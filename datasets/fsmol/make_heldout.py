"""Choose the train assays that are held out to choose models: ``python datasets/fsmol/make_heldout.py``.

Assays are joined into groups when they share a target, or at least a third of the smaller one's structures. Whole
groups are drawn at random until 160 assays with 128 molecules or more are in hand; groups of more than 40 assays
(such as kinase panels that measure the same compounds on every target) stay in training. The other assays of a drawn
group leave training too ("excluded"), so that no near-duplicate straddles.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from molmeta.core.random import keyed_rng
from molmeta.core.task import Split
from molmeta.domains.molecules.fsmol import FSMol, FSMolConfig

WANTED, MIN_SIZE, SHARED, LARGEST_GROUP, SEED = 160, 128, 1 / 3, 40, 0


def main() -> None:
    source = FSMol(FSMolConfig(hold_out=False))
    tasks = list(source.tasks(Split.TRAIN))
    with gzip.open(source.root / "targets" / "target_info.csv.gz", "rt") as lines:
        target = {row["chembl_id"]: row["target_id"] for row in csv.DictReader(lines)}
    structures = [set(source.store.structure[t.rows].tolist()) for t in tasks]
    pairs = [(i, j) for i, j in _sharing(structures)]
    by_target = defaultdict(list)
    for i, task in enumerate(tasks):
        by_target[target.get(task.name, task.name)].append(i)
    pairs += [(group[0], other) for group in by_target.values() for other in group[1:]]
    left, right = np.array(pairs).T
    graph = coo_matrix((np.ones(len(left)), (left, right)), shape=(len(tasks), len(tasks)))
    count, group_of = connected_components(graph, directed=False)
    groups = [np.flatnonzero(group_of == g) for g in range(count)]
    heldout, excluded = [], []
    for g in keyed_rng(SEED, "heldout").permutation(count):
        large = [tasks[i].name for i in groups[g] if len(tasks[i]) >= MIN_SIZE]
        if not large or len(groups[g]) > LARGEST_GROUP:
            continue
        heldout += large
        excluded += [tasks[i].name for i in groups[g] if len(tasks[i]) < MIN_SIZE]
        if len(heldout) >= WANTED:
            break
    record = {"made_by": "datasets/fsmol/make_heldout.py", "heldout": sorted(heldout), "excluded": sorted(excluded)}
    Path(__file__).with_name("heldout.json").write_text(json.dumps(record, indent=1) + "\n")
    sizes = Counter(len(g) for g in groups)
    print(f"{len(heldout)} held out, {len(excluded)} excluded; group sizes: {sorted(sizes.items())}")


def _sharing(structures: list[set[int]]) -> list[tuple[int, int]]:
    """Pairs of assays that share at least a third of the smaller one's structures."""
    assays_of = defaultdict(list)
    for i, members in enumerate(structures):
        for member in members:
            assays_of[member].append(i)
    shared: Counter[tuple[int, int]] = Counter()
    for assays in assays_of.values():
        shared.update((a, b) for k, a in enumerate(assays) for b in assays[k + 1 :])
    return [(a, b) for (a, b), n in shared.items() if n >= SHARED * min(len(structures[a]), len(structures[b]))]


if __name__ == "__main__":
    main()
