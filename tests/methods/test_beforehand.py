"""What a method says of a molecule before it compares it with the support."""

from __future__ import annotations

import pytest
import torch

from molmeta.core.learner import Beforehand
from molmeta.core.task import TaskKind
from molmeta.methods.gp import GaussianProcess, GPConfig
from molmeta.methods.protonet import ProtoNet
from tests.toy import Net, NetConfig, episodes

pytestmark = pytest.mark.usefixtures("float64")


def process(prior: bool = True) -> GaussianProcess:
    torch.manual_seed(0)
    model = GaussianProcess(Net(NetConfig(dropout=0.0)), GPConfig(prior=prior)).double()
    if prior:
        torch.nn.init.normal_(model.prior.weight)
    return model


def asked(model: GaussianProcess | ProtoNet, kind: TaskKind = TaskKind.BINARY, k: int = 2) -> tuple:
    ((support, query),) = episodes(kind, [(9, 5, k)]).episodes()
    predictor = model.adapt(support)
    return predictor.predict(query.inputs), predictor.beforehand(query.inputs)


def test_a_row_unlike_every_support_row_is_predicted_as_said_beforehand():
    model = process()
    with torch.no_grad():
        model.classification.log_length.fill_(-12.0)  # nothing is similar to anything
        predicted, before = asked(model)
    assert isinstance(before, Beforehand)
    torch.testing.assert_close(before.informed.probabilities, predicted.probabilities)
    assert before.informed.probabilities[:, 1].std() > 1e-3


def test_uninformed_it_says_the_same_of_every_row_and_of_both_classes_what_they_are():
    _, before = asked(process())
    assert (before.uninformed.probabilities == before.uninformed.probabilities[0]).all()
    model = process()
    with torch.no_grad():
        model.prior.weight.zero_()
        model.prior.bias.zero_()
    _, before = asked(model)
    torch.testing.assert_close(before.informed.probabilities, before.uninformed.probabilities)


@pytest.mark.parametrize(
    ("make", "kind", "k"),
    [
        (lambda: process(prior=False), TaskKind.BINARY, 2),
        (process, TaskKind.REGRESSION, 0),
        (process, TaskKind.MULTICLASS, 3),
        (lambda: ProtoNet(Net()), TaskKind.BINARY, 2),
    ],
    ids=["no prior", "values", "several classes", "prototypes"],
)
def test_where_nothing_was_learned_beforehand_nothing_is_said(make, kind, k):
    assert asked(make(), kind, k)[1] is None
