"""Reasons drawn: each molecule at the left, then the support molecules that moved its prediction, and the most similar.

A row is made of tiles, a tile of texts, boxes and one molecule; an HTML page, an SVG and a PNG are the same tiles.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from molmeta.domains.molecules import depict
from molmeta.errors import ConfigError, InputError
from molmeta.files import check_writable, write_whole
from molmeta.predicting.reasons import Reasons
from molmeta.predicting.tiles import GREY, HEIGHT, INK, RULE, TOP, WASH, WIDTH, Box, Text, Tile, row_of

GAP, MARGIN = 12, 16
_SCALE = 2  # of the PNG
_FONT = "system-ui, -apple-system, Segoe UI, Arial, Liberation Sans, sans-serif"
_LEGEND = (
    "A prediction is the base (what is expected of any molecule: the support's share of the class, or the prior that "
    "was given; for values the support's mean), plus the prior part (what the model learned of such molecules in "
    "training), plus the support part (what comparing it with the support did). The influence of a support molecule is "
    "by how much the prediction falls when the model reads the support without it (and its copies): exact, one "
    "molecule at a time. Blue raises the prediction, orange lowers it. Similarity is count-Morgan Tanimoto; the "
    "nearest training molecule is the most similar in a random sample of the molecules that the model was trained on."
)


def draw_reasons(reasons: Sequence[Reasons], path: str | Path, count: int = 4, force: bool = False) -> Path:
    """Draw the reasons of one or more assays as one file; see :meth:`Reasons.draw`."""
    path = check_form(path, force)
    if count < 1:
        raise ConfigError(f"the number of support molecules to draw is 1 or more, not {count}")
    rows = [[row_of(each, i, count) for i in range(len(each))] for each in reasons]
    titles = [each.assay for each in reasons]
    form = path.suffix.lower()
    if form == ".html":
        content = _page(titles, rows).encode()
    elif form == ".svg":
        content = _svg_sheet(titles, rows).encode()
    else:
        content = _png_sheet(titles, rows)
    write_whole(path, content)
    return path


def check_form(path: str | Path, force: bool = False) -> Path:
    """The path of a drawing.

    Raises:
        InputError: the file stands there already, or is to have another form.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".svg", ".png"):
        raise InputError(f"{path}: reasons are drawn as .html, .svg or .png, not as {path.suffix or 'a bare name'}")
    check_writable(path, force)
    return path


def _svg(tile: Tile, x: float = 0, y: float = 0) -> str:
    """A tile as an SVG element."""
    drawn = depict.draw(tile.smiles)
    picture = drawn.decode() if drawn else ""
    left = (WIDTH - depict.WIDTH) / 2
    picture = picture[picture.find("<svg") :].replace("<svg ", f'<svg x="{left}" y="{TOP}" ', 1)
    fill, line = (WASH, INK) if tile.wash else ("#ffffff", RULE)
    return (
        f'<svg x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="{_FONT}"><title>{escape(tile.smiles)}</title>'
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" fill="{fill}" stroke="{line}"/>'
        f"{picture}{''.join(_svg_mark(mark) for mark in tile.marks)}</svg>"
    )


def _svg_mark(mark: Text | Box) -> str:
    if isinstance(mark, Box):
        size = f'width="{mark.width:.1f}" height="{mark.height}"'
        return f'<rect x="{mark.x:.1f}" y="{mark.y}" {size} fill="{mark.colour}"/>'
    weight = ' font-weight="600"' * mark.bold
    return (
        f'<text x="{mark.x}" y="{mark.y}" font-size="{mark.size}" fill="{mark.colour}" text-anchor="{mark.anchor}"'
        f"{weight}>{escape(mark.text)}</text>"
    )


Rows = Sequence[Sequence[Tile]]  # of one assay


def _page(titles: Sequence[str], rows: Sequence[Rows]) -> str:
    body = []
    for title, own in zip(titles, rows, strict=True):
        body.append(f"<h2>{escape(title)}</h2>" if title else "")
        for tiles in own:
            asked, *moved = (
                f"<figure>{_svg(tile)}<figcaption>{escape(tile.smiles)}</figcaption></figure>" for tile in tiles
            )
            body.append(f"<section>{asked}<div>{''.join(moved)}</div></section>")
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>Reasons: molmeta</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>Reasons</h1>\n"
        f"<p>{escape(_LEGEND)}</p>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


