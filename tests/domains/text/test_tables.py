"""Tables of texts and lists of classes: read as written, or refused by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from molmeta.core.task import Split
from molmeta.domains.text.tables import classes_by_part, read_class_lists, read_table
from molmeta.errors import DataError


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'text,label\n"one, two",x\n"say ""hi""",y\n'),
        ("a.csv", '\ufefftext,other,label\r\n"one, two",,x\r\n"say ""hi""",,y\r\n'),
        ("a.tsv", 'other\tlabel\ttext\n0\tx\tone, two\n0\ty\t"say ""hi"""\n'),
        ("a.jsonl", '{"text": "one, two", "label": "x"}\n\n{"label": "y", "text": "say \\"hi\\"", "z": [1]}\n'),
    ],
)
def test_the_same_rows_come_out_of_every_form(tmp_path: Path, name: str, content: str) -> None:
    table = read_table([written(tmp_path, name, content)], "text", "label")
    assert table.texts == ["one, two", 'say "hi"']
    assert table.labels == ["x", "y"]
    assert table.parts == []


def test_several_files_are_read_as_one_whatever_their_forms(tmp_path: Path) -> None:
    paths = [
        written(tmp_path, "a.csv", "text,category,fold\nhello,1,train\n"),
        written(tmp_path, "b.jsonl", '{"text": "bye", "category": 2, "fold": "test"}'),
    ]
    table = read_table(paths, "text", "category", "fold")
    assert (table.texts, table.labels, table.parts) == (["hello", "bye"], ["1", "2"], ["train", "test"])


def test_rows_without_a_text_or_class_are_refused_by_line(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "text,label\nhello,x\n,x\nbye,\n \n")
    with pytest.raises(DataError) as caught:
        read_table([path], "text", "label")
    message = str(caught.value)
    assert f"{path}, line 3: no text" in message
    assert f"{path}, line 4: no label" in message
    assert f"{path}, line 5: no text and no label" in message


def test_a_wrong_column_name_is_told_with_the_way_out(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "text,category\n" + "hello,x\n" * 9)
    with pytest.raises(DataError, match=r"(?s)line 2: no label.*and 4 more\n.*name the columns in \[source\]"):
        read_table([path], "text", "label")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl", '{"text": "hello"', "is damaged, or not jsonl"),
        ("a.jsonl", "[1]\n", "line 1 is not an object"),
        ("a.csv", b"text,label\n\xff\xfe,x\n", "not csv in UTF-8"),
        ("a.xlsx", "", "one of .csv, .tsv, .jsonl"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused_by_name(
    tmp_path: Path, name: str, content: str | bytes, reason: str
) -> None:
    path = written(tmp_path, name, content)
    with pytest.raises(DataError, match=reason) as caught:
        read_table([path], "text", "label")
    assert str(path) in str(caught.value)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv cannot be read"):
        read_table([tmp_path / "none.csv"], "text", "label")


def test_class_lists_may_lack_a_split_but_not_all(tmp_path: Path) -> None:
    written(tmp_path, "labels.train.txt", "a\nb \n\n")
    written(tmp_path, "labels.test.txt", "c\r\nd")
    assert read_class_lists(tmp_path) == {Split.TRAIN: ["a", "b"], Split.TEST: ["c", "d"]}
    with pytest.raises(DataError, match=r"has none of labels\.train\.txt"):
        read_class_lists(tmp_path / "nowhere")


def test_a_column_tells_each_classs_split() -> None:
    found = classes_by_part(["b", "a", "c", "b"], ["train", "train", "test", "train"])
    assert found == {Split.TRAIN: ["a", "b"], Split.VALID: [], Split.TEST: ["c"]}
    with pytest.raises(DataError, match="not 'dev'"):
        classes_by_part(["a"], ["dev"])
