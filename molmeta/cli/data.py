"""``molmeta data``: list, fetch, prepare and check data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, help="Data sets: list, fetch, prepare, check, convert your own.")
Name = Annotated[str, typer.Argument(help="A data set's name; see molmeta data list.")]


@app.command("list")
def list_() -> None:
    """The known data sets, and which of them are here."""
    from molmeta.domains.molecules.catalogue import DATASETS
    from molmeta.paths import data_dir

    typer.echo(f"In {data_dir()} (set MOLMETA_DATA to change it):")
    for dataset in DATASETS.values():
        state = "here" if dataset.find() else "not here"
        typer.echo(f"  {dataset.name:<11} {state:<9} {dataset.about}. {dataset.licence}")


@app.command()
def fetch(
    name: Name,
    url: Annotated[str | None, typer.Option(help="Another place that serves the same files.")] = None,
) -> None:
    """Download a data set, each file verified by its checksum; run it again to go on."""
    from molmeta.cli.show import console, counting
    from molmeta.domains.molecules.catalogue import dataset
    from molmeta.domains.molecules.catalogue import fetch as fetch_files
    from molmeta.paths import data_dir

    chosen = dataset(name)
    failed, unverified = [], []
    with counting("files", len(chosen.list_files())) as advance:
        for outcome in fetch_files(chosen, url):
            advance()
            if outcome.problem:
                failed.append(f"{outcome.file.path}: {outcome.problem}")
            elif not outcome.verified:
                unverified.append(outcome.file.path)
    if unverified:
        console.print(
            f"{len(unverified)} files have no recorded checksum and are not verified: {', '.join(unverified)}"
        )
    for line in failed[:10]:
        console.print(line)
    if failed:
        console.print(
            f"{len(failed)} of {len(chosen.list_files())} files did not arrive. The same command tries those again."
        )
        raise typer.Exit(1)
    console.print(f"{chosen.name} is in {data_dir() / chosen.name}. Next: molmeta data prepare {chosen.name}")


@app.command()
def prepare(
    name: Name,
    jobs: Annotated[int | None, typer.Option(help="Processes; the default is every core.")] = None,
) -> None:
    """Featurise every molecule of a data set into the store, once."""
    from molmeta.cli.show import console, counting
    from molmeta.domains.molecules.catalogue import dataset

    chosen = dataset(name)
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
    from molmeta.domains.molecules.catalogue import check as check_files
    from molmeta.domains.molecules.catalogue import dataset

    found = check_files(dataset(name))
    typer.echo(
        f"{found.same} files as recorded, {found.different} differ, {found.missing} missing, "
        f"{found.unverifiable} without a recorded checksum"
    )
    if found.different or found.missing:
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
