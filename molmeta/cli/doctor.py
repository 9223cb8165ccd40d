"""``molmeta doctor``: what is installed, which device is there, which data were found."""

from __future__ import annotations

from typing import Annotated

import typer


def doctor(
    model: Annotated[str, typer.Option(help="The model to load and try.")] = "default",
) -> None:
    """Check the installation: versions, device, data, and one prediction by the model."""
    from molmeta.checkup import checkup

    problems = 0
    for line in checkup(model):
        problems += not line.good
        typer.echo(f"{'ok ' if line.good else '!! '} {line.what:<18} {line.found}")
    if problems:
        typer.echo(f"{problems} problem{'s' * (problems > 1)} found; each line marked !! says what to do.", err=True)
        raise typer.Exit(1)
