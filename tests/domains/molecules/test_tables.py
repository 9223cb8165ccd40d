"""Tables in every form, and files that are not as they should be."""

from __future__ import annotations

import gzip
import io
import random
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from rdkit import Chem

from molmeta.domains.molecules.tables import Table, count_rows, iter_table, read_table
from molmeta.errors import InputError, MolmetaError

PLAIN = "id,smiles,label\na,CCO,1\nb,c1ccccc1,0\n"
ROWS = [["a", "CCO", "1"], ["b", "c1ccccc1", "0"]]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def cells(table: Table) -> list[list[str]]:
    return [list(row) for row in table.data.itertuples(index=False)]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_separators_line_ends_and_a_byte_order_mark_are_recognised(
    tmp_path: Path, separator: str, line_end: str, start: str
) -> None:
    text = start + PLAIN.replace(",", separator).replace("\n", line_end)
    table = read_table(write(tmp_path / "assay.csv", text))
    assert list(table.data.columns) == ["id", "smiles", "label"]
    assert cells(table) == ROWS
    assert (table.smiles_column, list(table.rows)) == ("smiles", [1, 2])


@pytest.mark.parametrize("name", ["assay.csv.gz", "assay.csv", "assay"])
def test_gzip_is_recognised_whatever_the_name(tmp_path: Path, name: str) -> None:
    assert cells(read_table(write(tmp_path / name, gzip.compress(PLAIN.encode())))) == ROWS


def test_utf_16_and_latin_1_are_read(tmp_path: Path) -> None:
    text = "smiles;ort\nCCO;Köln\n"
    assert read_table(write(tmp_path / "a.csv", text.encode("utf-16"))).column("ort") == ["Köln"]
    assert read_table(write(tmp_path / "b.csv", text.encode("latin-1"))).column("ort") == ["Köln"]


def test_values_are_kept_exactly_as_read(tmp_path: Path) -> None:
    text = 'smiles,x,note\nCCO,007,"a, ""b""\r\nc"\nCC,NA, 1e5 \n'
    table = read_table(write(tmp_path / "a.csv", text))
    assert cells(table) == [["CCO", "007", 'a, "b"\r\nc'], ["CC", "NA", " 1e5 "]]


def test_parquet_holds_the_same_as_text(tmp_path: Path) -> None:
    frame = pd.DataFrame({"smiles": ["CCO", "CC", None], "y": [1.5, None, 2.0], "n": [1, 2, 3]})
    frame.to_parquet(tmp_path / "a.parquet")
    assert cells(read_table(tmp_path / "a.parquet"))[0] == ["CCO", "1.5", "1"]
    assert read_table(tmp_path / "a.parquet").smiles == ["CCO", "CC", ""]
    assert count_rows(str(tmp_path / "a.parquet")) == 3


def sdf_of(smiles: list[str]) -> str:
    buffer = io.StringIO()
    with Chem.SDWriter(buffer) as writer:
        for i, text in enumerate(smiles):
            molecule = Chem.MolFromSmiles(text)
            molecule.SetProp("_Name", f"m{i}")
            molecule.SetProp("IC50" if i else "smiles", f"{i}.5")
            writer.write(molecule)
    return buffer.getvalue()


@pytest.mark.parametrize("pack", [str.encode, lambda text: gzip.compress(text.encode())])
def test_an_sdf_gives_smiles_and_its_data_items_as_columns(tmp_path: Path, pack) -> None:
    smiles = ["C[C@H](N)C(=O)O", "C/C=C/C"]
    path = write(tmp_path / "a.sdf", pack(sdf_of(smiles)))
    table = read_table(path)
    assert list(table.data.columns) == ["sdf_smiles", "name", "smiles", "IC50"]
    assert [Chem.CanonSmiles(text) for text in table.smiles] == [Chem.CanonSmiles(text) for text in smiles]
    assert table.column("IC50") == ["", "1.5"]
    assert table.column("name") == ["m0", "m1"]
    assert count_rows(str(path)) == 2


def test_an_sdf_record_that_rdkit_refuses_keeps_its_row_with_the_reason(tmp_path: Path) -> None:
    broken = "bad\n\n\n  1  0  0  0 garbage\nM  END\n> <IC50>\n7\n\n$$$$\n"
    table = read_table(write(tmp_path / "a.sdf", sdf_of(["CCO"]) + broken + sdf_of(["CC"])))
    assert table.smiles == ["CCO", "", "CC"]
    assert list(table.refusals) == [1]
    assert "molblock" in table.refusals[1]
    assert table.column("IC50") == ["", "7", ""]


def test_an_smi_file_has_smiles_then_a_name(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "a.smi", "CCO ethyl alcohol\nCC\tethane\nC1CC\n"))
    assert cells(table) == [["CCO", "ethyl alcohol"], ["CC", "ethane"], ["C1CC", ""]]


def test_a_one_column_file_needs_no_header_and_keeps_its_empty_lines(tmp_path: Path) -> None:
    assert read_table(write(tmp_path / "a.txt", "C1CC\nCCO\n\nCC\n\n")).smiles == ["C1CC", "CCO", "", "CC"]
    assert read_table(write(tmp_path / "b.txt", "SMILES\nCCO\n")).smiles == ["CCO"]


def test_one_smiles_stands_for_a_table(tmp_path: Path) -> None:
    assert cells(read_table("C/C=C/C")) == [["C/C=C/C"]]
    with pytest.raises(InputError, match="there is no file"):
        read_table("C1CC")


