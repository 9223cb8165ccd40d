"""``molmeta explain``: predictions, and the labelled molecules that moved them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from molmeta.cli import options

MOST_DRAWN = 25
_DRAWN = (".html", ".svg", ".png")


def explain(
    support: options.Support,
    query: options.Query,
    out: Annotated[
        Path, typer.Option("--out", "-o", help=".html, .png or .svg: drawn; .csv or .tsv, plain or .gz: a table.")
    ],
    describe: options.Describe = None,
    reasons: Annotated[int, typer.Option(help="Labelled molecules to name for each prediction.")] = 4,
    model: options.Model = "default",
    smiles_column: options.SmilesColumn = None,
    label: options.Label = None,
    assay_column: options.AssayColumn = None,
    kind: options.Kind = None,
    threshold: options.Threshold = None,
    active: options.Active = None,
    prior: options.Prior = None,
    on_invalid: options.OnInvalid = None,
    force: options.Force = False,
) -> None:
    """Predict molecules, and say why: which labelled molecules moved each prediction, and by how much.

    A table is that of molmeta predict with columns of reasons, for a query of any length. A drawing shows the query's
    first 25 molecules beside the labelled ones that moved them most. Each labelled molecule is left out in turn.
    """
    given = locals()
    from molmeta.cli.predict import summary
    from molmeta.cli.show import counting, say
    from molmeta.errors import ConfigError, InputError
    from molmeta.predicting.drawing import check_form, draw_reasons
    from molmeta.predicting.library import explain_first, predict_library

    if reasons < 1:
        raise ConfigError(f"--reasons is how many labelled molecules are named, 1 or more, not {reasons}")
    if out.suffix.lower() in _DRAWN:
        check_form(out, force)
        drawn = {**given, "out": None, "on_invalid": "keep" if on_invalid == "drop" else on_invalid}
        told = explain_first(options.request(**drawn), MOST_DRAWN, say)
        say(f"Wrote {draw_reasons(told, out, reasons, force)}.")
        return
    if not out.name.lower().removesuffix(".gz").endswith((".csv", ".tsv", ".txt")):
        raise InputError(f"{out}: reasons are written as .html, .svg or .png (drawn), or as .csv or .tsv (a table)")
    for sentence in summary(predict_library(options.request(**given), say, counting), out):
        say(sentence)
