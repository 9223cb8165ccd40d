"""Learning curves: how supports grow, and what is learned from which assays."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from molmeta.bundle import Bundle, Member
from molmeta.core.task import Split, Task, TaskKind
from molmeta.domains.molecules.featurise import featurise
from molmeta.domains.molecules.inputs import MoleculeBatch
from molmeta.predicting.outlook import Curve, Evidence
from molmeta.recipe import make_learner
from molmeta.scoring import curves
from molmeta.scoring.curves import CurveDraw, CurvePairs, draw_curves, growing, learn_curves
from tests.assays import MOLECULES
from tests.bundles import tiny_bundle


def task(name: str, n: int, share: float = 0.5, kind: TaskKind = TaskKind.BINARY, target: str = "") -> Task:
    rng = np.random.default_rng(len(name))
    labels = (rng.permutation(n) < share * n).astype(np.int64) if kind is TaskKind.BINARY else rng.normal(size=n)
    k = 2 if kind is TaskKind.BINARY else 0
    return Task(name, np.arange(n) % len(MOLECULES), labels, kind, k, {"target_id": target or name})


class Source:
    """Assays of 48 molecules."""

    def __init__(self) -> None:
        self.molecules = MoleculeBatch.of(featurise(MOLECULES).arrays)
        self.asked: list[Split] = []

    def tasks(self, split: Split, kind: TaskKind = TaskKind.BINARY) -> list[Task]:
        self.asked.append(split)
        return [task(f"{split}{i}", 48, kind=kind, target=str(i)) for i in range(8)]

    def gather(self, rows: np.ndarray) -> MoleculeBatch:
        import torch

        return self.molecules[torch.from_numpy(rows)]


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(curves, "SIZES", (8, 16))
    monkeypatch.setattr(curves, "_QUERY", 16)
    monkeypatch.setattr(curves, "_SMALLEST", 40)


@pytest.mark.parametrize("kind", [TaskKind.BINARY, TaskKind.REGRESSION])
@pytest.mark.parametrize("draw", [0, 1])
def test_supports_lie_within_each_other_and_never_meet_the_query(kind, draw):
    drawn = task("a", 400, 0.4, kind)
    supports, query = growing(drawn, draw)
    assert [len(s) for s in supports] == list(curves.SIZES)
    for smaller, larger in pairwise(supports):
        assert set(smaller) < set(larger)
    assert not set(supports[-1]) & set(query)
    assert len(query) == 400 - 128


def test_even_draws_have_the_assays_share_and_odd_ones_a_lower():
    drawn = task("a", 400, 0.4)
    even, odd = (growing(drawn, draw)[0][-1] for draw in (0, 1))
    assert drawn.labels[even].sum() == round(128 * 0.4)
    assert round(128 * 0.4 * 0.2) <= drawn.labels[odd].sum() < drawn.labels[even].sum()
    assert all(drawn.labels[growing(drawn, seed)[0][0]].sum() >= 2 for seed in range(6))


def test_an_assay_too_small_for_any_support_has_no_curve():
    assert growing(task("a", 39), 0)[0] == []
    assert growing(task("a", 200, 0.03), 0)[0] == []
    assert draw_curves(tiny_bundle(), Source(), task("a", 39)) == []


def test_each_support_is_paired_with_itself_and_every_later_one():
    seen = [Evidence(*map(np.asarray, (n, n, 0.6, 0.7, 0.0))) for n in (8.0, 16.0, 32.0)]
    pairs = CurvePairs.of([CurveDraw("a", 0, seen, np.array([0.6, 0.7, 0.8]))])
    found = list(zip(pairs.seen.size.tolist(), pairs.later.tolist(), pairs.quality.tolist(), strict=True))
    assert found == [(8, 8, 0.6), (8, 16, 0.7), (8, 32, 0.8), (16, 16, 0.7), (16, 32, 0.8), (32, 32, 0.8)]


def test_a_model_that_keeps_no_assays_learns_its_curves_from_the_held_out_ones(small):
    source, bundle = Source(), tiny_bundle()
    found = learn_curves(bundle, source)
    assert set(found) == {"binary", "regression"}
    assert all(curve["learned_from"] == "8 heldout assays" for curve in found.values())
    assert Split.TRAIN not in source.asked
    curve = Curve.of(found, TaskKind.BINARY)
    assert curve.weights[2] >= 0
    assert set(curve.average) == {"8", "16"}
    assert found == learn_curves(bundle, Source())


def test_a_model_that_keeps_assays_is_measured_on_those_that_it_has_not_read(small, monkeypatch):
    tables = {"name": "known_assays"}, {"name": "profiles", "width": 3}
    bundle = Bundle([Member(*tables, make_learner(*tables))])
    before = {name: t.clone() for name, t in bundle.members[0].learner.state_dict().items()}
    read, drawn = [], []
    real = curves.read_half

    def spied(learner, source):
        rest = real(learner, source)
        kept = {t.name for t in rest.tasks(Split.TRAIN)}
        read.extend(t.name for t in source.tasks(Split.TRAIN) if t.name not in kept)
        return rest

    def drawing(reader, source, one):
        drawn.append(one.name)
        assert len(reader.members[0].learner.backbone.keys)
        return draw_curves(reader, source, one)

    monkeypatch.setattr(curves, "read_half", spied)
    monkeypatch.setattr(curves, "draw_curves", drawing)
    found = learn_curves(bundle, Source())
    assert read
    assert drawn
    assert not set(read) & set(drawn)
    assert found["binary"]["learned_from"] == f"{len(set(drawn))} train assays that it had not read"
    after = bundle.members[0].learner.state_dict()
    assert all(np.array_equal(after[name], before[name]) for name in before)


def test_the_molecules_that_a_panel_measured_are_known(small):
    tables = {"name": "known_assays"}, {"name": "profiles", "width": 3}
    bundle, source = Bundle([Member(*tables, make_learner(*tables))]), Source()
    assert not bundle.knows(bundle.encode(source.molecules)).any()
    backbone = bundle.members[0].learner.backbone
    backbone.read(source, [replace(task("a", 20), name="a"), task("bb", 10)])
    known = bundle.knows(bundle.encode(source.molecules))
    assert known[:20].all()
    assert not known.all()
    assert not tiny_bundle().knows(tiny_bundle().encode(source.molecules)).any()
