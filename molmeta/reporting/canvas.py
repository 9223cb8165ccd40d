"""How figures look, and how they become files: one colour and marker a method, the same bytes for the same data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

# Okabe and Ito's palette, told apart by all common kinds of colour vision; without yellow, which paper does not show.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222")
MARKERS = "osD^vPX"
DASHES = ("-", "--", ":")
INK, GREY, FAINT = "#222222", "#767676", "#dddddd"
PANEL = (3.8, 3.0)  # inches: what fills a narrow screen with letters that can be read
WIDE = 4.8  # inches: a figure that stands alone
DPI = 200
STYLE: Any = {  # matplotlib has a type of its own for the names of its settings
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.columnspacing": 1.2,
    "text.parse_math": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "molmeta",
}


@dataclass(frozen=True)
class Panel:
    """One drawn figure.

    Attributes:
        name: of its files.
        alt: what it shows, for who does not see it.
        svg, png: the two files.
        width: inches.
    """

    name: str
    alt: str
    svg: bytes
    png: bytes
    width: float

    @property
    def pixels(self) -> int:
        """How wide it is shown, so that letters are as large in every figure."""
        return round(self.width * 104)


def colour(place: int) -> str:
    """A method's colour."""
    return PALETTE[place % len(PALETTE)]


def marker(place: int) -> str:
    """A method's marker; with the dashes it tells methods apart where colours repeat."""
    return MARKERS[(place + place // len(PALETTE)) % len(MARKERS)]


def dash(place: int) -> str:
    """A method's line style."""
    return DASHES[place // len(PALETTE) % len(DASHES)]


def look(place: int) -> dict[str, Any]:
    """Colour, marker and line style of a method, for ``Axes.plot``."""
    return {"color": colour(place), "marker": marker(place), "linestyle": dash(place)}


def shorten(name: str, length: int = 24) -> str:
    """A name that fits: where it is too long its middle goes, for names differ at either end."""
    head = length * 2 // 3
    return name if len(name) <= length else f"{name[:head].rstrip()}…{name[len(name) - length + head + 1 :].lstrip()}"


class Sheet:
    """A figure in the making: ``axes`` to draw on, then ``panel``."""

    def __init__(self, width: float, height: float) -> None:
        self.figure = Figure(figsize=(width, height), layout="constrained")
        self.axes: Axes = self.figure.add_subplot()

    def strip(self, share: float = 0.22) -> Axes:
        """A second, low pair of axes under the first, over the same values."""
        self.figure.clear()
        grid: tuple[Axes, Axes] = self.figure.subplots(2, 1, sharex=True, height_ratios=(1 - share, share))
        self.axes, below = grid
        return below

    def legend(self) -> None:
        """Name the methods below the axes, two a line."""
        handles, names = self.axes.get_legend_handles_labels()
        lines = -(-len(names) // 2)
        self.figure.set_figheight(self.figure.get_figheight() + 0.19 * lines)
        self.figure.legend(handles, [shorten(name) for name in names], loc="outside lower center", ncols=2)

    def panel(self, name: str, alt: str) -> Panel:
        """The finished files."""
        self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")  # laid out once for both files
        return Panel(name, alt, self._bytes("svg"), self._bytes("png"), self.figure.get_figwidth())

    def _bytes(self, form: str) -> bytes:
        buffer = BytesIO()
        metadata = {"Date": None, "Creator": None} if form == "svg" else {"Software": None}
        self.figure.savefig(buffer, format=form, dpi=DPI, metadata=metadata)
        return buffer.getvalue()


@contextmanager
def sheet(width: float = PANEL[0], height: float = PANEL[1]) -> Iterator[Sheet]:
    """A figure in the report's style; draw and save it inside."""
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, "backend": matplotlib.rcParams["backend"], **STYLE}):
        yield Sheet(width, height)


def log_values(axis: Axis) -> None:
    """A logarithmic axis with plain numbers at 1, 2 and 5 of each decade."""
    axis.set_major_locator(LogLocator(10, (1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def log_sizes(axes: Axes, sizes: Sequence[int]) -> None:
    """Support sizes on a logarithmic axis, each with its number."""
    axes.set_xscale("symlog", base=2, linthresh=1)  # as log; 0, too, has a place
    axes.set_xticks(list(sizes), [str(size) for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("labelled molecules")
