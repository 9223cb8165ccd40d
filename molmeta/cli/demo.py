"""``molmeta demo``: the bundled model on a little assay of well-known drugs."""

from __future__ import annotations

from typing import Annotated

import typer


def demo(
    model: Annotated[str, typer.Option(help="A model's name or file.")] = "default",
) -> None:
    """Learn from 16 known drugs which of 34 others inhibit cyclooxygenase (as aspirin does)."""
    from rich.console import Console
    from rich.table import Table

    from molmeta.bundle import Bundle
    from molmeta.cli.show import say
    from molmeta.demo import demonstrate
    from molmeta.paths import datasets_dir

    shown = demonstrate(Bundle.load(model))
    found, k = shown.found
    table = Table(title=f"COX inhibitors? The {k} likeliest of {len(shown.names)} drugs, after 16 labelled examples")
    for column in ("drug", "probability", "COX inhibitor?", "nearest labelled drug", "similarity"):
        table.add_column(column, justify="right" if column in ("probability", "similarity") else "left")
    for i in range(k):
        truth = "yes" if shown.truth[i] else "no"
        table.add_row(
            shown.names[i], f"{shown.probabilities[i]:.2f}", truth, shown.nearest[i], f"{shown.similarity[i]:.2f}"
        )
    Console().print(table)
    typer.echo(
        f"{found} of the {k} likeliest are COX inhibitors; chance would find {k * k / len(shown.names):.1f}. "
        f"ROC-AUC {shown.scores['roc_auc']:.2f}, ΔAUPRC {shown.scores['delta_auprc']:.2f}."
    )
    folder = datasets_dir() / "demo"
    say(
        "Next, with tables of your own (a column of SMILES, one of labels):\n"
        f"  molmeta predict --support {folder / 'support.csv'} --query {folder / 'query.csv'} -o predictions.csv"
    )
