"""Featurising a stream on several processes, in order, with few chunks in flight so that memory stays flat.

This module needs RDKit and numpy alone, so that workers start fast.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import chain, islice
from multiprocessing import get_context, parent_process
from typing import TypeVar

import numpy as np

from molmeta.domains.molecules.featurise import Featurised, featurise

T = TypeVar("T")
_INLINE_CHUNKS = 2  # starting workers costs about a second: a shorter stream is featurised here


def featurise_stream(
    chunks: Iterable[T],
    smiles_of: Callable[[T], Sequence[str]],
    workers: int | None = None,
    canonical: bool = True,
    graphs: bool = True,
) -> Iterator[tuple[T, Featurised]]:
    """Each chunk with its molecules featurised, in order.

    Args:
        chunks: anything that holds SMILES, a few thousand at a time; read only a little ahead.
        smiles_of: the SMILES of a chunk.
        workers: processes; None takes every core for a stream of more than two chunks.
        canonical, graphs: as for :func:`featurise`.
    """
    stream = iter(chunks)
    first = list(islice(stream, _INLINE_CHUNKS + 1))
    if workers is None:
        workers = (os.cpu_count() or 1) if len(first) > _INLINE_CHUNKS else 1
    every = chain(first, stream)
    if workers <= 1:
        for chunk in every:
            yield chunk, featurise_distinct(smiles_of(chunk), canonical, graphs)
        return
    # Spawned, not forked: torch's threads do not survive a fork.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=start_worker)
    try:
        pending: deque[tuple[T, Future[Featurised]]] = deque()
        for chunk in every:
            pending.append((chunk, pool.submit(featurise_distinct, smiles_of(chunk), canonical, graphs)))
            if len(pending) > workers + 1:
                yield _result(pending.popleft())
        while pending:
            yield _result(pending.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def featurise_distinct(smiles: Sequence[str], canonical: bool = True, graphs: bool = True) -> Featurised:
    """As :func:`featurise`, each distinct SMILES once."""
    first = {text: i for i, text in enumerate(dict.fromkeys(smiles))}
    done = featurise(list(first), canonical, graphs)
    if len(first) == len(smiles):
        return done
    place = np.array([first[text] for text in smiles], np.int64)
    valid = done.valid[place]
    row = np.cumsum(done.valid) - 1
    return Featurised(
        done.arrays.take(row[place[valid]]),
        valid,
        [done.reasons[i] for i in place],
        [done.flags[i] for i in place],
        [done.canonical[i] for i in place],
    )


def _result(submitted: tuple[T, Future[Featurised]]) -> tuple[T, Featurised]:
    return submitted[0], submitted[1].result()


def start_worker() -> None:
    """Leave Ctrl-C to the parent, and end when the parent is gone, even when it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
