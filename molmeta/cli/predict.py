"""``molmeta predict``: predict a library from a few labelled molecules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from molmeta.cli import options


def predict(
    query: options.Query,
    support: Annotated[str, typer.Option(help=f"{options.SUPPORT} Without: --describe alone.")] = "",
    describe: options.Describe = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="CSV or TSV, plain or .gz; default: stdout.")] = None,
    model: options.Model = "default",
    smiles_column: options.SmilesColumn = None,
    label: options.Label = None,
    assay_column: options.AssayColumn = None,
    kind: options.Kind = None,
    threshold: options.Threshold = None,
    active: options.Active = None,
    prior: options.Prior = None,
    on_invalid: options.OnInvalid = None,
    device: options.Device = "auto",
    force: options.Force = False,
) -> None:
    """Predict every molecule of a table from a few labelled ones.

    The output keeps the query's rows and columns, and appends <assay>_molmeta_probability and more. Run the same
    command again to go on after an interruption. For the reasons of each prediction: molmeta explain.
    """
    request = options.request(**locals())
    from molmeta.cli.show import counting, say
    from molmeta.predicting.library import predict_library

    counts = predict_library(request, say, counting)
    for sentence in summary(counts, out):
        say(sentence)


def summary(counts: Mapping[str, int], out: Path | None) -> list[str]:
    """What was done, and what to type next."""
    from molmeta.predicting.request import dropped_path

    lines = []
    if invalid := counts["invalid"]:
        reasons = "left out" if counts["dropped"] else "their prediction is blank, the reason in molmeta_reason"
        lines.append(f"{invalid:,} of {counts['rows']:,} molecules cannot be used: {reasons}.")
    if known := counts["in support"]:
        lines.append(f"{_are(known, 'query molecule')} in the support too: measured already.")
    if far := counts["far"]:
        lines.append(f"{_are(far, 'molecule')} far from both support and training chemistry (..._far): trust less.")
    if counts["dropped"] and out is not None:
        lines.append(f"Wrote the rows left out to {dropped_path(out)}.")
    if out is not None:
        written = counts["rows"] - counts["dropped"]
        advice = " Next: sort them by ..._probability or ..._prediction, and measure the best" * (
            invalid < counts["rows"]
        )
        lines.append(f"Wrote {written:,} row{'s' * (written != 1)} to {out}.{advice}")
    return lines


def _are(count: int, what: str) -> str:
    return f"{count:,} {what}{' is' if count == 1 else 's are'}"
