"""``molmeta rescore``: a result at another share of actives."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from molmeta.cli.options import Force, Prior


def rescore(
    result: Annotated[Path, typer.Argument(help="A result folder of molmeta evaluate, of two classes.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder of the new result.")],
    query_share: Annotated[
        float | None, typer.Option(help="Share of actives of the query; as many rows as have it are kept.")
    ] = None,
    prior: Prior = None,
    name: Annotated[str | None, typer.Option(help="Of the method in tables; else as it was.")] = None,
    force: Force = False,
) -> None:
    """Score predictions again, of queries with few actives (--query-share), told so (--prior) or not."""
    from molmeta.cli.show import say
    from molmeta.evaluation.results import Result
    from molmeta.scoring.rescoring import Shares
    from molmeta.scoring.rescoring import rescore as score_again
    from molmeta.scoring.summary import lines

    command = shlex.join(["molmeta", *sys.argv[1:]])
    shares = Shares(query_share=query_share, prior=prior)
    found = score_again(Result.read(result), out, shares, name=name, command=command, force=force)
    for line in lines(found):
        typer.echo(line)
    say(f"Wrote {out}. Next: molmeta compare {shlex.quote(str(out))} another, or molmeta report")
