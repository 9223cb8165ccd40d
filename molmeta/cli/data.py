"""``molmeta data``: list, fetch, prepare and check data sets."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from molmeta.catalogue import Fetched

app = typer.Typer(no_args_is_help=True, help="Data sets: list, fetch, prepare, check, convert your own.")
Name = Annotated[str, typer.Argument(help="A data set's name; see molmeta data list.")]
_SHOWN = 5  # files named in a message


@app.command("list")
def list_() -> None:
    """The known data sets, and which of them are here."""
    from molmeta.catalogue import DATASETS
    from molmeta.paths import data_dir

    typer.echo(f"In {data_dir()} (set MOLMETA_DATA to change it):")
    states = {name: each.state() for name, each in DATASETS.items()}
    width = max(map(len, states.values()))
    for name, each in DATASETS.items():
        typer.echo(f"  {name:<11}  {states[name]:<{width}}  {each.about}. {each.licence}")


@app.command()
def fetch(
    name: Name,
    url: Annotated[str | None, typer.Option(help="Another place that serves the same files.")] = None,
) -> None:
    """Download a data set, each file verified by its checksum; run it again to go on."""
    from molmeta.catalogue import dataset
    from molmeta.catalogue import fetch as fetch_files
    from molmeta.cli.show import console, counting

    chosen = dataset(name)
    files = chosen.list_files()
    with counting("files", len(files)) as advance, closing(fetch_files(chosen, url)) as outcomes:
        done = []
        for each in outcomes:
            done.append(each)
            advance()
    by_outcome = {kind: [e.file.path for e in done if e.outcome == kind] for kind in ("there", "fetched", "replaced")}
    unverified = [e.file.path for e in done if e.outcome != "failed" and not e.file.sha256]
    if by_outcome["replaced"]:
        console.print(f"Replaced, for it did not match its checksum: {_some(by_outcome['replaced'])}")
    if unverified:
        console.print(f"Not verified, for no checksum is recorded: {_some(unverified)}")
    if failed := [e for e in done if e.outcome == "failed"]:
        _say_what_failed(failed, len(files) - len(done) + len(failed), len(files))
        raise typer.Exit(1)
    console.print(
        f"{name} is in {chosen.folder}: {len(done) - len(by_outcome['there'])} files fetched, "
        f"{len(by_outcome['there'])} there already. Next: {chosen.use}"
    )


def _say_what_failed(failed: Sequence[Fetched], missing: int, total: int) -> None:
    from molmeta.cli.show import console

    for problem in dict.fromkeys(each.problem for each in failed):
        alike = [each for each in failed if each.problem == problem]
        console.print(f"{_some([each.file.path for each in alike])}: {problem} ({alike[0].url})")
    console.print(
        f"{missing} of {total} files did not arrive. Those that did are kept; the same command tries the others again."
    )


@app.command()
def prepare(
    name: Name,
    jobs: Annotated[int | None, typer.Option(help="Processes; the default is every core.")] = None,
) -> None:
    """Featurise every molecule of a data set into the store, once."""
    from molmeta.catalogue import dataset
    from molmeta.cli.show import console, counting

    chosen = dataset(name)
    if chosen.stores is None:
        console.print(f"{chosen.name} needs no preparing: it is read as it is. Next: {chosen.use}")
        return
    with counting("molecules") as advance:
        stores = list(chosen.stores(jobs, advance))
    refused = [each for store in stores for each in store.reasons.items()]
    distinct = sum(map(len, stores))
    console.print(f"{distinct:,} distinct molecules are in the store; {len(refused)} were refused.")
    for smiles, reason in refused[:20]:
        console.print(f"  {smiles}  {reason}")


@app.command()
def check(name: Name) -> None:
    """Compare a data set on disk with the recorded checksums."""
    from molmeta.catalogue import check as check_files
    from molmeta.catalogue import dataset

    chosen = dataset(name)
    found = check_files(chosen)
    typer.echo(
        f"In {chosen.folder}: {len(found.same)} files as recorded, {len(found.different)} differ, "
        f"{len(found.missing)} missing, {len(found.unverifiable)} without a recorded checksum"
    )
    for what, paths in (("differ", found.different), ("missing", found.missing)):
        if paths:
            typer.echo(f"  {what}: {_some(paths)}")
    if found.different or found.missing:
        typer.echo(
            f'"molmeta data fetch {name}" takes these, and replaces a file only by one that is as recorded', err=True
        )
        raise typer.Exit(1)


@app.command()
def convert(
    table: Annotated[str, typer.Argument(help="Your assays: CSV, TSV, SDF or Parquet, wide or long.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")],
    smiles_column: Annotated[str | None, typer.Option(help="Column of structures.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Column of labels; repeat for several.")] = None,
    assay_column: Annotated[str | None, typer.Option(help="Column that names the assay (long tables).")] = None,
    positive: Annotated[str | None, typer.Option(help="The label that means active.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Cut numbers into classes here; needs --active.")] = None,
    active: Annotated[str | None, typer.Option(help="The active side: above or below.")] = None,
    valid: Annotated[float, typer.Option(help="Share of the assays kept to choose models.")] = 0.2,
    test: Annotated[float, typer.Option(help="Share of the assays kept aside.")] = 0.0,
    force: Annotated[bool, typer.Option(help="Replace a folder of this form.")] = False,
) -> None:
    """Turn your own assays into a folder to train and evaluate on."""
    from molmeta.cli.show import console
    from molmeta.domains.molecules.convert import convert as convert_table
    from molmeta.domains.molecules.labels import LabelRule

    kind: Any = {"positive": positive, "threshold": threshold, "active": active}
    folds = convert_table(
        table,
        out,
        smiles_column=smiles_column,
        labels=label,
        assay_column=assay_column,
        rule=LabelRule(**kind),
        shares=(1 - valid - test, valid, test),
        force=force,
    )
    for fold, assays in folds.items():
        console.print(f"{fold}: {len(assays)} assays, {sum(map(len, assays))} labelled molecules")
    console.print(f"Wrote {out}. Next: molmeta train --set source.root={out} --set source.hold_out=false -o my-run")


def _some(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(paths[:_SHOWN]) + more
