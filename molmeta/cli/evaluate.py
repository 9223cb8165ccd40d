"""``molmeta evaluate``: score a model on a benchmark."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from molmeta.evaluation.results import Result

_MODEL = (
    "A model's name or file, a run folder, a recipe (its method before any training), a baseline (random-forest, "
    "random-forest-grid, knn, similarity, logistic, gradient-boosting, tanimoto-gp, tabpfn, constant, platt-forest) or "
    "module:name of a scikit-learn estimator or of a function (support, query SMILES) -> scores."
)
_PROTOCOL = (
    "fsmol, fsmol-regression, tox21, sider, muv, toxcast, omniglot-5way, omniglot-20way, clinc150-5way, hwu64-5way, "
    "banking77-5way, omniglot-runs, sinusoid or blobs; the options below change it."
)


def evaluate(
    model: Annotated[str, typer.Argument(help=_MODEL)] = "default",
    protocol: Annotated[str, typer.Option(help=_PROTOCOL)] = "fsmol",
    source: Annotated[str | None, typer.Option(help="Task source by name, or package.module:Name.")] = None,
    split: Annotated[str | None, typer.Option(help="train, heldout, valid or test.")] = None,
    kind: Annotated[str | None, typer.Option(help="binary, multiclass or regression.")] = None,
    support_size: Annotated[list[int] | None, typer.Option("--support-size", "-n", help="Repeat for several.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Draws a task and support size.")] = None,
    draws: Annotated[str | None, typer.Option(help="standard, scaffold, cluster or imbalanced supports.")] = None,
    tasks: Annotated[int | None, typer.Option(help="Only the first tasks.", min=1)] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="One setting: source.root=my-assays, method.inner_steps=10")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A result folder for molmeta report; or the scores as .csv or .parquet."),
    ] = None,
    against: Annotated[Path | None, typer.Option(help="Another result: compare task by task.")] = None,
    workers: Annotated[int, typer.Option(help="Processes; the numbers are the same.", min=1)] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    force: Annotated[bool, typer.Option(help="Overwrite the result.")] = False,
) -> None:
    """Score a model: mean and standard error over tasks, per support size (FS-Mol's own draws for fsmol).

    Interrupted, the same command goes on where it stopped, if it has a result folder (--out).
    """
    from molmeta.cli.show import evaluating
    from molmeta.evaluation import results
    from molmeta.paths import import_from_here
    from molmeta.scoring import evaluate as score

    import_from_here()
    other = results.Result.read(against) if against is not None else None
    with evaluating() as progress:
        result = score(
            model,
            protocol,
            source=source,
            split=split,
            kind=kind,
            sizes=tuple(support_size) if support_size else None,
            seeds=seeds,
            draws=draws,
            tasks=tasks,
            settings=tuple(set_ or ()),
            out=out,
            workers=workers,
            device=device,
            force=force,
            command=shlex.join(["molmeta", *sys.argv[1:]]),
            progress=progress,
        )
    _show(result, other, out)


def _show(result: Result, other: Result | None, out: Path | None) -> None:
    from molmeta.cli.show import console
    from molmeta.scoring.summary import against, lines, training_lines

    for line in lines(result) + (against(result, other) if other else []):
        typer.echo(line)
    for line in training_lines(result):
        console.print(line)
    if out is not None:
        report = f" Next: molmeta report {shlex.quote(str(out))} -o report" if result.folder else ""
        console.print(f"Wrote {out}.{report}")
