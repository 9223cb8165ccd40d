"""Every method, on every domain, keeps the laws that it states, and is shown to break each that it does not state."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from molmeta.core.episode import LabelledSet
from molmeta.domains import BACKBONES as REGISTERED
from molmeta.errors import InputError, SupportError
from molmeta.methods import METHODS
from tests.contract.case import BINARY, CLASSES, MULTICLASS, REGRESSION, Case, close, numbers
from tests.contract.cases import ALL, ALONE, BACKBONES, CASES, DOMAINS, ENCODING, NUMBERS, ORDER, WAYS, broken_laws, on

pytestmark = pytest.mark.usefixtures("float64")


def test_every_method_and_every_backbone_is_tried_and_every_law_is_broken_by_some() -> None:
    assert {ALL[method][0]["name"] for method, _ in CASES.values()} == set(METHODS)
    assert {BACKBONES[backbone]["name"] for _, backbone in CASES.values()} >= set(REGISTERED)
    assert set(ALL) == {method for method, _ in CASES.values()}
    learned = [m for m in METHODS if (m, "counts") not in CASES.values() or m in ("centroid", "logistic")]
    learned.remove("known_assays")  # of molecules alone
    assert all((method, on(method, domain)) in CASES.values() for method in learned for domain in DOMAINS)
    assert set.union(*(broken_laws(*case) for case in CASES.values())) == {ORDER, NUMBERS, WAYS, ENCODING, ALONE}


def test_a_method_states_the_laws_that_the_table_does_not_say_it_breaks(case: Case) -> None:
    stated = {
        ORDER: case.laws.support_order_invariant,
        NUMBERS: case.laws.class_equivariant,
        WAYS: case.laws.any_way,
        ENCODING: case.laws.encodes,
        ALONE: not case.laws.transductive,
    }
    assert {law for law, holds in stated.items() if not holds} == broken_laws(case.method, case.backbone)


def shuffled(part: LabelledSet, order: torch.Tensor) -> LabelledSet:
    return replace(part, inputs=part.inputs[order], labels=part.labels[order])


def test_the_order_of_the_support_matters_only_where_it_is_said_to(case: Case) -> None:
    for kind in case.laws.kinds:
        support, query = case.one(kind)
        order = torch.arange(len(support)).roll(4).flip(0)
        same = close(case.predict(shuffled(support, order), query.inputs), case.predict(support, query.inputs))
        assert same == case.laws.support_order_invariant


def test_renumbering_the_classes_renumbers_the_prediction_where_it_is_said_to(case: Case) -> None:
    holds = []
    for kind in case.laws.kinds - {REGRESSION}:
        support, query = case.one(kind)
        renumber = torch.arange(CLASSES[kind]).roll(1)  # class c becomes renumber[c]
        other = replace(support, labels=renumber[support.labels])
        if support.task_inputs is not None:
            other = replace(other, task_inputs=support.task_inputs[renumber.argsort()])
        renumbered = case.predict(other, query.inputs)
        holds.append(close(renumbered[:, renumber], case.predict(support, query.inputs)))
    assert all(holds) == case.laws.class_equivariant


def test_one_learner_serves_any_number_of_ways_where_it_is_said_to(case: Case) -> None:
    if MULTICLASS not in case.laws.kinds:
        pytest.skip("serves no multiclass task")
    served = []
    for k in (2, 5):
        support, query = case.one(MULTICLASS, n=2 * k, ways=k)
        try:
            assert case.predict(support, query.inputs).shape == (7, k)
            served.append(True)
        except SupportError:
            served.append(False)
    assert served == [case.laws.any_way] * 2


def test_a_prediction_depends_on_the_other_queries_only_where_it_is_said_to(case: Case) -> None:
    for kind in case.laws.kinds:
        support, query = case.one(kind)
        together = case.predict(support, query.inputs)
        parts = torch.arange(len(query)).split([3, 4] if case.laws.transductive else [1, 6])
        same = all(close(case.predict(support, query.inputs[rows]), together[rows]) for rows in parts)
        assert same != case.laws.transductive


def test_an_encoding_stands_for_its_inputs_where_it_is_said_to(case: Case) -> None:
    for kind in case.laws.kinds:
        support, query = case.one(kind)
        with torch.no_grad():
            encodings = [case.learner.encode(part.inputs) for part in (support, query)]
        assert all(len(e) == len(part) for e, part in zip(encodings, (support, query), strict=True))
        encoded = replace(support, inputs=encodings[0])
        if case.laws.encodes:
            assert close(case.predict(encoded, encodings[1]), case.predict(support, query.inputs))
        else:
            with pytest.raises(InputError, match="not an Encoding"):
                case.predict(encoded, encodings[1])


def test_an_empty_support_is_served_where_it_is_said_to_be_and_else_refused(case: Case) -> None:
    kind = BINARY if BINARY in case.laws.kinds else max(case.laws.kinds)
    support, query = case.one(kind)
    nothing = replace(support, inputs=support.inputs[torch.arange(0)], labels=support.labels[:0])
    if not case.laws.empty_support:
        if not case.laws.described:
            with pytest.raises(SupportError, match=r"every class needs an example|the support set is empty"):
                case.learner.adapt(nothing)
        return
    found = case.predict(nothing, query.inputs)
    assert torch.isfinite(found).all()
    assert np.ptp(found[:, 0].numpy()) > 1e-5
    batch = case.batch(BINARY, [(0, 7), (9, 7)])
    (_, asked), _ = batch.episodes()
    none, some = map(numbers, case.learner.predict_episodes(batch))
    assert close(case.predict(nothing, asked.inputs), none)
    assert not close(none, some)


def test_a_class_needs_no_example_where_descriptions_are_read_and_is_else_refused(case: Case) -> None:
    kind = max(case.laws.kinds - {REGRESSION}, default=MULTICLASS)
    support, query = case.one(kind)
    if not case.laws.described:
        with pytest.raises(SupportError, match="every class needs an example"):
            case.learner.adapt(replace(support, labels=torch.zeros_like(support.labels)))
        batch = case.batch(kind, [(9, 7), (9, 7)])
        lacking = replace(batch, labels=torch.where(batch.episode == 1, 0, batch.labels))
        with pytest.raises(SupportError, match="every class needs an example"):
            case.learner.predict_episodes(lacking)
        if case.laws.meta_trained and not case.method.startswith("finetune"):  # it trains on whatever rows there are
            with pytest.raises(SupportError, match="every class needs an example"):
                case.learner.meta_backward(lacking)
        return
    nothing = replace(support, inputs=support.inputs[torch.arange(0)], labels=support.labels[:0])
    found = case.predict(nothing, query.inputs)
    assert torch.isfinite(found).all()
    assert np.ptp(found[:, 0].numpy()) > 1e-5
    with pytest.raises(SupportError, match="reads a description of each class"):
        case.learner.adapt(replace(support, task_inputs=None))
