"""Results as a page to read: tables, figures and drawings in one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from molmeta.errors import MolmetaError

_NEEDS = ("matplotlib", "jinja2")


def write_report(
    results: Sequence[Path | str], folder: Path | str, *, baseline: str | None = None, force: bool = False
) -> Path:
    """Turn results into ``folder/index.html`` and ``folder/figures``; the folder appears whole or not at all.

    Args:
        results: folders that ``molmeta evaluate`` wrote, or tables of scores; the first is the one of interest.
        folder: where the report goes.
        baseline: the method that the first is held against; None: the last one given.
        force: replace a report that stands there.

    Returns:
        The page.

    Raises:
        InputError: a result cannot be read, the results have nothing in common, or the folder is taken.
        MolmetaError: matplotlib or jinja2 is not installed.
    """
    if missing := [name for name in _NEEDS if find_spec(name) is None]:
        raise MolmetaError(f'a report needs {" and ".join(missing)}: pip install "molmeta[report]"')
    from molmeta.reporting.folder import check_folder, write_folder
    from molmeta.reporting.page import render
    from molmeta.reporting.study import Study

    folder = Path(folder)
    check_folder(folder, force)
    study = Study.read([Path(path) for path in results], baseline)
    return write_folder(folder, *render(study), force=force)
