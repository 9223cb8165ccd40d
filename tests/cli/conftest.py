"""What the tests of several verbs share."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pandas as pd
import pytest

from molmeta.cli import main
from tests.bundles import DRUGS, tiny_bundle

LABELS = [0, 1] * 6


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    tiny_bundle(members=2).save(path)
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write("support.csv", "smiles,active", zip(DRUGS, LABELS, strict=True))
    write("query.csv", "id,smiles,note", [(i, s, "a, b") for i, s in enumerate(DRUGS[::-1])])
    return tmp_path


def write(path: str, header: str, rows) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header.split(","), *rows])
    Path(path).write_text(text.getvalue())


def table(path: str, separator: str = ",") -> pd.DataFrame:
    return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False)


@pytest.fixture
def run(model, capsys):
    def run(*arguments: str, support: str = "support.csv", query: str = "query.csv") -> tuple[int, str, str]:
        code = main(["predict", "--support", support, "--query", query, "--model", str(model), *arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run
