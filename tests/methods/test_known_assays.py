"""What is known beforehand, of molecules and of assays, in the process."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
import torch

from molmeta.core.episode import EpisodeBatch
from molmeta.core.learner import Encoding
from molmeta.core.shared import SharedEncoding, Table
from molmeta.core.task import TaskKind
from molmeta.domains.molecules.descriptions import hashed, rows_of
from molmeta.domains.molecules.featurise import featurise
from molmeta.domains.molecules.inputs import MoleculeBatch
from molmeta.errors import ConfigError
from molmeta.methods.known_assays import KnownAssays
from molmeta.recipe import make_learner
from tests.toy import episodes


def learner() -> KnownAssays:
    made = make_learner({"name": "known_assays"}, {"name": "profiles", "width": 3, "properties": 0.0})
    assert isinstance(made, KnownAssays)
    torch.nn.init.normal_(made.prior.weight)
    return made.double().eval()


def batch(seed: int = 0, kind: TaskKind = TaskKind.BINARY) -> EpisodeBatch:
    drawn = episodes(kind, [(6, 5, 2 if kind.is_classification else 0), (4, 3, 2 if kind.is_classification else 0)])
    rng = torch.Generator().manual_seed(seed)
    views = [torch.nn.functional.normalize(torch.randn(18, d, generator=rng).double(), dim=1) for d in (2, 3, 2048)]
    tower = torch.randn(18, 4, generator=rng).double()
    return drawn.with_inputs(Encoding(torch.cat([*views, tower], dim=1)))


def test_one_predictor_says_what_the_batch_says_and_goes_through_pickle() -> None:
    model, drawn = learner(), batch()
    for (support, query), said in zip(drawn.episodes(), model.predict_episodes(drawn), strict=True):
        predictor = pickle.loads(pickle.dumps(model.adapt(support)))
        torch.testing.assert_close(predictor.predict(query.inputs).probabilities, said.probabilities)


def test_it_knows_the_molecules_of_which_something_was_measured() -> None:
    model, drawn = learner(), batch()
    drawn.inputs.values[[2, 5, 7], 2:5] = 0  # the profile: of assays that stand alone it is 0
    drawn.inputs.values[[2, 5, 9], :2] = torch.tensor([0.0, 1.0]).double()  # the rate, as often active as not
    assert (~model.knows(drawn.inputs)).nonzero().flatten().tolist() == [2, 5]


def described(*structures: str) -> KnownAssays:
    """With towers of width 3 whose weights are drawn at random."""
    named = {"name": "profiles", "width": 3, "described": 3, "properties": 0.0}
    backbone = {**named, "structures": ["morgan", *structures]}
    made = make_learner({"name": "known_assays"}, backbone)
    assert isinstance(made, KnownAssays)
    some = torch.Generator().manual_seed(0)
    for name, buffer in made.towers.named_buffers():
        buffer.copy_(torch.rand(buffer.shape, generator=some) if name == "rarity" else buffer.normal_(generator=some))
    made.trust.data.fill_(0.5)
    return made.double().eval()


def told(drawn: EpisodeBatch, *descriptions: dict[str, str]) -> EpisodeBatch:
    return replace(drawn, task_inputs=torch.cat([rows_of(said, 2) for said in descriptions]))


KINASE, PROTEASE = {"target": "kinase"}, {"target": "protease"}


def test_a_description_adds_the_towers_logit_to_the_prior_mean() -> None:
    model, drawn = described(), told(batch(), KINASE, PROTEASE)
    episodes = model.pad(drawn, drawn.inputs.values)[0]
    layout = drawn.layout()
    for rows, found in ((layout.query, model.query_prior(episodes)), (layout.support, model.support_prior(episodes))):
        assert isinstance(found, torch.Tensor)
        for t, said in enumerate((KINASE, PROTEASE)):
            row = drawn.inputs.values[rows[t, 0]]
            u, v = row[-4:], model.towers.assays(hashed(said)[None].double())[0]
            expected = model.prior(row[:2]) + 0.5 * (u @ v)
            torch.testing.assert_close(found[t, 0], expected * torch.tensor([-1.0, 1.0]))


def test_what_the_tower_says_of_molecules_comes_with_them_whatever_else_is_compared() -> None:
    molecules = MoleculeBatch.of(featurise(["CCO", "c1ccccc1N", "CC(=O)O"]).arrays)
    for model in (described(), described("elements", "torsions")):
        said = model.towers.molecules(molecules)
        torch.testing.assert_close(model._tower(model.encode(molecules).values).to(said), said)


def test_each_episode_is_predicted_by_its_own_description_shared_rows_or_not() -> None:
    model, drawn = described(), told(batch(), KINASE, PROTEASE)
    said = [each.probabilities for each in model.predict_episodes(drawn)]
    for (support, query), each in zip(drawn.episodes(), said, strict=True):
        torch.testing.assert_close(model.adapt(support).predict(query.inputs).probabilities, each)
    rows = drawn.inputs.values
    table = SharedEncoding(Table(rows, torch.nonzero(drawn.is_support).flatten()), torch.arange(len(rows)))
    for shared, each in zip(model.predict_episodes(drawn.with_inputs(table)), said, strict=True):
        torch.testing.assert_close(shared.probabilities, each)
    for other, each in zip(model.predict_episodes(told(drawn, PROTEASE, KINASE)), said, strict=True):
        assert other.probabilities is not None
        assert not torch.allclose(other.probabilities, each)


def test_no_description_is_an_empty_one_and_does_not_stop_anything() -> None:
    model, drawn = described(), batch()
    for one, other in zip(model.predict_episodes(drawn), model.predict_episodes(told(drawn, {}, {})), strict=True):
        torch.testing.assert_close(one.probabilities, other.probabilities)


def test_without_a_support_description_and_rate_are_all_there_is() -> None:
    model, drawn = described(), told(batch(), KINASE, PROTEASE)
    ((support, query), _) = drawn.episodes()
    nothing = replace(support, inputs=support.inputs[torch.arange(0)], labels=support.labels[:0])
    predictor = model.adapt(nothing)
    before = predictor.beforehand(query.inputs)
    assert before is not None
    torch.testing.assert_close(predictor.predict(query.inputs).probabilities, before.informed.probabilities)
    torch.testing.assert_close(before.uninformed.probabilities, torch.full((5, 2), 0.5).double())


def test_without_words_it_is_a_process_on_three_views() -> None:
    model, drawn = learner(), batch()
    plain = make_learner({"name": "gp"}, {"name": "profiles", "width": 3, "properties": 0.0}).double()
    plain.load_state_dict(model.state_dict())
    for one, other in zip(model.predict_episodes(drawn), plain.predict_episodes(drawn), strict=True):
        torch.testing.assert_close(one.probabilities, other.probabilities)


def test_a_backbone_that_knows_no_assays_is_refused() -> None:
    with pytest.raises(ConfigError, match='choose the backbone "profiles"'):
        make_learner({"name": "known_assays"}, {"name": "counts"})


def test_without_a_support_a_molecule_that_was_never_measured_is_as_likely_active_as_not() -> None:
    model, drawn = learner(), batch()
    model.prior.bias.data.fill_(-3.0)
    drawn.inputs.values[:, :2] = torch.tensor([0.0, 1.0])
    ((support, query), _) = drawn.episodes()
    nothing = replace(support, inputs=support.inputs[torch.arange(0)], labels=support.labels[:0])
    torch.testing.assert_close(
        model.adapt(nothing).predict(query.inputs).probabilities, torch.full((5, 2), 0.5).double()
    )
