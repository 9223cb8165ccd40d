"""The page as a browser reads it: well-formed, self-contained, accessible, the same each time."""

from __future__ import annotations

import re
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from molmeta.core.task import TaskKind
from molmeta.domains.molecules.depict import draw
from molmeta.reporting import write_report
from molmeta.reporting.canvas import PALETTE, colour, dash, marker
from tests.made_results import made_result

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Collects tags, and fails where they do not match."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def headings(self) -> list[str]:
        return re.findall(r"<h2>(.*?)</h2>", self.html)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("two")
    seen = {"molecules": 10, "trained_molecules": 5, "tasks": 8, "trained_tasks": ["assay 3"]}
    ours = made_result(root / "ours", "ours", overlap=seen, command="molmeta evaluate ours")
    other = made_result(root / "other", "other", noise=2.0)
    return write_report([ours, other], root / "report").parent


def test_a_full_report_has_every_section_and_a_link_to_each(two: Path) -> None:
    page = Page(two / "index.html")
    keys = [attributes["id"] for attributes in page.all("section")]
    assert keys == ["question", "scores", "tasks", "tests", "groups", "calibration", "cost", "audit", "assays"]
    assert [attributes["href"] for attributes in page.all("a")] == [f"#{key}" for key in keys]
    assert "ours" in page.text


def test_the_page_needs_nothing_from_elsewhere_and_runs_nothing(two: Path) -> None:
    page = Page(two / "index.html")
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert all(str(image["src"]).startswith("data:image/svg+xml;base64,") for image in page.all("img"))
    assert not re.search(r"url\(|@import|https?:", page.html)


def test_every_image_has_words_for_who_does_not_see_it(two: Path) -> None:
    page = Page(two / "index.html")
    assert all(image["alt"] for image in page.all("img"))
    assert any("reliability" in str(image["alt"]).lower() for image in page.all("img"))
    assert len(page.all("h1")) == 1


def test_figures_stand_beside_the_page_in_both_forms(two: Path) -> None:
    names = {path.name for path in (two / "figures").iterdir()}
    stems = {name.split(".")[0] for name in names}
    assert stems >= {"learning-curves", "scatter-8", "differences-16", "reliability-8", "cost", "by-enzyme-class"}
    assert names == {f"{stem}.{form}" for stem in stems for form in ("svg", "png")}
    for path in (two / "figures").glob("*.svg"):
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (two / "figures").glob("*.png"))


def test_a_method_has_one_colour_in_the_page_and_in_its_figures(two: Path) -> None:
    curves = (two / "figures" / "learning-curves.svg").read_text().lower()
    assert PALETTE[0].lower() in curves
    assert PALETTE[1].lower() in curves
    assert f"--c: {PALETTE[0]}" in (two / "index.html").read_text(encoding="utf-8")
    assert len({(colour(i), marker(i), dash(i)) for i in range(20)}) == 20


def test_equal_results_give_equal_reports(two: Path, tmp_path: Path) -> None:
    again = write_report([two.parent / "ours", two.parent / "other"], tmp_path / "again").parent
    for path in (path for path in two.rglob("*") if path.is_file()):
        assert path.read_bytes() == (again / path.relative_to(two)).read_bytes(), path.name


def test_what_was_trained_on_is_marked_wherever_it_stands(two: Path) -> None:
    page = Page(two / "index.html")
    assert "† marks tasks that a model was trained on" in page.text
    assert "Trained on: assay 3 (ours)" in page.text
    assert "Hollow points" in page.text
    assert not re.search(r"assay 3(?! †| \(ours\))", page.text)


def test_published_results_stand_apart_with_a_warning_unless_the_fold_is_theirs(two: Path, tmp_path: Path) -> None:
    page = Page(two / "index.html")
    assert "apart" in [attributes.get("class") for attributes in page.all("div")]
    assert "The two are not to be compared" in page.text
    result = made_result(tmp_path / "a", tasks=["x"], protocol={"split": "test"})
    page = Page(write_report([result], tmp_path / "report"))
    assert "ADKF-IFT" in page.text
    assert "not to be compared" not in page.text
    other = made_result(tmp_path / "b", tasks=["x"], protocol={"source": "mine"})
    assert "ADKF-IFT" not in Page(write_report([other], tmp_path / "report", force=True)).text


