"""A result at another share of actives: part of each query, and probabilities that are told the share.

What was predicted of a query row depends on the support alone (unless a method is transductive), so that nothing is
predicted again, and every method is scored on the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from molmeta.core.prior import at_prior
from molmeta.core.random import keyed_rng
from molmeta.core.task import FloatArray, Task, TaskKind
from molmeta.errors import ConfigError, InputError, SupportError
from molmeta.evaluation.fewshot import Refusal, TaskResult
from molmeta.evaluation.metrics import are_probabilities
from molmeta.evaluation.results import Parts, Result
from molmeta.evaluation.scores import DrawResult, TaskRecord
from molmeta.scoring.claim import check_free, claim
from molmeta.scoring.run import complete


@dataclass(frozen=True, kw_only=True)
class Shares:
    """What a result is scored at.

    Attributes:
        query_share: of actives in the query, of which as many rows are kept as have it; None: the whole query.
        prior: the share of actives that probabilities are told; None: they are as they were.

    Raises:
        ConfigError: neither is given, or one does not lie between 0 and 1.
    """

    query_share: float | None = None
    prior: float | None = None

    def __post_init__(self) -> None:
        given = [share for share in (self.query_share, self.prior) if share is not None]
        if not given or not all(0 < share < 1 for share in given):
            raise ConfigError(
                "give --query-share, --prior or both: shares of actives between 0 and 1 (0.01 is 1 %), not "
                f"{self.query_share} and {self.prior}"
            )


def rescore(
    result: Result, out: Path, shares: Shares, *, name: str | None = None, command: str = "", force: bool = False
) -> Result:
    """Score a result of two classes again, as a result folder of its own.

    Args:
        result: a result folder that was read.
        out: the folder of the new one.
        shares: which share of actives is asked about, and told.
        name: of the method in tables; None: as it was.
        command: how this was called, for the result's header.
        force: overwrite ``out``.

    Raises:
        InputError: the result has no predictions, not of two classes, or no probabilities to tell a prior; or ``out``
            holds something else.
    """
    _check(result, out, shares)
    asked = {**result.header["protocol"], "query_share": shares.query_share, "prior": shares.prior}
    header = {**result.header, "method": name or result.method, "protocol": asked, "command": command}
    check_free(out, header, force)
    claim(out, header, True)
    for record in result.tasks.values():
        Parts(out).write(_at_shares(result, record, shares))
    return complete(out, header["method"], list(result.tasks.values()), result.header["overlap"])


def _check(result: Result, out: Path, shares: Shares) -> None:
    if result.folder is None:
        raise InputError(f"the scores of {result.method} are a table: name the result folder, which has predictions")
    if result.kind is not TaskKind.BINARY:
        raise InputError(f"{result.folder} is of {result.kind} tasks: a share of actives has no meaning there")
    if out.resolve() == result.folder.resolve():
        raise InputError(f"{out} is the result itself: name another folder with --out")
    said = (draw.predicted for task in result.tasks for draw in result.draws(task))
    if shares.prior is not None and not all(map(are_probabilities, said)):
        raise InputError(f"{result.folder} has scores that are no probabilities: leave --prior out")


def _at_shares(result: Result, record: TaskRecord, shares: Shares) -> TaskResult:
    assert result.folder is not None
    draws, refused, encode_seconds = Parts(result.folder).read(record.name)
    task = Task(record.name, np.arange(len(record)), record.labels.astype(np.int64), record.kind, 2)
    return TaskResult(task, list(_kept(record, draws, shares, refused)), refused, encode_seconds)


def _kept(record: TaskRecord, draws: list[DrawResult], shares: Shares, refused: list[Refusal]) -> Iterator[DrawResult]:
    """The draws at the shares; those whose query cannot have the share join the ``refused``."""
    for draw in draws:
        try:
            kept = draw if shares.query_share is None else thinned(record, draw, shares.query_share)
        except SupportError as error:
            refused.append(Refusal(draw.support_size, draw.seed, str(error)))
        else:
            yield kept if shares.prior is None else told(record, kept, shares.prior)


def thinned(record: TaskRecord, draw: DrawResult, share: float) -> DrawResult:
    """The largest part of a draw's query with this share of actives, at random; the same for every method.

    Raises:
        SupportError: the query is too small for one active and one inactive.
    """
    is_active = record.labels[draw.query] == 1
    actives, inactives = int(is_active.sum()), int((~is_active).sum())
    wanted = int(min(actives, inactives * share / (1 - share) + 1e-9))
    others = min(inactives, round(wanted * (1 - share) / share))
    if wanted < 1 or others < 1:
        raise SupportError(
            f"task {record.name} has {actives} actives and {inactives} inactives left to ask: too few for a query of "
            f"{share:.3g} actives"
        )
    rng = keyed_rng(draw.seed, f"query share {record.name}", draw.support_size)
    drawn = [rng.permutation(np.flatnonzero(side))[:n] for side, n in ((is_active, wanted), (~is_active, others))]
    kept = np.sort(np.concatenate(drawn))
    return replace(draw, query=draw.query[kept], predicted=draw.predicted[kept])


def told(record: TaskRecord, draw: DrawResult, prior: float) -> DrawResult:
    """A draw whose probabilities know the share of actives in the query, as ``predict`` does with ``--prior``."""
    share = float(record.labels[draw.support].mean())
    both: FloatArray = np.stack([1 - draw.predicted, draw.predicted], axis=1)
    shifted = at_prior(both, np.array([1 - share, share]), np.array([1 - prior, prior]))
    return replace(draw, predicted=shifted[:, 1])
