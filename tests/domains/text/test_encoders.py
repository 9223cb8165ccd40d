"""The text encoders, against plain formulas, the packaged model itself, and a task that they must learn."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.func import functional_call

from molmeta.core.episode import Episode, collate
from molmeta.core.learner import Learner
from molmeta.core.task import Split, TaskKind
from molmeta.domains.text import static_vectors
from molmeta.domains.text.bag import TextBag, TextBagConfig
from molmeta.domains.text.hashing import gram_ids, word_ids
from molmeta.domains.text.inputs import TextBatch
from molmeta.domains.text.intents import Clinc150, Hwu64
from molmeta.domains.text.sources import TextSource
from molmeta.domains.text.static_vectors import WordLlama, WordLlamaConfig
from molmeta.domains.text.tables import LabelledTexts
from molmeta.errors import ConfigError
from molmeta.recipe import make_learner
from molmeta.training.batches import EpisodeConfig, MetaBatches

TEXTS = ["book a flight to rome", "", "what's my balance?", "Où est ma carte", "a"]
BATCH = TextBatch.of(TEXTS)
BACKBONES: tuple[Mapping[str, Any], ...] = (
    {"name": "text_bag", "buckets": 4096, "embedding": 64},
    {"name": "wordllama", "hidden": 32},
    {"name": "wordllama", "hidden": 0},
)


def test_the_bag_is_each_kinds_weighted_sum_of_embeddings_of_length_one() -> None:
    torch.manual_seed(0)
    bag = TextBag(TextBagConfig(buckets=500, embedding=8, grams=(2, 4))).eval()
    with torch.no_grad():
        bag.log_weights.normal_()
    for i, text in enumerate(TEXTS):
        alone = TextBatch.of([text])
        kinds = [word_ids(alone, 500)[0], gram_ids(alone, 2, 500)[0], gram_ids(alone, 4, 500)[0]]
        sums = [torch.zeros(8) + sum(bag.table[t] * bag.log_weights[t].exp() for t in ids) for ids in kinds]
        expected = torch.cat([s / s.norm() if s.any() else s for s in sums])
        torch.testing.assert_close(bag(BATCH)[i], expected, rtol=1e-4, atol=1e-5)


def test_the_bag_has_right_first_and_second_derivatives() -> None:
    torch.manual_seed(0)
    bag = TextBag(TextBagConfig(buckets=5, embedding=2, grams=(2,))).double().eval()
    names, values = zip(*bag.named_parameters(), strict=True)

    def embed(*moved: torch.Tensor) -> torch.Tensor:
        return functional_call(bag, dict(zip(names, moved, strict=True)), (TextBatch.of(["ab ab", "c"]),))

    assert torch.autograd.gradcheck(embed, values)
    assert torch.autograd.gradgradcheck(embed, values)


def test_texts_that_share_words_are_near_before_any_training() -> None:
    torch.manual_seed(0)
    texts = TextBatch.of(["please book the flight", "book a flight", "what is my balance"])
    found = TextBag().eval()(texts)
    near, far = (found[1:] @ found[0] / 3).tolist()
    assert near > far + 0.2


def test_tokens_are_left_out_in_training_alone() -> None:
    torch.manual_seed(0)
    for backbone in (TextBag(), WordLlama(WordLlamaConfig(token_dropout=0.5))):
        with torch.no_grad():
            assert not torch.equal(backbone.train()(BATCH), backbone(BATCH))
            torch.testing.assert_close(backbone.eval()(BATCH), backbone(BATCH), rtol=0, atol=0)


def test_a_short_text_keeps_its_tokens_where_all_would_be_left_out() -> None:
    torch.manual_seed(0)
    backbone = WordLlama(WordLlamaConfig(token_dropout=0.99, dropout=0.0)).train()
    found = backbone(TextBatch.of(["play music"] * 50))
    assert (found.norm(dim=1) > 0.99).all()


def test_the_frozen_vectors_are_those_of_the_packages_own_model() -> None:
    level = logging.getLogger().level
    frozen = WordLlama(WordLlamaConfig(projection=False))
    assert logging.getLogger().level == level
    assert not list(frozen.parameters())
    wordllama = pytest.importorskip("wordllama")
    folder = Path(wordllama.__file__).parent
    model = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)
    written = [text for text in TEXTS if text]
    expected = model.embed(written, norm=True)
    np.testing.assert_allclose(frozen(TextBatch.of(written)).numpy(), expected, rtol=1e-4, atol=1e-6)
    assert frozen(BATCH)[1].abs().sum() == 0


@pytest.mark.parametrize("hidden", [0, 64])
def test_a_projection_starts_from_the_frozen_vectors_and_saves_nothing_of_them(hidden: int) -> None:
    projected = WordLlama(WordLlamaConfig(hidden=hidden)).eval()
    torch.testing.assert_close(projected(BATCH), WordLlama(WordLlamaConfig(projection=False))(BATCH))
    assert sum(tensor.numel() for tensor in projected.state_dict().values()) < 2 * 256 * 257 + 32_001
    assert all(p.requires_grad for p in projected.parameters())


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    static_vectors.packaged.cache_clear()
    monkeypatch.setattr(static_vectors, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'pip install "molmeta\[text\]"'):
        WordLlama()
    empty = ModuleSpec("wordllama", None, origin=str(tmp_path / "__init__.py"))
    real = importlib.util.find_spec
    monkeypatch.setattr(static_vectors, "find_spec", lambda name: empty if name == "wordllama" else real(name))
    with pytest.raises(ConfigError, match="has no weights/l2_supercat_256"):
        WordLlama()


def pets_and_pay(classes: int = 8, texts: int = 24) -> TextSource:
    """Classes told by one made-up keyword each, somewhere among words that all classes share."""
    rng = np.random.default_rng(0)
    table = LabelledTexts([], [], [])
    groups: dict[Split, dict[str, list[str]]] = {Split.TRAIN: {"train": []}, Split.TEST: {"test": []}}
    for i in range(2 * classes):
        name, split = f"keyword{i}x", Split.TRAIN if i < classes else Split.TEST
        groups[split][str(split)].append(name)
        for _ in range(texts):
            words = rng.permutation(["please", "can", "you", "the", "now", "tell", "me", "it"])[:5]
            table.texts.append(" ".join([*words[:2], name, *words[2:]]))
            table.labels.append(name)
    return TextSource(table, groups, ways=5, queries=5)


def accuracy(learner: Learner, source: TextSource, shots: int, episodes: int = 40) -> float:
    (task,) = source.tasks(Split.TEST, TaskKind.MULTICLASS)
    drawn = [Episode(task, *source.draw(task, shots, seed)) for seed in range(episodes)]
    with torch.no_grad():
        found = learner.eval().predict_episodes(collate(source, drawn))
    right = [p.probabilities.argmax(1).numpy() == e.labels(e.query) for p, e in zip(found, drawn, strict=True)]
    return float(np.mean(right))


@pytest.mark.parametrize("backbone", BACKBONES, ids=str)
def test_an_encoder_learns_to_tell_classes_that_it_never_saw(backbone: Mapping[str, Any]) -> None:
    torch.manual_seed(0)
    source = pets_and_pay()
    learner = make_learner({"name": "protonet", "distance": "cosine"}, backbone)
    batches = MetaBatches(
        source, EpisodeConfig(sampler="ways_and_shots", support_sizes=(1,), query_size=5), tasks_per_step=4
    )
    before = accuracy(learner, source, shots=1)
    optimizer = torch.optim.Adam(learner.parameters(), lr=1e-2)
    for step in range(40):
        learner.train()
        optimizer.zero_grad()
        learner.meta_backward(batches(step))
        optimizer.step()
    after = accuracy(learner, source, shots=1)
    assert after > before + 0.1
    assert after > 0.6


@pytest.mark.data
@pytest.mark.parametrize(("source", "one", "five"), [(Clinc150, 88, 97), (Hwu64, 77, 90)])
def test_frozen_vectors_and_the_nearest_centroid_reach_the_reference(
    source: type[TextSource], one: float, five: float
) -> None:
    made = source()  # type: ignore[call-arg]
    learner = make_learner({"name": "protonet"}, {"name": "wordllama", "projection": False})
    for shots, reference in ((1, one), (5, five)):
        assert 100 * accuracy(learner, made, shots, episodes=150) == pytest.approx(reference, abs=3)
