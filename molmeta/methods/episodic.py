"""What the methods share that work on embeddings alone: encode once, then a closed-form head an episode.

A method is its ``head``: from padded episodes of embeddings to logits, or to a mean and a deviation.
"""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch.nn import functional as F

from molmeta.core.backbone import Backbone
from molmeta.core.episode import EpisodeBatch, LabelledSet, Layout
from molmeta.core.learner import Beforehand, Encoding, Learner, Prediction, check_batch, check_support, inference
from molmeta.core.shared import SharedEncoding
from molmeta.core.task import Inputs
from molmeta.methods.padded import PaddedEpisodes, pad, share

__all__ = ["EmbeddingLearner", "EmbeddingPredictor", "Head", "HeadOutput", "PaddedEpisodes"]


@dataclass(frozen=True, eq=False)
class HeadOutput:
    """What a head says of padded queries.

    Attributes:
        logits: ``[t, m, k]`` for classification; classes that an episode lacks are masked by the caller.
        mean, deviation: ``[t, m]`` for regression, in units of the support; deviation is None where a method has none.
        tails: degrees of freedom of the Student law of this mean and deviation; None: a normal law.
    """

    logits: torch.Tensor | None = None
    mean: torch.Tensor | None = None
    deviation: torch.Tensor | None = None
    tails: torch.Tensor | None = None


Head = Callable[[torch.Tensor], HeadOutput]  # queries [t, m, d] -> what is said of them


