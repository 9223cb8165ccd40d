from __future__ import annotations

import pytest
import torch

from molmeta.core import shared
from molmeta.core.episode import EpisodeBatch
from molmeta.core.learner import Encoding, Learner
from molmeta.core.shared import SharedEncoding, Table
from molmeta.core.task import TaskKind
from molmeta.methods.padded import inner, pad, share, squared_distance, unit_length
from molmeta.recipe import make_learner
from tests.contract.case import numbers
from tests.contract.cases import ALL
from tests.toy import episodes

pytestmark = pytest.mark.usefixtures("float64")
SHAPES = [(6, 5, 2), (9, 3, 2), (4, 11, 2)]
TABLES = {name: tables for name, (tables, _) in ALL.items()} | {"centroid, not centred": {"name": "centroid"}}
SHARING = ("protonet", "protonet, cosine", "protonet, attention", "matching", "centroid, not centred")
SHARING += ("gp", "gp without prior", "adkf", "dkt", "quadratic_probe", "quadratic_probe, discriminant")
OTHERS = ("protonet, mahalanobis", "matching, full context", "centroid", "relation", "r2d2", "in_context")


def drawn(kind: TaskKind, width: int = 6) -> EpisodeBatch:
    """Ragged episodes of one table's rows, each of which stands in several."""
    batch = episodes(kind, SHAPES, width=width)
    some = torch.Generator().manual_seed(0)
    rows = torch.randint(17, (len(batch.labels),), generator=some)
    values = unit_length(torch.randn(17, width, generator=some))
    return batch.with_inputs(SharedEncoding(Table(values, rows[batch.is_support].unique()), rows))


def gathered(batch: EpisodeBatch) -> EpisodeBatch:
    assert isinstance(batch.inputs, SharedEncoding)
    return batch.with_inputs(Encoding(batch.inputs.values))


@pytest.fixture(params=["kept", "too large to keep"])
def _pairs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "_PAIRS", 10_000 if request.param == "kept" else 0)


@pytest.mark.usefixtures("_pairs")
def test_episodes_of_shared_rows_answer_as_gathered_ones_do() -> None:
    batch = drawn(TaskKind.BINARY)
    assert isinstance(batch.inputs, SharedEncoding)
    one, layout = share(batch, batch.inputs)
    other, same = pad(batch, batch.inputs.values)
    query, mask = layout.query_mask[..., None], one.support_mask
    assert torch.equal(layout.support, same.support)
    for left, right in ((one, other), (one.map(unit_length), other.map(unit_length))):
        torch.testing.assert_close(left.support, right.support)
        torch.testing.assert_close(left.query * query, right.query * query)
        torch.testing.assert_close(left.class_means(), right.class_means())
        others = right.class_means()
        for function in (inner, squared_distance):
            torch.testing.assert_close(left.compare(function, others) * query, right.compare(function, others) * query)
            columns, rows = mask[:, None], mask[..., None]
            across = [each.across(function) * columns * query for each in (left, right)]
            within = [each.within(function) * columns * rows for each in (left, right)]
            torch.testing.assert_close(*across)
            torch.testing.assert_close(*within)


@pytest.mark.usefixtures("_pairs")
@pytest.mark.parametrize("method", SHARING + OTHERS)
def test_shared_rows_are_predicted_as_gathered_ones_are(method: str) -> None:
    torch.manual_seed(0)
    learner: Learner = make_learner(TABLES[method], {"name": "tests.toy:Net"}).eval()
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    for kind in learner.laws.kinds:
        batch = drawn(kind)
        found = learner.predict_episodes(batch)
        assert ("values" in vars(batch.inputs)) == (method not in SHARING)  # who can share gathers nothing
        expected = learner.predict_episodes(gathered(batch))
        torch.testing.assert_close([numbers(p) for p in found], [numbers(p) for p in expected])
