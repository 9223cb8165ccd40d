"""What a person sees on stderr: sentences and progress bars. Data go to files or stdout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from molmeta.training.trainer import Progress as TrainingProgress

console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
_LINES = 20  # of a whole run, where stderr is not a terminal


def say(sentence: str) -> None:
    """Print one sentence on stderr."""
    console.print(sentence)


@contextmanager
def counting(what: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """A bar that counts ``what``; yields ``advance``, called with how many were done, or with anything for one.

    Args:
        what: a plural noun.
        total: how many there are; None where it is not known.
    """
    with _bar("{task.fields[note]}") as bar:
        task = bar.add_task(what, total=total, note="")

        def advance(done: object = 1) -> None:
            bar.advance(task, done if isinstance(done, int) else 1)

        yield advance


@contextmanager
def evaluating() -> Iterator[Callable[[int, int], None]]:
    """A bar over the assays of an evaluation; a few lines where stderr is not a terminal."""
    with _bar("") as bar:
        task = bar.add_task("assays", total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)
            if not console.is_terminal and (done % -(-total // _LINES) == 0 or done == total):
                console.print(f"{done:,} of {total:,} assays")

        yield show


@contextmanager
def training_progress() -> Iterator[Callable[[TrainingProgress], None]]:
    """A bar over the steps of a run, with its loss and best score; a few lines where stderr is not a terminal."""
    with _bar("{task.fields[note]}") as bar:
        task = bar.add_task("steps", total=None, note="")

        def show(progress: TrainingProgress) -> None:
            best = "" if progress.best is None else f"  best score {progress.best:.4f}"
            note = f"loss {progress.logs['loss']:.4f}{best}"
            bar.update(task, completed=progress.step, total=progress.steps, note=note)
            if not console.is_terminal and progress.step % max(1, progress.steps // _LINES) == 0:
                console.print(f"step {progress.step:,} of {progress.steps:,}  {note}")

        yield show


def _bar(note: str) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn(note),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
