"""Options that several verbs share."""

from __future__ import annotations

from typing import Annotated, Any

import typer

_TABLES = "CSV, TSV, SMI, SDF or Parquet, plain or .gz; - is standard input"

SUPPORT = f"Labelled molecules: {_TABLES}."
Support = Annotated[str, typer.Option(help=SUPPORT)]
Describe = Annotated[
    str | None,
    typer.Option(help='What is known of the assay: "target=..., ec=..., organism=..., type=binding", some of it.'),
]
Query = Annotated[str, typer.Option(help=f"Molecules to predict: {_TABLES}; or one SMILES.")]
Model = Annotated[str, typer.Option(help="A model's name or file.")]
SmilesColumn = Annotated[
    list[str] | None, typer.Option(help="Column of structures; give it twice where the query's has another name.")
]
Label = Annotated[list[str] | None, typer.Option(help="Column of labels; repeat for several assays.")]
AssayColumn = Annotated[str | None, typer.Option(help="Column that names each row's assay (long tables).")]
Kind = Annotated[str | None, typer.Option(help="What labels are: binary, multiclass or regression.")]
Threshold = Annotated[float | None, typer.Option(help="Cut numbers into classes here; needs --active.")]
Active = Annotated[
    str | None,
    typer.Option(
        "--positive", "--active", help="The label that means active; with --threshold its active side, above or below."
    ),
]
Prior = Annotated[float | None, typer.Option(help="Expected share of actives in the query; 0.01 is 1 %.")]
OnInvalid = Annotated[
    str | None,
    typer.Option(help="Unusable molecules: raise (support's default), keep (query's: row stays, blank) or drop."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Force = Annotated[bool, typer.Option(help="Overwrite the output.")]


def request(
    *,
    smiles_column: list[str] | None,
    label: list[str] | None,
    kind: str | None,
    threshold: float | None,
    active: str | None,
    query: str | None = None,
    **others: Any,
) -> Any:
    """What the options of a verb that reads a support ask for: a :class:`~molmeta.predicting.request.PredictRequest`;
    without a query, a ``SupportRequest``."""
    from molmeta.domains.molecules.labels import LabelRule
    from molmeta.predicting.request import PredictRequest, SupportRequest

    columns = smiles_column or []
    if len(columns) > 2:
        raise typer.BadParameter("--smiles-column is given once, or twice: for the support, then for the query")
    meant = "positive" if threshold is None and active not in ("above", "below") else "active"
    rule: Any = {"kind": kind, "threshold": threshold, meant: active}
    others |= {"labels": label, "rule": LabelRule(**rule), "smiles_column": columns[0] if columns else None}
    if query is None:
        return SupportRequest(**others)
    return PredictRequest(query=query, query_smiles_column=columns[-1] if columns else None, **others)
