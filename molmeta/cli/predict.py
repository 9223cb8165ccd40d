"""``molmeta predict``: predict a library from a few labelled molecules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

_TABLES = "CSV, TSV, SMI, SDF or Parquet, plain or .gz; - is standard input"


def predict(
    support: Annotated[str, typer.Option(help=f"Labelled molecules: {_TABLES}.")],
    query: Annotated[str, typer.Option(help=f"Molecules to predict: {_TABLES}; or one SMILES.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="CSV or TSV, plain or .gz; default: stdout.")] = None,
    model: Annotated[str, typer.Option(help="A model's name or file.")] = "default",
    smiles_column: Annotated[
        list[str] | None, typer.Option(help="Column of structures; give it twice where the query's has another name.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option(help="Column of labels; repeat for several assays.")] = None,
    assay_column: Annotated[str | None, typer.Option(help="Column that names each row's assay (long tables).")] = None,
    kind: Annotated[str | None, typer.Option(help="What labels are: binary, multiclass or regression.")] = None,
    positive: Annotated[str | None, typer.Option(help="The label that means active.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Cut numbers into classes here; needs --active.")] = None,
    active: Annotated[str | None, typer.Option(help="The active side of the threshold: above or below.")] = None,
    prior: Annotated[float | None, typer.Option(help="Expected share of actives in the query; 0.01 is 1 %.")] = None,
    on_invalid: Annotated[
        str | None,
        typer.Option(help="Unusable molecules: raise (support's default), keep (query's: row stays, blank) or drop."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    force: Annotated[bool, typer.Option(help="Overwrite the output.")] = False,
) -> None:
    """Predict every molecule of a table from a few labelled ones.

    The output keeps the query's rows and columns, and appends <assay>_molmeta_probability and more. Run the same
    command again to go on after an interruption.
    """
    from molmeta.cli.show import counting, say
    from molmeta.domains.molecules.labels import LabelRule
    from molmeta.predicting.library import PredictRequest, predict_library

    columns = smiles_column or []
    if len(columns) > 2:
        raise typer.BadParameter("--smiles-column is given once, or twice: for the support, then for the query")
    rule: Any = {"kind": kind, "positive": positive, "threshold": threshold, "active": active}
    request = PredictRequest(
        support=support,
        query=query,
        out=out,
        model=model,
        smiles_column=columns[0] if columns else None,
        query_smiles_column=columns[-1] if columns else None,
        labels=label,
        assay_column=assay_column,
        rule=LabelRule(**rule),
        prior=prior,
        on_invalid=on_invalid,  # type: ignore[arg-type]
        device=device,
        force=force,
    )
    counts = predict_library(request, say, counting)
    for sentence in summary(counts, out):
        say(sentence)


def summary(counts: Mapping[str, int], out: Path | None) -> list[str]:
    """What was done, and what to type next."""
    from molmeta.predicting.library import dropped_path

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