def test_a_benchmark_is_led_by_the_metric_of_its_literature(tmp_path: Path) -> None:
    asked = {"source": "moleculenet", "name": "tox21", "split": "test"}
    page = Page(write_report([made_result(tmp_path / "a", tasks=["x", "y"], protocol=asked)], tmp_path / "report"))
    assert "reaches ROC-AUC" in page.text
    assert "Published ROC-AUC" in page.text


def test_data_cannot_write_html(tmp_path: Path) -> None:
    evil = '<script>alert("1")</script>&<img src=x onerror=alert(2)>'
    result = made_result(
        tmp_path / "a",
        f"{evil} $x^2$",
        tasks=[evil, f"{evil}2"],
        description={"target": evil, evil: evil},
        smiles=[evil, f"C |${evil}$|", "C<", "CCO"],
        protocol={"source": evil, "draws": evil, "settings": [evil]},
        model={"name": evil, evil: evil},
        command=evil,
        environment={evil: evil},
        overlap={"trained_tasks": [evil]},
    )
    page = Page(write_report([result, result], tmp_path / "report"))
    assert "script" not in {tag for tag, _ in page.tags}
    assert all("onerror" not in image for image in page.all("img"))
    assert "<script" not in page.html
    assert evil in page.text
    for image in page.all("img"):
        root = ElementTree.fromstring(b64decode(str(image["src"]).split(",")[1]))
        assert not [element for element in root.iter() if element.tag.endswith("script")]


def test_a_table_alone_gives_a_shorter_report(tmp_path: Path) -> None:
    folder = made_result(tmp_path / "a")
    page = Page(write_report([folder / "scores.csv"], tmp_path / "report"))
    assert [attributes["id"] for attributes in page.all("section")] == ["question", "scores", "cost", "audit"]


def test_a_header_with_little_in_it_is_enough(tmp_path: Path) -> None:
    folder = made_result(tmp_path / "a", tasks=["x"])
    (folder / "result.json").write_text('{"method": "a", "protocol": {"kind": "binary"}}')
    assert "assays" in [part["id"] for part in Page(write_report([folder], tmp_path / "report")).all("section")]


def test_a_minimal_table_is_enough(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("task,support_size,seed,roc_auc\na,16,0,0.5\n")
    page = Page(write_report([tmp_path / "mine.csv"], tmp_path / "report"))
    assert [attributes["id"] for attributes in page.all("section")] == ["question", "scores"]


@pytest.mark.parametrize("kind", [TaskKind.REGRESSION, TaskKind.MULTICLASS])
def test_every_kind_of_task_has_a_report(kind: TaskKind, tmp_path: Path) -> None:
    paths = [made_result(tmp_path / n, n, kind=kind, noise=0.5 + i, sizes=[9]) for i, n in enumerate("ab")]
    page = Page(write_report(paths, tmp_path / "report"))
    assert "calibration" in [attributes["id"] for attributes in page.all("section")]
    assert "chance" not in page.text


def test_one_task_and_one_draw_are_enough(tmp_path: Path) -> None:
    paths = [made_result(tmp_path / n, n, tasks=["x"], sizes=[8], seeds=1) for n in "ab"]
    page = Page(write_report(paths, tmp_path / "report"))
    assert "The assay" in page.text
    assert "nan" not in page.text.lower().split()


def test_ten_methods_are_ranked(tmp_path: Path) -> None:
    names = [f"a method with a rather long name, variant {i}" for i in range(10)]
    paths = [made_result(tmp_path / str(i), n, noise=0.2 + 0.3 * i, sizes=[8], seeds=1) for i, n in enumerate(names)]
    page = Page(write_report(paths, tmp_path / "report"))
    assert "Mean rank over tasks" in page.text
    assert (tmp_path / "report" / "figures" / "ranks-8.svg").is_file()
    assert all(name in page.text for name in names)


def test_a_molecule_that_cannot_be_read_is_not_drawn() -> None:
    assert draw("C1CC") is None
    assert draw("") is None
    drawn = draw("CCO a name")
    assert drawn is not None
    assert b"<script" not in (draw("C |$<script>$|") or b"")
    assert drawn == draw("CCO")
