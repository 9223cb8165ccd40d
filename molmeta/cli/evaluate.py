"""``molmeta evaluate``: score a model on a task source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    model: Annotated[str, typer.Argument(help="A model's name or file, or a run folder.")] = "default",
    source: Annotated[str, typer.Option(help="Task source by name, or package.module:Name.")] = "fsmol",
    split: Annotated[str, typer.Option(help="train, heldout, valid or test.")] = "valid",
    kind: Annotated[str, typer.Option(help="binary, multiclass or regression.")] = "binary",
    support_size: Annotated[list[int] | None, typer.Option("--support-size", "-n", help="Repeat for several.")] = None,
    seeds: Annotated[int, typer.Option(help="Draws a task and support size.", min=1)] = 10,
    tasks: Annotated[int, typer.Option(help="Only the first tasks; 0: all.", min=0)] = 0,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A source setting: source.root=my-assays")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="CSV of every draw's scores.")] = None,
    against: Annotated[Path | None, typer.Option(help="CSV of another model's scores: compare task by task.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    force: Annotated[bool, typer.Option(help="Overwrite the CSV.")] = False,
) -> None:
    """Score a model: mean and standard error over tasks, per support size (FS-Mol's draws for fsmol)."""
    from molmeta.cli.show import console, counting
    from molmeta.evaluation.results import check_writable, read_csv, write_csv
    from molmeta.scoring import Question, load_model, score_model, seen_in_training

    question = Question(source, split, kind, tuple(support_size or (16, 32, 64, 128)), seeds, tasks, tuple(set_ or ()))
    if out is not None:
        check_writable(out, force)
    other = read_csv(against) if against is not None else []
    bundle = load_model(model, device)
    with counting("assays") as advance:
        result = score_model(bundle, question, advance)
    for line in result.lines():
        typer.echo(line)
    for line in result.against(other):
        typer.echo(line)
    if seen := seen_in_training(bundle, result):
        console.print(
            f"{len(seen)} of {len(result.tasks)} assays were trained on; their scores say nothing of new ones."
        )
    if out is not None:
        write_csv(out, result.scores)
        console.print(f"Wrote {len(result.scores)} draws to {out}.")
