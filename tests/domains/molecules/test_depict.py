"""Drawn molecules: what is not read is not drawn, and what is drawn carries nothing but lines."""

from __future__ import annotations

import io
from xml.etree import ElementTree

from PIL import Image

from molmeta.domains.molecules.depict import HEIGHT, WIDTH, draw, draw_png


def test_a_png_is_as_large_as_asked_for_and_its_ground_is_clear():
    image = Image.open(io.BytesIO(draw_png("c1ccccc1O", 3) or b""))
    assert image.size == (3 * WIDTH, 3 * HEIGHT)
    assert image.convert("RGBA").getpixel((0, 0))[3] == 0
    assert len(image.convert("RGBA").getcolors(1 << 20) or []) > 2


def test_an_svg_is_well_formed_and_of_its_size():
    root = ElementTree.fromstring(draw("c1ccccc1O a name & more") or b"")
    assert root.get("width") == f"{WIDTH}px"


def test_what_is_not_read_is_not_drawn():
    assert [draw(text) for text in ("C1CC", "", "no molecule")] == [None] * 3
    assert [draw_png(text) for text in ("C1CC", "", "no molecule")] == [None] * 3
