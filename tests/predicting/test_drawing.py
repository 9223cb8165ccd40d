"""Drawn reasons as a browser, an XML parser and an image reader see them."""

from __future__ import annotations

import io
import re
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from molmeta.errors import ConfigError, InputError
from molmeta.estimators import FewShotClassifier, FewShotRegressor
from molmeta.predicting.drawing import draw_reasons
from molmeta.predicting.reasons import Reasons
from molmeta.predicting.tiles import DOWN, HEIGHT, UP, WIDTH, Box, Text, Tile, row_of
from tests.bundles import DRUGS, labels, tiny_bundle

QUERY = [DRUGS[10], "C1CC", DRUGS[11]]
AWKWARD = np.array(["<b>on</b> & on", "off"])


@pytest.fixture(scope="module")
def reasons() -> Reasons:
    support = [*DRUGS[:7], DRUGS[0]]
    model = FewShotClassifier(tiny_bundle(members=2), on_invalid="nan").fit(support, AWKWARD[labels(8)])
    return model.explain(QUERY)


def texts(tile: Tile) -> str:
    return "\n".join(mark.text for mark in tile.marks if isinstance(mark, Text))


def test_a_row_holds_the_molecule_its_strongest_and_its_most_similar_support(reasons):
    asked, *moved = row_of(reasons, 0, 3)
    nearest = int(reasons.similarity[0].argmax())
    named = [int(j) for j in reasons.strongest(3)[0]]
    assert [tile.smiles for tile in moved] == [
        reasons.support[j] for j in [*named, *([nearest] if nearest not in named else [])]
    ]
    assert asked.smiles == QUERY[0]
    for part in (reasons.prediction, reasons.base, reasons.prior_part, reasons.support_part):
        assert f"{abs(part[0]):.3f}" in texts(asked)
    assert f"nearest training molecule: {reasons.training_similarity[0]:.2f}" in texts(asked)


def test_a_tile_says_label_influence_and_similarity_and_its_bar_is_in_proportion(reasons):
    named = reasons.strongest(8)[0]
    tiles = row_of(reasons, 0, 8)[1:]
    widths = []
    for j, tile in zip(named[named >= 0], tiles, strict=True):
        influence = reasons.influence[0, j]
        assert f"measured: {reasons.labels[j]}"[:18] in texts(tile)
        assert f"{'raises' if influence >= 0 else 'lowers'} it by {abs(influence):.3f}" in texts(tile)
        assert f"similarity {reasons.similarity[0, j]:.2f}" in texts(tile)
        (bar,) = [m for m in tile.marks if isinstance(m, Box) and m.colour in (UP, DOWN)]
        assert bar.colour == (UP if influence >= 0 else DOWN)
        assert (bar.x >= WIDTH / 2) == (influence >= 0)
        widths.append(bar.width)
    size = np.abs(reasons.influence[0, named[named >= 0]])
    np.testing.assert_allclose(widths, np.maximum(1.5, widths[0] * size / size[0]))
    assert "in 2 rows" in texts(tiles[named.tolist().index(0)])


def test_the_bars_of_the_parts_lead_from_nothing_to_the_prediction(reasons):
    marks = [m for m in row_of(reasons, 2, 1)[0].marks if isinstance(m, Box)][1:]
    axis, base = marks[0].width / reasons.base[2], marks[0]
    end = base.x + axis * reasons.prediction[2]
    support = marks[2]
    assert min(abs(support.x - end), abs(support.x + support.width - end)) < 2


def test_nothing_stands_outside_its_tile(reasons):
    for i in range(len(reasons)):
        for tile in row_of(reasons, i, 4):
            for mark in tile.marks:
                right = mark.x + mark.width if isinstance(mark, Box) else mark.x
                assert 0 <= mark.x <= right <= WIDTH
                assert 0 <= mark.y <= HEIGHT - 8


def test_what_cannot_be_left_out_says_so():
    model = FewShotClassifier(tiny_bundle()).fit(DRUGS[:6], [1, 0, 0, 0, 0, 0])
    told = [texts(tile) for tile in row_of(model.explain([DRUGS[0]]), 0, 2)]
    assert "cannot be left out" in told[-1]
    assert "(the most similar)" in told[-1]


def test_the_page_holds_every_molecule_and_no_script(reasons, tmp_path):
    html = reasons.draw(tmp_path / "a.html", count=3).read_text(encoding="utf-8")
    for i in (0, 2):
        for tile in row_of(reasons, i, 3):
            assert f"<figcaption>{tile.smiles}</figcaption>" in html
            assert all(mark.text in unescape(html) for mark in tile.marks if isinstance(mark, Text))
    assert "ring opened but never closed" in html
    assert "<b>on" not in html
    assert not re.search(r"<script|\bon\w+=|https?://(?!www\.w3\.org|www\.rdkit\.org)|<link|@import", html)
    assert "default-src 'none'" in html
    assert html.count("<section>") == html.count("</section>") == 3
    assert html.count("<svg") == html.count("</svg>")


def test_the_sheet_is_well_formed_svg_and_a_png_of_twice_its_size(reasons, tmp_path):
    root = ElementTree.fromstring(reasons.draw(tmp_path / "a.svg").read_text(encoding="utf-8"))
    tiles = [child for child in root if child.tag.endswith("}svg")]
    assert len(tiles) == sum(len(row_of(reasons, i, 4)) for i in range(3))
    image = Image.open(io.BytesIO(reasons.draw(tmp_path / "a.png").read_bytes()))
    assert image.size == (2 * int(root.get("width")), 2 * int(root.get("height")))
    colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20)}
    assert {tuple(bytes.fromhex(c[1:])) for c in (UP, DOWN)} & colours


def test_several_assays_stand_under_their_names(reasons, tmp_path):
    values = FewShotRegressor(tiny_bundle()).fit(DRUGS, np.linspace(4, 9, 12)).explain(QUERY[:1])
    named = [type(reasons)(**{**vars(each), "assay": name}) for each, name in ((reasons, "one & one"), (values, "two"))]
    html = draw_reasons(named, tmp_path / "a.html").read_text()
    assert re.findall(r"<h2>(.*?)</h2>", html) == ["one &amp; one", "two"]
    assert f"value: {values.prediction[0]:.3g}" in html
    for form in ("svg", "png"):
        assert draw_reasons(named, tmp_path / f"a.{form}").stat().st_size > 1000


def test_no_molecule_is_a_page_too(tmp_path):
    model = FewShotClassifier(tiny_bundle(), on_invalid="nan").fit(DRUGS, labels(12))
    for form in ("html", "svg", "png"):
        assert model.explain([]).draw(tmp_path / f"none.{form}").exists()
        assert model.explain(["C1CC"]).draw(tmp_path / f"bad.{form}").exists()


def test_a_wrong_form_or_count_and_a_file_that_stands_there_are_refused(reasons, tmp_path):
    with pytest.raises(InputError, match=r"drawn as \.html, \.svg or \.png, not as \.pdf"):
        reasons.draw(tmp_path / "a.pdf")
    with pytest.raises(ConfigError, match="1 or more, not 0"):
        reasons.draw(tmp_path / "a.html", count=0)
    Path(tmp_path / "b.html").write_text("precious")
    with pytest.raises(InputError, match=r"b\.html"):
        reasons.draw(tmp_path / "b.html")
    assert reasons.draw(tmp_path / "b.html", force=True).read_text().startswith("<!DOCTYPE")