class EmbeddingLearner(Learner):
    """A learner whose head needs embeddings alone, so that one backbone pass serves a whole meta-batch."""

    @abstractmethod
    def head(self, episodes: PaddedEpisodes) -> HeadOutput:
        """Predict every query row of every episode from its support."""

    def meta_loss(self, batch: EpisodeBatch) -> tuple[torch.Tensor, dict[str, float]]:
        """Mean over episodes of the mean query loss: cross-entropy, or the negative log-likelihood."""
        check_batch(batch, self.laws)
        encoded = self.encode(batch.inputs).values
        # Mixed precision is for the backbone: heads need the digits (a Cholesky factor has no half-precision form).
        with torch.autocast(encoded.device.type, enabled=False):
            episodes, layout = self.pad(batch, encoded.float() if encoded.dtype is torch.bfloat16 else encoded)
            return self.query_loss(episodes, batch, layout)

    def query_loss(
        self, episodes: PaddedEpisodes, batch: EpisodeBatch, layout: Layout
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss of ``batch``'s queries, as padded ``episodes`` in its ``layout``, and numbers to log."""
        output = self.head(episodes)
        mask = layout.query_mask
        if batch.kind.is_classification:
            logits = _masked_logits(output, batch.num_classes)
            # Padding gets class 0, which every episode has: an absent class's loss is infinite, even when masked.
            labels = batch.labels[layout.query] * mask
            loss = self.class_loss(logits, labels)
            correct = (logits.argmax(-1) == labels) & mask
            logs = {"accuracy": float(correct.sum() / mask.sum())}
        else:
            assert output.mean is not None
            assert output.deviation is not None
            error = (output.mean - batch.scaled_labels()[layout.query]) / output.deviation
            loss = output.deviation.log() + _surprise(error, output.tails)
            logs = {}
        per_episode = (loss * mask).sum(1) / mask.sum(1)
        return per_episode.mean(), logs

    def class_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """``[t, m]`` loss of each query: the cross-entropy. Logits ``[t, m, k]`` of absent classes are -inf."""
        return F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")

    def pad(self, batch: EpisodeBatch, encoded: torch.Tensor) -> tuple[PaddedEpisodes, Layout]:
        """The episodes of a batch, whose rows are encoded ``[n, d]``, as rectangles."""
        return pad(batch, encoded)

    def adapt(self, support: LabelledSet) -> EmbeddingPredictor:
        check_support(support, self.laws)
        with inference(self):
            encoded = self.encode(support.inputs).values if len(support) else self._nothing()
            # The predictor has a head of its own; backbones alone are shared.
            frozen = copy.deepcopy(self, {id(part): part for part in self.modules() if isinstance(part, Backbone)})
            return EmbeddingPredictor(frozen, encoded, support)

    def _nothing(self) -> torch.Tensor:
        """The embeddings of an empty support: a backbone need not take 0 rows."""
        return next(self.parameters()).new_zeros(0, self.backbone.width)

    def conditioned(self, episodes: PaddedEpisodes) -> Head:
        """The head once it has seen its support: override it where that is the costly part."""
        return partial(self._head_of, episodes)

    def beforehand(self, episodes: PaddedEpisodes) -> tuple[Head, Head] | None:
        """Two heads that compare queries with no support row: with a learned prior, and without it. None: no prior."""
        return None

    def _head_of(self, episodes: PaddedEpisodes, query: torch.Tensor) -> HeadOutput:
        return self.head(replace(episodes, query=query))

    def predict_episodes(self, batch: EpisodeBatch) -> list[Prediction]:
        check_batch(batch, self.laws)
        with inference(self):
            episodes, layout = self._padded(batch)
            return _predictions(self.head(episodes), batch, layout.query_mask.sum(1).tolist())

    def _padded(self, batch: EpisodeBatch) -> tuple[PaddedEpisodes, Layout]:
        encoded = self.encode(batch.inputs)
        if self.laws.shares_rows and isinstance(encoded, SharedEncoding):
            return share(batch, encoded)
        return self.pad(batch, encoded.values)


class EmbeddingPredictor:
    """An embedding method specialised to one task: it has read the support's embeddings once.

    Raw inputs are encoded by the learner's backbone as it stands when ``predict`` is called; encodings need no
    backbone. That sharing is what lets many assays score one library while each molecule is encoded once.
    """

    def __init__(self, learner: EmbeddingLearner, encoded: torch.Tensor, support: LabelledSet) -> None:
        labels, kind = support.labels, support.kind
        values = labels.double() if not kind.is_classification else torch.zeros(1, device=labels.device)
        spread = values.std(correction=0) * (values.max() > values.min())
        self._learner = learner
        self._batch = EpisodeBatch(
            inputs=Encoding(encoded),
            labels=labels,
            episode=torch.zeros_like(labels, dtype=torch.int64),
            is_support=torch.ones_like(labels, dtype=torch.bool),
            num_classes=torch.tensor([support.num_classes], device=labels.device),
            kind=kind,
            target_loc=values.mean().float().reshape(1),
            target_scale=torch.where(spread > 0, spread, 1.0).float().reshape(1),
            task_inputs=support.task_inputs,
        )
        self._episodes = learner.pad(self._batch, encoded)[0]
        self._head = learner.conditioned(self._episodes)

    def predict(self, inputs: Inputs) -> Prediction:
        """Predict ``m`` rows of raw inputs or their Encoding."""
        return self._asked(self._head, inputs)

    def beforehand(self, inputs: Inputs) -> Beforehand | None:
        """What is said of ``m`` rows before the support is looked at; None where the method has no prior."""
        heads = self._learner.beforehand(self._episodes)
        return None if heads is None else Beforehand(*(self._asked(head, inputs) for head in heads))

    def _asked(self, head: Head, inputs: Inputs) -> Prediction:
        with inference(self._learner):
            query = self._learner.encode(inputs).values
            return _predictions(head(query[None]), self._batch, [len(query)])[0]


def _predictions(output: HeadOutput, batch: EpisodeBatch, counts: list[int]) -> list[Prediction]:
    """A prediction an episode, of its first ``counts`` queries, in the labels' unit."""
    if batch.kind.is_classification:
        probabilities = _masked_logits(output, batch.num_classes).softmax(-1)
        return [
            Prediction(probabilities=p[:m, :k])
            for p, m, k in zip(probabilities, counts, batch.num_classes.tolist(), strict=True)
        ]
    assert output.mean is not None
    mean = output.mean * batch.target_scale[:, None] + batch.target_loc[:, None]
    if output.deviation is None:
        return [Prediction(mean=a[:m]) for a, m in zip(mean, counts, strict=True)]
    deviation = output.deviation * batch.target_scale[:, None]
    tails = math.inf if output.tails is None else float(output.tails)
    return [
        Prediction(mean=a[:m], deviation=s[:m], tails=tails) for a, s, m in zip(mean, deviation, counts, strict=True)
    ]


def _surprise(error: torch.Tensor, tails: torch.Tensor | None) -> torch.Tensor:
    """Minus the log density of errors in deviations: normal, or Student's of variance 1; up to a constant."""
    if tails is None:
        return error.square() / 2
    constant = torch.lgamma(tails / 2) - torch.lgamma((tails + 1) / 2) + (tails - 2).log() / 2
    return constant + (tails + 1) / 2 * (error.square() / (tails - 2)).log1p()


def _masked_logits(output: HeadOutput, num_classes: torch.Tensor) -> torch.Tensor:
    assert output.logits is not None
    absent = torch.arange(output.logits.shape[-1], device=num_classes.device) >= num_classes[:, None]
    return output.logits.masked_fill(absent[:, None], -torch.inf)
