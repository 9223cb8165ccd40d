"""``molmeta train``: meta-train a model from a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder: settings, history, weights.")],
    config: Annotated[Path | None, typer.Option(help="Recipe (TOML), or the name of a shipped one.")] = None,
    method: Annotated[str | None, typer.Option(help="Method by name, or package.module:Name.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Backbone by name, or package.module:Name.")] = None,
    source: Annotated[str | None, typer.Option(help="Task source by name, or package.module:Name.")] = None,
    steps: Annotated[int | None, typer.Option(help="Meta-updates.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random draw.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="One setting: method.inner_lr=0.01")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads for torch; 0: torch's choice.")] = 0,
    force: Annotated[bool, typer.Option(help="Empty a run folder that holds another run.")] = False,
) -> None:
    """Meta-train a model. Run the same command again to go on after an interruption."""
    from molmeta.cli.show import training_progress
    from molmeta.devices import keep_freed_memory
    from molmeta.paths import import_from_here
    from molmeta.training_run import choose_recipe, run_training

    overrides = [
        f"{table}.name={name}"
        for table, name in (("method", method), ("backbone", backbone), ("source", source))
        if name
    ]
    numbers = {"training.steps": steps, "training.seed": seed}
    overrides += [f"{key}={value}" for key, value in numbers.items() if value is not None] + (set_ or [])
    import_from_here()
    recipe = choose_recipe(config, overrides)
    keep_freed_memory()
    with training_progress() as show:
        run_training(recipe, out, device=device, threads=threads, force=force, show=show)
