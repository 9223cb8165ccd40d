"""In-context learning (CAMP: Fifty et al., 2023, arXiv:2310.08863): a transformer reads molecules with their labels.

    s_i = E f(x_i) + e_seen + y_i e_label,   q = E f(x) + e_asked                      tokens
    a <- a + attention of LN(a) to LN(b),   a <- a + MLP(LN(a))                        a layer
    p(y = k | x) ~ exp(g_k(q))  sum over class k of softmax_i( T cos(q, s_i) )         after the last layer

A support token reads the support; a query reads the support and itself, so that no query sees another. There are no
positions, so the order of the support changes nothing. Labels are y = 1 for one class and -1 for the rest: the support
is read once a class, so that any number of classes is served and all are treated alike. A binary task is read once, y =
1 for the active class, so that g can learn what a query is before it is compared with any example; ``alone`` weighs a
second loss, that of queries which read nothing but themselves. With ``prior`` off, binary tasks are read as others are.

The read-out is a matching network's (Vinyals et al., 2016; in chemistry MHNfs: Schimunek et al., arXiv:2305.09481).
Every layer starts as the identity: before training the method is a matching network. Regression has y in units of the
support, the mean sum_i a_i y_i + g(q) and the variance of that mixture of Gaussians, with a deviation that q says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from molmeta.core.episode import EpisodeBatch, Layout
from molmeta.core.learner import Laws
from molmeta.core.task import TaskKind
from molmeta.errors import ConfigError
from molmeta.methods.episodic import EmbeddingLearner, Head, HeadOutput, PaddedEpisodes
from molmeta.methods.padded import unit_length


@dataclass(frozen=True, kw_only=True, slots=True)
class InContextConfig:
    width: int = 128  # of a token
    layers: int = 2
    heads: int = 4  # of attention, a layer
    temperature: float = 10.0  # T at the start
    prior: bool = True  # binary: tell active from inactive; off, the method is class-equivariant
    alone: float = 0.3  # binary with a prior: weight of the loss of queries that see no support

    def __post_init__(self) -> None:
        if min(self.width, self.heads) < 1 or self.layers < 0 or self.width % self.heads:
            raise ConfigError(
                "width is a positive multiple of heads and layers is 0 or more, not "
                f"{self.width}, {self.heads} and {self.layers}"
            )
        if not (self.temperature > 0 and self.alone >= 0):
            raise ConfigError(
                f"temperature is positive and alone is 0 or more, not {self.temperature} and {self.alone}"
            )


class Layer(nn.Module):
    """Attention and two linear layers, each beside the tokens: the identity at the start."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.ask, self.answer = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        with torch.no_grad():
            self.answer.weight[:width].copy_(self.ask.weight)  # tokens start by reading those like them
        for parameter in (*self.out.parameters(), *self.mlp[-1].parameters()):
            nn.init.zeros_(parameter)

    def forward(self, tokens: torch.Tensor, read: torch.Tensor, mask: torch.Tensor, itself: bool) -> torch.Tensor:
        """``tokens [b, m, w]`` after they have read ``read [b, n, w]``, and each itself, too, if ``itself``.

        ``mask [b, n]`` is True where there is something to read.
        """
        normed = self.norm(tokens)
        asked = self._split(self.ask(normed))  # [b, h, m, e]
        keys, values = self._answers(self.norm(read))
        scores = (asked @ keys.mT).masked_fill(~mask[:, None, None], -1e4)  # finite, should there be nothing to read
        if itself:
            own_keys, own_values = self._answers(normed)
            scores = torch.cat([scores, (asked * own_keys).sum(-1, keepdim=True)], dim=-1)
        attention = (scores / asked.shape[-1] ** 0.5).softmax(-1)
        found = attention[..., : read.shape[1]] @ values
        if itself:
            found = found + attention[..., -1:] * own_values
        tokens = tokens + self.out(found.transpose(1, 2).flatten(2))
        after: torch.Tensor = tokens + self.mlp(self.second_norm(tokens))
        return after

    def _answers(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = self.answer(tokens).chunk(2, dim=-1)
        return self._split(keys), self._split(values)

    def _split(self, tokens: torch.Tensor) -> torch.Tensor:
        each = tokens.shape[-1] // self.heads
        return tokens.view(*tokens.shape[:2], self.heads, each).transpose(1, 2)


class InContext(EmbeddingLearner):
    """A transformer over the support and each query; serves every kind."""

    Config = InContextConfig
    laws = Laws(kinds=frozenset(TaskKind))

    def __init__(self, backbone: nn.Module, config: InContextConfig | None = None) -> None:
        super().__init__(backbone)
        self.config = config or InContextConfig()
        self.laws = replace(self.laws, class_equivariant=not self.config.prior)
        width = self.config.width
        project = nn.Linear(self.backbone.width, width)
        nn.init.orthogonal_(project.weight)
        self.embed = nn.Sequential(nn.LayerNorm(self.backbone.width), project)
        self.marks = nn.Parameter(0.1 * torch.randn(4, width))  # asked, seen; a class's label, a value
        self.layers = nn.ModuleList(Layer(width, self.config.heads) for _ in range(self.config.layers))
        self.norm = nn.LayerNorm(width)
        self.says = nn.Linear(width, 3)  # g of a class, g of a value, log deviation
        nn.init.zeros_(self.says.weight)
        nn.init.zeros_(self.says.bias)
        self.log_temperature = nn.Parameter(torch.tensor(self.config.temperature).log())

    def head(self, episodes: PaddedEpisodes) -> HeadOutput:
        return self.conditioned(episodes)(episodes.query)

    def conditioned(self, episodes: PaddedEpisodes) -> Head:
        return partial(self._answer, episodes, self._read(episodes))

    def beforehand(self, episodes: PaddedEpisodes) -> tuple[Head, Head] | None:
        """What a query's token says that reads nothing but itself, on the classes' shares; and the shares alone."""
        if not self._has_prior(episodes.kind):
            return None
        shares = _log_counts(episodes)

        def share(query: torch.Tensor) -> HeadOutput:
            return HeadOutput(logits=shares.expand(-1, query.shape[1], -1))

        return self.conditioned(_unseen(episodes)), share

    def query_loss(
        self, episodes: PaddedEpisodes, batch: EpisodeBatch, layout: Layout
    ) -> tuple[torch.Tensor, dict[str, float]]:
        loss, logs = super().query_loss(episodes, batch, layout)
        if self._has_prior(episodes.kind) and self.config.alone:
            loss = loss + self.config.alone * super().query_loss(_unseen(episodes), batch, layout)[0]
        return loss, logs

    def _has_prior(self, kind: TaskKind) -> bool:
        return self.config.prior and kind is TaskKind.BINARY

    def _labels(self, episodes: PaddedEpisodes) -> torch.Tensor:
        """``[t, c, n]`` y, for each time that the support is read."""
        if not episodes.kind.is_classification:
            return episodes.targets.mT
        signs = 2 * episodes.targets.mT - 1
        return signs[:, 1:] if self._has_prior(episodes.kind) else signs

    def _read(self, episodes: PaddedEpisodes) -> list[torch.Tensor]:
        """The support's tokens ``[t * c, n, w]`` before each layer and after the last."""
        labels = self._labels(episodes)[:, :, : episodes.support.shape[1]]
        mark = self.marks[2 if episodes.kind.is_classification else 3]
        tokens = self.embed(episodes.support)[:, None] + self.marks[1] + labels[..., None] * mark
        states, mask = [tokens.flatten(0, 1)], _each(episodes.support_mask, labels.shape[1])
        if not mask.shape[1]:  # there is nothing to read
            return states * (len(self.layers) + 1)
        for layer in self.layers:
            states.append(layer(states[-1], states[-1], mask, itself=False))
        return states

    def _answer(self, episodes: PaddedEpisodes, states: list[torch.Tensor], query: torch.Tensor) -> HeadOutput:
        """What is said of ``query [t, m, d]``, the support having been read."""
        times = len(states[0]) // len(query)
        mask = _each(episodes.support_mask, times)
        tokens = _each(self.embed(query) + self.marks[0], times)
        for layer, read in zip(self.layers, states, strict=False):
            tokens = layer(tokens, read, mask, itself=True)
        cosine = unit_length(tokens) @ unit_length(states[-1]).mT
        scores = (self.log_temperature.exp() * cosine).masked_fill(~mask[:, None], -1e4)
        said = self.says(self.norm(tokens)).view(len(query), times, -1, 3)
        if episodes.kind.is_classification:
            return HeadOutput(logits=_logits(episodes, scores.view(*said.shape[:3], scores.shape[-1]), said[..., 0]))
        return _value(episodes.targets[..., 0], scores.softmax(-1), said[:, 0])


def _logits(episodes: PaddedEpisodes, scores: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
    """``[t, m, k]`` of ``scores [t, c, m, n]`` and g ``[t, c, m]``, where c is k, or 1 for a binary task."""
    if said.shape[1] != episodes.targets.shape[-1]:
        said = torch.cat([-said, said], dim=1) / 2
    if not scores.shape[-1]:  # no row was read: a class is as likely as it is frequent
        return said.mT + _log_counts(episodes)
    outside = (episodes.targets.mT == 0)[:, :, None]  # [t, k, 1, n]
    share = scores.masked_fill(outside, -1e4).logsumexp(-1) - scores.logsumexp(-1)
    return (share + said).mT


def _log_counts(episodes: PaddedEpisodes) -> torch.Tensor:
    """``[t, 1, k]``"""
    return episodes.class_counts().log().clamp(min=-1e4)[:, None]


def _value(values: torch.Tensor, attention: torch.Tensor, said: torch.Tensor) -> HeadOutput:
    """The mixture of Gaussians at ``values [t, n]`` under ``attention [t, m, n]``, moved by what a token says.

    Each Gaussian's deviation is e^-0.7 at the start.
    """
    mean = (attention @ values[..., None])[..., 0]
    spread = (attention * (values[:, None] - mean[..., None]).square()).sum(-1)
    return HeadOutput(mean=mean + said[..., 1], deviation=(spread + (2 * said[..., 2] - 1.4).exp()).sqrt())


def _each(rows: torch.Tensor, times: int) -> torch.Tensor:
    """``[t, ...]`` as ``[t * times, ...]``."""
    return rows.repeat_interleave(times, dim=0)


def _unseen(episodes: PaddedEpisodes) -> PaddedEpisodes:
    """The episodes with nothing to read: of the support, the classes' counts are left."""
    return replace(episodes, support=episodes.support[:, :0], support_mask=episodes.support_mask[:, :0])
