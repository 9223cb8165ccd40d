"""``molmeta report``: results as a page to read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    results: Annotated[
        list[Path], typer.Argument(help="Result folders (or tables of scores); the first is the one of interest.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder of the report.")],
    baseline: Annotated[
        str | None, typer.Option(help="The method that the first is held against; else the last one given.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace a report that stands there.")] = False,
) -> None:
    """Turn results into one self-contained HTML page, and its figures as PNG and SVG."""
    from molmeta.cli.show import say
    from molmeta.reporting import write_report

    page = write_report(results, out, baseline=baseline, force=force)
    figures = len(list((page.parent / "figures").glob("*.png")))
    say(f"Wrote {page} and {figures} figures (PNG and SVG) beside it. Open it in a browser: {page.as_uri()}")
