"""The report on disk: whole or not at all, and nothing overwritten unasked."""

from __future__ import annotations

from pathlib import Path

import pytest

from molmeta.errors import InputError
from molmeta.reporting.folder import check_folder, write_folder


def test_a_report_appears_with_its_figures(tmp_path: Path) -> None:
    page = write_folder(tmp_path / "deep" / "report", "<p>", {"a.svg": b"<svg/>"})
    assert page.read_text() == "<p>"
    assert (page.parent / "figures" / "a.svg").read_bytes() == b"<svg/>"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["report"]


def test_a_report_is_replaced_only_when_asked(tmp_path: Path) -> None:
    write_folder(tmp_path / "report", "old", {"old.svg": b""})
    with pytest.raises(InputError, match="--force"):
        check_folder(tmp_path / "report", force=False)
    page = write_folder(tmp_path / "report", "new", {}, force=True)
    assert page.read_text() == "new"
    assert not (page.parent / "figures" / "old.svg").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_a_folder_of_other_things_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(InputError, match=r"thesis\.tex"):
        check_folder(tmp_path, force=True)
    with pytest.raises(InputError, match="is a file"):
        check_folder(tmp_path / "thesis.tex", force=True)


def test_what_fails_midway_leaves_the_former_report(tmp_path: Path) -> None:
    write_folder(tmp_path / "report", "old", {"old.svg": b"x"})
    with pytest.raises(OSError, match="no-such"):
        write_folder(tmp_path / "report", "new", {"no-such/folder.svg": b""}, force=True)
    assert (tmp_path / "report" / "index.html").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