_STYLE = f"""
body {{ margin: 0 auto; max-width: 1560px; padding: 1rem clamp(.8rem, 3vw, 2.5rem) 4rem; color: {INK}; background: #fff;
  font: 16px/1.5 {_FONT}; }}
h1 {{ font-size: 1.6rem; margin: .3rem 0; }}
h2 {{ font-size: 1.25rem; margin: 2rem 0 .6rem; }}
p {{ max-width: 58rem; color: {GREY}; font-size: .94rem; }}
section {{ display: grid; grid-template-columns: {WIDTH}px minmax(0, 1fr); gap: {GAP}px; margin: 1.2rem 0;
  padding-top: 1.2rem; border-top: 1px solid {RULE}; break-inside: avoid; }}
section > div {{ display: flex; flex-wrap: wrap; gap: {GAP}px; }}
@media (max-width: 560px) {{ section {{ display: block; }} section > div {{ margin-top: {GAP}px; }} }}
figure {{ margin: 0; width: {WIDTH}px; }}
figure > svg {{ display: block; }}
figcaption {{ font: .72rem/1.35 ui-monospace, "DejaVu Sans Mono", monospace; color: {GREY}; overflow-wrap: anywhere;
  margin-top: .3rem; }}
"""


def _places(titles: Sequence[str], rows: Sequence[Rows]) -> tuple[list[tuple[str, float]], list[float], int, int]:
    """Where each title and each row of a sheet stands, and the sheet's size in pixels."""
    y, heads, tops = float(MARGIN), [], []
    for title, own in zip(titles, rows, strict=True):
        if title:
            heads.append((title, y + 18))
            y += 30
        for _ in own:
            tops.append(y)
            y += HEIGHT + GAP
    widest = max((len(tiles) for own in rows for tiles in own), default=1)
    return heads, tops, 2 * MARGIN + widest * (WIDTH + GAP) - GAP, round(y - GAP + MARGIN)


def _svg_sheet(titles: Sequence[str], rows: Sequence[Rows]) -> str:
    heads, tops, width, height = _places(titles, rows)
    inner = [
        f'<text x="{MARGIN}" y="{y}" font-size="18" font-weight="600" fill="{INK}" '
        f'font-family="{_FONT}">{escape(title)}</text>'
        for title, y in heads
    ]
    every = [tiles for own in rows for tiles in own]
    for top, tiles in zip(tops, every, strict=True):
        inner += [_svg(tile, MARGIN + n * (WIDTH + GAP), top) for n, tile in enumerate(tiles)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f"<desc>{escape(_LEGEND)}</desc>" + "\n".join(inner) + "</svg>\n"
    )


def _png_sheet(titles: Sequence[str], rows: Sequence[Rows]) -> bytes:
    heads, tops, width, height = _places(titles, rows)
    sheet = Image.new("RGB", (_SCALE * width, _SCALE * height), "white")
    pen = ImageDraw.Draw(sheet)
    for title, y in heads:
        _write(pen, Text(0, 0, title, 18, bold=True), MARGIN, y)
    every = [tiles for own in rows for tiles in own]
    for top, tiles in zip(tops, every, strict=True):
        for n, tile in enumerate(tiles):
            _paint(sheet, pen, tile, MARGIN + n * (WIDTH + GAP), top)
    content = io.BytesIO()
    sheet.save(content, "PNG")
    return content.getvalue()


def _paint(sheet: Image.Image, pen: ImageDraw.ImageDraw, tile: Tile, x: float, y: float) -> None:
    def area(left: float, top: float, width: float, height: float) -> tuple[float, float, float, float]:
        x0, y0 = round(_SCALE * (x + left)), round(_SCALE * (y + top))
        return x0, y0, x0 + max(0, round(_SCALE * width) - 1), y0 + max(0, round(_SCALE * height) - 1)

    fill, line = (WASH, INK) if tile.wash else ("#ffffff", RULE)
    pen.rectangle(area(0, 0, WIDTH, HEIGHT), fill=fill, outline=line, width=_SCALE)
    if drawn := depict.draw_png(tile.smiles, _SCALE):
        picture = Image.open(io.BytesIO(drawn)).convert("RGBA")
        left, top, *_ = area((WIDTH - depict.WIDTH) / 2, TOP, 0, 0)
        sheet.paste(picture, (round(left), round(top)), picture)
    for mark in tile.marks:
        if isinstance(mark, Box):
            pen.rectangle(area(mark.x, mark.y, mark.width, mark.height), fill=mark.colour)
        else:
            _write(pen, mark, x, y)


def _write(pen: ImageDraw.ImageDraw, mark: Text, x: float, y: float) -> None:
    font = ImageFont.load_default(_SCALE * mark.size)
    anchor = "rs" if mark.anchor == "end" else "ls"
    at = (_SCALE * (x + mark.x), _SCALE * (y + mark.y))
    # The font has one weight: bold is drawn twice, a pixel apart.
    for shift in (0, 1) if mark.bold else (0,):
        pen.text((at[0] + shift, at[1]), mark.text, fill=mark.colour, font=font, anchor=anchor)
