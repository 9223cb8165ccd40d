"""``molmeta export``: a trained run, or several as an ensemble, as one model file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; several make an ensemble.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The model file, ending in .safetensors.")],
    name: Annotated[str, typer.Option(help="What the card calls the model.")] = "",
    licence: Annotated[str, typer.Option(help="Licence of the weights; that of the training data, as a rule.")] = "",
    limit: Annotated[list[str] | None, typer.Option(help="A limit of the model, for the card; repeat it.")] = None,
    score: Annotated[bool, typer.Option(help="Score it on the source's held-out and valid tasks for the card.")] = True,
    force: Annotated[bool, typer.Option(help="Overwrite the file.")] = False,
) -> None:
    """Make one model file of training runs: half-precision weights, settings, a card with its scores."""
    from molmeta.cli.show import console, counting
    from molmeta.files import check_writable
    from molmeta.shipping import ship

    check_writable(out, force)
    with counting("assays", None) as advance:
        bundle = ship(
            runs, out, name=name or out.stem, licence=licence, limits=limit or (), score=score, advance=advance
        )
    for line in bundle.card.get("scores", {}).items():
        typer.echo("  ".join(line))
    size = out.stat().st_size / 1e6
    console.print(f"Wrote {out} ({size:.1f} MB) and {out.with_suffix('.md')}.")
    console.print(f"Next: molmeta predict --model {out} --support assay.csv --query library.csv -o predicted.csv")
