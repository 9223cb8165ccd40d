"""``molmeta plan``: how good predictions will be with more labels, and which molecules to measure next."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from molmeta.cli import options


def plan(
    support: options.Support,
    query: Annotated[str | None, typer.Option(help="The library to choose from, if any.")] = None,
    number: Annotated[int, typer.Option("--number", "-n", help="Molecules to measure next.")] = 8,
    goal: Annotated[str, typer.Option(help="model: learn most; hits: likeliest actives.")] = "model",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The chosen rows, as CSV or TSV; default: printed.")
    ] = None,
    describe: options.Describe = None,
    model: options.Model = "default",
    smiles_column: options.SmilesColumn = None,
    label: options.Label = None,
    assay_column: options.AssayColumn = None,
    kind: options.Kind = None,
    threshold: options.Threshold = None,
    active: options.Active = None,
    on_invalid: options.OnInvalid = None,
    force: options.Force = False,
) -> None:
    """Estimate how good predictions are now and after more labels, and choose the molecules to measure next.

    The estimate is the share of pairs (an active and an inactive molecule; two values) that are ranked in the right
    order, for molecules like the labelled ones. It was learned from assays that the model had not read.
    """
    from molmeta.cli.show import say
    from molmeta.errors import ConfigError
    from molmeta.predicting.planning import plan_library
    from molmeta.predicting.request import open_request, open_support

    given = {name: value for name, value in locals().items() if name in _ASKED}
    given["on_invalid"] = "keep" if on_invalid == "drop" else on_invalid
    if query is None:
        if out is not None:
            raise ConfigError("--out is for the molecules to measure next: give the library to choose from (--query)")
        alone = options.request(**given)
        learned, bundle = open_support(alone, say)
        _print_outlooks(learned.learn(bundle, description=alone.description))
        return
    request = options.request(**given, query=query, out=out, force=force)
    opened = open_request(request, say)
    _print_outlooks(opened.models)
    chosen = plan_library(request, opened, number, goal, say)  # type: ignore[arg-type]
    if out is None:
        typer.echo(f"Measure next:\n{chosen}")
    else:
        say(f"Wrote {len(chosen)} rows to {out}. Next: measure them, add them to {support}, and plan again")


_ASKED = frozenset(
    ("support", "describe", "model", "smiles_column", "label", "assay_column", "kind", "threshold", "active")
)


def _print_outlooks(models: object) -> None:
    """The estimate of each assay, or why there is none."""
    from molmeta.cli.show import say
    from molmeta.errors import ModelFileError, SupportError
    from molmeta.predicting.outlook import outlook

    for model in models:  # type: ignore[attr-defined]
        try:
            typer.echo(str(outlook(model)))
        except (ModelFileError, SupportError) as error:
            say(f"{model.assay.name}: no estimate: {error}")