def test_standard_input_is_read_in_any_form(monkeypatch: pytest.MonkeyPatch) -> None:
    for content in (PLAIN.encode(), gzip.compress(PLAIN.encode()), b"CCO\nc1ccccc1\n"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        assert read_table("-").smiles == ["CCO", "c1ccccc1"]
    assert count_rows("-") is None


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_chunks_join_to_the_whole_table(tmp_path: Path, name: str) -> None:
    frame = pd.DataFrame({"smiles": ["C" * (1 + i % 7) for i in range(25)], "y": [str(i) for i in range(25)]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    chunks = list(iter_table(tmp_path / name, chunk_rows=10))
    assert [(len(chunk), chunk.first_row) for chunk in chunks] == [(10, 1), (10, 11), (5, 21)]
    assert pd.concat([chunk.data for chunk in chunks], ignore_index=True).equals(frame.astype(object))
    assert count_rows(str(tmp_path / name)) == 25


def test_the_row_count_of_a_large_file_is_estimated(tmp_path: Path) -> None:
    text = "smiles,y\n" + "".join(f"{'C' * (1 + i % 40)},{i % 97}\n" for i in range(300_000))
    for content in (text.encode(), gzip.compress(text.encode(), 1)):
        assert count_rows(str(write(tmp_path / "a.csv", content))) == pytest.approx(300_000, rel=0.1)


@pytest.mark.parametrize(
    ("header", "column"),
    [
        ("Smiles,canonical_smiles,x", "Smiles"),
        ("x,Canonical SMILES,y", "Canonical SMILES"),
        ("what,ever,other", "ever"),
    ],
)
def test_the_smiles_column_is_found(tmp_path: Path, header: str, column: str) -> None:
    rows = "CCCO,CCCO,1\n" if header.startswith("S") else "12,CCCO,NO\n17,c1ccccc1,CN\n"
    assert read_table(write(tmp_path / "a.csv", f"{header}\n{rows}")).smiles_column == column


def test_a_smiles_column_that_is_not_plain_is_an_error_with_the_candidates(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"may be mol, structure.*--smiles-column"):
        read_table(write(tmp_path / "a.csv", "mol,structure\nCCO,CCO\n"))
    assert read_table(tmp_path / "a.csv", smiles_column="mol").smiles_column == "mol"
    with pytest.raises(InputError, match="not to be found among id, y"):
        read_table(write(tmp_path / "a.csv", "id,y\nq1,7\n"))
    with pytest.raises(InputError, match=r'no column "drug"\. Its columns: id, y'):
        read_table(tmp_path / "a.csv", smiles_column="drug")


BAD_FILES = [
    ("empty.csv", b"", "empty.csv is empty"),
    ("blank.csv", b"\xef\xbb\xbf \r\n\n", "blank.csv is empty"),
    ("header.csv", b"smiles,label\n", "has a header but no rows"),
    ("twice.csv", b"smiles,y,y\nC,1,1\n", r'same name: "y" \(columns 2, 3\)'),
    ("nameless.csv", b"smiles,,\nC,1,1\n", r"no name at all \(columns \[2, 3\]\)"),
    ("ragged.csv", b"smiles,y\nC,1\nCC,1,2\nCCC\n", r"2 of 3 rows .*\n  row 2 has 3 fields\n  row 3 has 1 field\n"),
    ("quote.csv", b'smiles,y\nC,"1\nCC,2\n', "quote.csv, line 3: unexpected end of data. Close every quote"),
    ("short.csv.gz", gzip.compress(b"smiles\n" + random.Random(0).randbytes(500))[:-50], "truncated gzip file"),
    ("bad.csv.gz", gzip.compress(b"smiles\nCCO\n")[:-8] + bytes(8), "damaged gzip file"),
    ("book.xlsx", b"PK\x03\x04rest", "an Excel workbook.*Save the table as CSV"),
    ("short.parquet", b"PAR1 and no more", "damaged Parquet file"),
    ("text.parquet", b"smiles\nCCO\n", "not a Parquet file"),
    ("binary.csv", b"a\0\1\2", "not a text table"),
    ("nohead.csv", b"CCO,1\nCCC,0\n", 'no header: its first row is "CCO,1"'),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES, ids=[name for name, _, _ in BAD_FILES])
def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_table(write(tmp_path / name, content))
    assert name in str(caught.value)


def test_a_directory_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a directory"):
        read_table(tmp_path)


def test_a_missing_file_is_refused_with_near_names(tmp_path: Path) -> None:
    write(tmp_path / "library.csv", PLAIN)
    with pytest.raises(InputError, match=r"Did you mean library.csv\?"):
        read_table(tmp_path / "libary.csv")


def test_the_list_of_uneven_rows_is_capped(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"40 of 40 rows[^$]*and 20 more"):
        read_table(write(tmp_path / "a.csv", "smiles,y\n" + "C\n" * 40))


def test_random_bytes_raise_only_errors_of_molmeta(tmp_path: Path) -> None:
    rng = random.Random(0)
    seeds = [
        PLAIN.encode(),
        gzip.compress(PLAIN.encode()),
        sdf_of(["CCO", "c1ccccc1"]).encode(),
        b'a,"b";\t|\r\n\0\xff',
    ]
    for i in range(300):
        content = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 6)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path = write(tmp_path / f"f{i}", bytes(content[: rng.randint(1, len(content))]))
        with suppress(MolmetaError):
            assert len(read_table(path)) > 0
