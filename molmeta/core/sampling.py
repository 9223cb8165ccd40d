"""Samplers: how support and query rows are drawn from a task.

Each is a function of (labels, sizes, rng) and returns positions in the task: ``(support, query)``, disjoint.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from molmeta.core.task import ClassRows, IntArray
from molmeta.errors import SupportError

Draw = tuple[IntArray, IntArray]


def uniform(labels: NDArray[np.generic], n_support: int, n_query: int, rng: np.random.Generator) -> Draw:
    """Rows at random, whatever their labels: regression's sampler.

    Args:
        labels: ``[n]``.
        n_support: support rows.
        n_query: query rows at the most, 1 or more.
        rng: the generator that is drawn from.

    Raises:
        SupportError: no row would be left for the query.
    """
    _require_query(len(labels), n_support, n_query)
    order = rng.permutation(len(labels))
    return order[:n_support], order[n_support : n_support + n_query]


def stratified(labels: NDArray[np.generic], n_support: int, n_query: int, rng: np.random.Generator) -> Draw:
    """A support with the task's own class shares (each class at least once), the query from the remaining rows.

    Args and errors as for :func:`uniform`; ``labels`` are class indices. Also raised when a class has one row only
    or ``n_support`` is smaller than the number of classes.
    """
    _require_query(len(labels), n_support, n_query)
    classes, counts = _classes(labels)
    if counts.min() < 2 or n_support < len(classes):
        raise SupportError(
            f"a stratified support of {n_support} needs two rows of each class; the classes have {counts.tolist()} rows"
        )
    shares = counts * n_support / len(labels)
    sizes = np.minimum(np.maximum(np.floor(shares).astype(np.int64), 1), counts - 1)
    # The rows that rounding left over go to the largest remainders; ties and clipped classes fall to the next.
    while sizes.sum() != n_support:
        step = 1 if sizes.sum() < n_support else -1
        open_classes = (sizes < counts - 1) if step > 0 else (sizes > 1)
        gap = np.where(open_classes, step * (shares - sizes), -np.inf)
        if not np.isfinite(gap).any():
            raise SupportError(f"a stratified support of {n_support} does not fit classes of {counts.tolist()} rows")
        sizes[int(np.argmax(gap))] += step
    return _draw(labels, classes, sizes, n_query, rng)


def balanced(labels: NDArray[np.generic], n_support: int, n_query: int, rng: np.random.Generator) -> Draw:
    """A support with every class equally often (as nearly as ``n_support`` and the class sizes allow).

    Args and errors as for :func:`stratified`.
    """
    _require_query(len(labels), n_support, n_query)
    classes, counts = _classes(labels)
    if counts.min() < 2 or n_support < len(classes):
        raise SupportError(
            f"a balanced support of {n_support} needs two rows of each class; the classes have {counts.tolist()} rows"
        )
    sizes = np.ones(len(classes), dtype=np.int64)
    for _ in range(n_support - len(classes)):
        room = np.where(sizes < counts - 1, -sizes, -np.iinfo(np.int64).max)
        smallest = int(np.argmax(room))
        if sizes[smallest] >= counts[smallest] - 1:
            raise SupportError(f"a balanced support of {n_support} does not fit classes of {counts.tolist()} rows")
        sizes[smallest] += 1
    return _draw(labels, classes, sizes, n_query, rng)


def ways_and_shots(
    labels: NDArray[np.generic] | ClassRows, ways: int, shots: int, queries: int, rng: np.random.Generator
) -> tuple[IntArray, IntArray, IntArray]:
    """An N-way K-shot episode: ``ways`` classes, ``shots`` support and ``queries`` query rows of each.

    Args:
        labels: ``[n]`` class indices; or a task's ``class_rows``, for the same draw without reading all its labels.
        ways, shots, queries: the sizes; 0 shots leave the support empty, for methods that read descriptions.
        rng: the generator that is drawn from.

    Returns:
        ``(support [ways*shots], query [ways*queries], classes [ways])``: positions, and the drawn classes in the order
        in which the episode numbers them.

    Raises:
        SupportError: fewer than ``ways`` classes have ``shots + queries`` rows, or no class or query is asked for.
    """
    if min(ways, queries) < 1 or shots < 0:
        raise SupportError(f"ways and queries are 1 or more and shots 0 or more, not {ways}, {queries} and {shots}")
    rows = labels if isinstance(labels, ClassRows) else ClassRows(labels)
    fitting = np.flatnonzero(rows.counts >= shots + queries)
    if len(fitting) < ways:
        raise SupportError(f"{ways} ways asked for, but {len(fitting)} classes have {shots + queries} rows or more")
    chosen = rng.permutation(fitting)[:ways]
    drawn = [rng.permutation(rows[c])[: shots + queries] for c in chosen.tolist()]
    support = np.concatenate([d[:shots] for d in drawn])
    query = np.concatenate([d[shots:] for d in drawn])
    return support, query, chosen


def _draw(
    labels: NDArray[np.generic], classes: NDArray[np.generic], sizes: IntArray, n_query: int, rng: np.random.Generator
) -> Draw:
    order = rng.permutation(len(labels))
    drawn = labels[order]
    support = np.concatenate([order[np.flatnonzero(drawn == c)[:k]] for c, k in zip(classes, sizes, strict=True)])
    taken = np.zeros(len(labels), bool)
    taken[support] = True
    return rng.permutation(support), order[~taken[order]][:n_query]


def _classes(labels: NDArray[np.generic]) -> tuple[IntArray, IntArray]:
    """The classes that are there, and how many rows each has."""
    counts = np.bincount(labels.astype(np.int64, copy=False))
    classes = np.flatnonzero(counts)
    return classes, counts[classes]


def _require_query(n: int, n_support: int, n_query: int) -> None:
    if n < 2:
        raise SupportError(f"a task of {n} rows has no room for a support and a query; it needs 2 or more")
    if not 0 < n_support < n:
        raise SupportError(f"a support of {n_support} from {n} rows leaves no query; ask for 1 to {n - 1}")
    if n_query < 1:
        raise SupportError(f"a query of {n_query} rows is empty; ask for 1 or more")
