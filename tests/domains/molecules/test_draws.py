"""Draws by group, against RDKit's scaffolds and clusters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator, rdMolDescriptors
from rdkit.Chem.Scaffolds import MurckoScaffold
from rdkit.ML.Cluster import Butina

from molmeta.core.sampling import Draw, uniform
from molmeta.core.task import IntArray, Split, Task, TaskKind
from molmeta.domains.molecules import draws
from molmeta.domains.molecules.draws import (
    CLUSTER_SIMILARITY,
    DRAWS,
    butina,
    cluster_groups,
    draw_rule,
    imbalanced,
    scaffold_groups,
)
from molmeta.domains.molecules.fsmol import FSMol, FSMolConfig
from molmeta.domains.molecules.inputs import MoleculeBatch
from molmeta.domains.molecules.store import build
from molmeta.errors import ConfigError, SupportError
from tests.bundles import DRUGS

RINGS = ["c1ccccc1", "c1ccncc1", "c1ccoc1", "C1CCCCC1", "C1CCNCC1", "c1ccc2ccccc2c1", "c1ccc(cc1)c1ccccc1"]
CHAINS = ["C", "CC", "CCO", "CCN", "CC(=O)O", "ClCC", "C[C@H](N)O", "C[C@@H](N)O"]
SERIES = [f"{chain}{ring}" for ring in RINGS for chain in CHAINS]
REFUSED_BY_THE_VALENCE_CHECK = "Cc1ccccc1[PH](=O)(=O)O"


class Source:
    """Molecules in memory, and one task over all of them."""

    def __init__(self, smiles: list[str]) -> None:
        self.store = build(smiles, workers=1)
        self.rows = np.array([self.store.row_of[text] for text in smiles])

    def tasks(self, split: Split, kind: TaskKind = TaskKind.BINARY) -> list[Task]:
        labels = np.arange(len(self.rows)) // 2 % 2
        if kind is TaskKind.BINARY:
            return [Task("own", self.rows, labels, kind, 2)]
        return [Task("own", self.rows, labels * 1.5, kind, 0)]

    def gather(self, rows: IntArray) -> MoleculeBatch:
        return self.store.gather(rows)

    def smiles(self, rows: IntArray) -> list[str]:
        return self.store.smiles(rows)

    def structures(self, rows: IntArray) -> np.ndarray:
        return self.store.structure[rows]

    def draw(self, task: Task, n_support: int, seed: int) -> Draw:
        return uniform(task.labels, n_support, len(task), np.random.default_rng(seed))


def same(groups: object) -> list[list[bool]]:
    """Which pairs share a group."""
    values = list(groups)  # type: ignore[call-overload]
    return [[left == right for left in values] for right in values]


def test_an_unknown_draw_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r'unknown draw "scafold"\. Did you mean "scaffold"\? Known: standard, sc'):
        draw_rule("scafold", Source(DRUGS))


@pytest.mark.parametrize("name", ["standard", "scaffold", "cluster"])
def test_a_source_that_does_not_tell_what_a_draw_needs_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f'the draw "{name}" cannot be made: object has no '):
        draw_rule(name, object())  # type: ignore[arg-type]


def test_the_standard_draw_is_the_source_s_own() -> None:
    source = Source(DRUGS)
    task = source.tasks(Split.VALID)[0]
    found, expected = draw_rule("standard", source)(task, 4, 7), source.draw(task, 4, 7)
    assert [part.tolist() for part in found] == [part.tolist() for part in expected]


def test_molecules_with_rings_are_grouped_as_by_rdkit_s_scaffolds() -> None:
    texts = [*SERIES, *DRUGS]
    source = Source(texts)
    ringed = [i for i, text in enumerate(texts) if rdMolDescriptors.CalcNumRings(Chem.MolFromSmiles(text))]
    expected = [MurckoScaffold.MurckoScaffoldSmiles(smiles=texts[i]) for i in ringed]
    assert same(scaffold_groups(source, source.rows)[ringed]) == same(expected)
    assert len(set(expected)) >= len(RINGS)


def test_molecules_without_a_ring_are_groups_by_their_structure_without_stereo() -> None:
    source = Source(["CCO", "OCC", "CCN", "C[C@H](N)O", "C[C@@H](N)O", "CC(N)O"])
    assert same(scaffold_groups(source, source.rows)) == same([0, 0, 1, 2, 2, 2])


def test_a_molecule_that_fails_the_valence_check_has_the_scaffold_of_its_rings() -> None:
    source = Source([REFUSED_BY_THE_VALENCE_CHECK, "Cc1ccccc1", "c1ccncc1"])
    assert same(scaffold_groups(source, source.rows)) == same([0, 0, 1])


def test_clusters_are_those_of_rdkit_s_butina_on_rdkit_s_similarities() -> None:
    source = Source(SERIES)
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    # In the order in which the structures are clustered, which settles ties.
    order = np.argsort(source.structures(source.rows))
    prints = [generator.GetCountFingerprint(Chem.MolFromSmiles(SERIES[i])) for i in order]
    distances = [1 - DataStructs.TanimotoSimilarity(prints[i], prints[j]) for i in range(len(prints)) for j in range(i)]
    clusters = Butina.ClusterData(distances, len(prints), 1 - CLUSTER_SIMILARITY + 1e-9, isDistData=True)
    expected = np.empty(len(order), np.int64)
    for number, members in enumerate(clusters):
        expected[order[list(members)]] = number
    assert same(cluster_groups(source, source.rows)) == same(expected)
    assert 5 < len(clusters) < len(SERIES)


@pytest.mark.parametrize("seed", range(5))
def test_butina_is_rdkit_s_on_random_distances(seed: int) -> None:
    points = np.random.default_rng(seed).random((60, 2))
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    condensed = [distances[i, j] for i in range(60) for j in range(i)]
    found = butina(distances <= 0.2)
    expected = Butina.ClusterData(condensed, 60, 0.2, isDistData=True)
    assert [sorted(members) for members in expected] == [
        np.flatnonzero(found == number).tolist() for number in range(found.max() + 1)
    ]


GROUPINGS: dict[str, Callable[..., IntArray]] = {"scaffold": scaffold_groups, "cluster": cluster_groups}


@pytest.mark.parametrize("kind", [TaskKind.BINARY, TaskKind.REGRESSION])
@pytest.mark.parametrize("name", GROUPINGS)
def test_no_group_stands_on_both_sides_and_what_is_left_out_is_the_rest_of_one(name: str, kind: TaskKind) -> None:
    source = Source(SERIES)
    task = source.tasks(Split.VALID, kind)[0]
    groups, rule = GROUPINGS[name](source, task.rows), draw_rule(name, source)
    drawn = set()
    for seed in range(20):
        support, query = rule(task, 12, seed)
        assert len(set(support.tolist())) == 12
        assert len(query) >= 2
        assert not set(groups[support]) & set(groups[query])
        left = np.setdiff1d(np.arange(len(task)), [*support, *query])
        assert len(set(groups[left])) <= 1
        assert set(groups[left]) <= set(groups[support])
        assert kind is TaskKind.REGRESSION or set(task.labels[support]) == {0, 1}
        again = draw_rule(name, source)(task, 12, seed)
        assert [part.tolist() for part in again] == [support.tolist(), query.tolist()]
        drawn.add(tuple(support.tolist()))
    assert len(drawn) == 20


@pytest.mark.parametrize("name", GROUPINGS)
def test_equal_structures_never_straddle_however_they_are_written(name: str) -> None:
    once = [Chem.MolFromSmiles(text) for text in SERIES[:40]]
    texts = SERIES[:40] + [Chem.MolToSmiles(m, doRandom=True, kekuleSmiles=True) for m in once] + SERIES[:5]
    source = Source(texts)
    task = source.tasks(Split.VALID)[0]
    structures, rule = source.structures(task.rows), draw_rule(name, source)
    assert max(Counter(structures.tolist()).values()) == 3
    for seed in range(20):
        support, query = rule(task, 16, seed)
        assert not set(structures[support]) & set(structures[query])


def test_fifty_draws_cost_one_grouping(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    source = Source(SERIES)
    task = source.tasks(Split.VALID)[0]
    monkeypatch.setattr(source, "smiles", lambda rows: asked.append(rows) or source.store.smiles(rows))
    rule = draw_rule("scaffold", source)
    for seed in range(50):
        rule(task, 8, seed)
    assert len(asked) == 1


@pytest.mark.parametrize("name", GROUPINGS)
def test_a_task_of_one_series_allows_no_draw_by_group_and_the_error_says_why(name: str) -> None:
    source = Source([f"{'C' * n}c1ccccc1" for n in range(6, 18)])
    task = source.tasks(Split.VALID)[0]
    with pytest.raises(SupportError, match=r"task own has 12 rows in 1 groups, the largest of 12: 100 orders"):
        draw_rule(name, source)(task, 4, 0)


def test_a_support_without_both_classes_is_never_given() -> None:
    source = Source(SERIES)
    task = Task("own", source.rows, (np.arange(len(SERIES)) < 8).astype(np.int64), TaskKind.BINARY, 2)
    for seed in range(10):
        support, _ = draw_rule("scaffold", source)(task, 10, seed)  # all actives have one scaffold
        assert set(task.labels[support]) == {0, 1}
    single = Task("own", source.rows, np.zeros(len(SERIES), np.int64), TaskKind.BINARY, 2)
    with pytest.raises(SupportError, match="with every class"):
        draw_rule("scaffold", source)(single, 10, 0)


@pytest.mark.parametrize(("n", "actives"), [(4, 1), (8, 1), (16, 2), (32, 4)])
def test_an_imbalanced_support_has_one_active_in_eight_and_the_query_every_other_row(n: int, actives: int) -> None:
    labels = (np.arange(100) % 3 > 0).astype(np.int64)  # two thirds are active
    task = Task("own", np.arange(100), labels, TaskKind.BINARY, 2)
    drawn = set()
    for seed in range(5):
        support, query = imbalanced(task, n, seed)
        assert np.bincount(labels[support]).tolist() == [n - actives, actives]
        assert sorted([*support, *query]) == list(range(100))
        drawn.add(tuple(support.tolist()))
    assert len(drawn) == 5


def test_an_imbalanced_draw_is_refused_for_values_and_where_a_class_would_be_used_up() -> None:
    source = Source(DRUGS)
    rule = draw_rule("imbalanced", source)
    with pytest.raises(SupportError, match="task own is a regression task: imbalanced supports are for binary tasks"):
        rule(source.tasks(Split.VALID, TaskKind.REGRESSION)[0], 4, 0)
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 0])
    task = Task("own", np.arange(8), labels, TaskKind.BINARY, 2)
    assert len(rule(task, 5, 0)[1]) == 3
    with pytest.raises(SupportError, match="has 3 actives and 5 inactives: an imbalanced support of 6 takes 1 and 5"):
        rule(task, 6, 0)
    with pytest.raises(SupportError, match="takes 1 and 0"):
        rule(task, 1, 0)


@pytest.mark.parametrize("name", [name for name in DRAWS if name != "standard"])
@pytest.mark.parametrize("n", [0, 11, 12, 13])
def test_a_support_that_leaves_no_query_is_refused(name: str, n: int) -> None:
    source = Source(DRUGS)
    with pytest.raises(SupportError, match=f"task own has 12 rows: a support of {n} is empty, or leaves fewer"):
        draw_rule(name, source)(source.tasks(Split.VALID)[0], n, 0)


def test_clusters_do_not_depend_on_the_blocks_in_which_they_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(SERIES)
    whole = cluster_groups(source, source.rows).tolist()
    monkeypatch.setattr(draws, "_BLOCK", 7)
    assert cluster_groups(source, source.rows).tolist() == whole


@pytest.mark.data
def test_a_real_assay_allows_every_draw_and_no_structure_straddles(fsmol: Path, tmp_path: Path) -> None:
    smallest = min((fsmol / "valid").glob("*.jsonl.gz"), key=lambda path: path.stat().st_size)
    (tmp_path / "valid").mkdir()
    (tmp_path / "valid" / smallest.name).symlink_to(smallest)
    source = FSMol(FSMolConfig(root=str(tmp_path), on_invalid="drop"), workers=1)
    (task,) = source.tasks(Split.VALID)
    structures = source.structures(task.rows)
    for name in ("scaffold", "cluster"):
        rule = draw_rule(name, source)
        for seed in range(5):
            support, query = rule(task, 32, seed)
            assert not set(structures[support]) & set(structures[query])
    assert task.labels[draw_rule("imbalanced", source)(task, 32, 0)[0]].sum() == 4
