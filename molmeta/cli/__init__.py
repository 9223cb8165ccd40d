"""The command line: one small module a verb. Nothing heavy is imported until a verb runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from molmeta.cli.compare import compare
from molmeta.cli.data import app as data_app
from molmeta.cli.demo import demo
from molmeta.cli.doctor import doctor
from molmeta.cli.evaluate import evaluate
from molmeta.cli.explain import explain
from molmeta.cli.export import export
from molmeta.cli.plan import plan
from molmeta.cli.predict import predict
from molmeta.cli.report import report
from molmeta.cli.rescore import rescore
from molmeta.cli.train import train
from molmeta.errors import MolmetaError

INTERRUPTED = 130  # 128 + SIGINT, as shells have it

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Few-shot molecular property prediction: learn a new assay from a few labelled molecules.",
)
for verb in (predict, explain, plan, demo, train, evaluate, rescore, compare, report, export, doctor):
    app.command()(verb)
app.add_typer(data_app, name="data")


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"molmeta {version('molmeta')}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks (or set MOLMETA_DEBUG=1).")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options before the verb."""
    if debug:
        os.environ["MOLMETA_DEBUG"] = "1"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0: done. 1: done, and something was found (doctor, data check). 2: refused, with the reason on stderr. 130: Ctrl-C.
    """
    try:
        app(args=None if arguments is None else list(arguments), prog_name="molmeta")
    except SystemExit as end:
        if interrupt := _interrupt_behind(end):
            print(f"\n{str(interrupt) or 'Interrupted; run the same command again.'}", file=sys.stderr)
            return INTERRUPTED
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except (MolmetaError, OSError) as error:
        if os.environ.get("MOLMETA_DEBUG", "0") != "0":
            raise
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    return 0


def _interrupt_behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """The Ctrl-C that made typer exit, if one did: it says what remains."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error
