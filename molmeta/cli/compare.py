"""``molmeta compare``: which of several results is better, and how sure that is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    results: Annotated[list[Path], typer.Argument(help="Two or more result folders, or tables of scores.")],
    metric: Annotated[str | None, typer.Option(help="A column of the scores; else the benchmark's own.")] = None,
    subset: Annotated[str, typer.Option(help="all, unrepeated, consistent, unseen, exact or clean.")] = "all",
    support_size: Annotated[list[int] | None, typer.Option("--support-size", "-n", help="Repeat for several.")] = None,
) -> None:
    """Compare results task by task: paired differences, Wilcoxon's test with Holm's adjustment, ranks and power."""
    from molmeta.errors import InputError
    from molmeta.evaluation.results import Result
    from molmeta.scoring.summary import compared

    if len({path.resolve() for path in results}) < len(results):
        raise InputError(f"name each result once, not {', '.join(map(str, results))}")
    for line in compared([Result.read(path) for path in results], metric, subset, support_size):
        typer.echo(line)
