"""The table of floors and peers: a fixture that measures a row of it, and the table at the end of the run.

A row's functions run in turn, so that what slows the machine slows all of them; a time is the processor time of this
process, median of the repeats.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

Work = Callable[[], Any]
ROWS = pytest.StashKey[list[str]]()
HEAD = "| work | floor | molmeta | peer | molmeta / floor | peer / molmeta | command |\n" + "| --- " * 7 + "|"


class Row:
    """``row(work, floor=..., molmeta=..., peer=...)`` measures and keeps a row of the table."""

    def __init__(self, request: pytest.FixtureRequest, benchmark: Any) -> None:
        self.rows = request.config.stash.setdefault(ROWS, [])
        self.command = f"pytest {request.node.nodeid.partition('[')[0]}"
        self.benchmark = benchmark

    def __call__(self, work: str, floor: Work, molmeta: Work, peer: Work, per: int = 1, repeats: int = 9) -> None:
        """``per``: how many molecules (or the like) one call does: the times are those of one."""
        runs: Mapping[str, Work] = {"floor": floor, "molmeta": molmeta, "peer": peer}
        took: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(1 if self.benchmark.disabled else repeats + 1):
            for name, run in runs.items():
                took[name].append(_seconds(run) / per)
        # The first round warms caches and lazy imports.
        self.keep(work, {name: statistics.median(times[1:] or times) for name, times in took.items()})
        self.benchmark.pedantic(molmeta, rounds=1)

    def keep(self, work: str, seconds: Mapping[str, float]) -> None:
        """A row whose times are known."""
        floor, ours, peer = (seconds[name] for name in ("floor", "molmeta", "peer"))
        cells = [work, _text(floor), _text(ours), _text(peer), f"{ours / floor:.2f}", f"{peer / ours:.1f}"]
        self.benchmark.extra_info.update(floor=floor, molmeta=ours, peer=peer)
        self.rows.append(f"| {' | '.join(cells)} | `{self.command}` |")


@pytest.fixture
def row(request: pytest.FixtureRequest, benchmark: Any) -> Row:
    return Row(request, benchmark)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if rows := config.stash.get(ROWS, None):
        terminalreporter.write_line("\n".join(["", HEAD, *rows]))


def _seconds(run: Work) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def _text(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"
