"""Figures of predictions: whether probabilities and deviations can be believed."""

from __future__ import annotations

from collections.abc import Mapping

from molmeta.evaluation.calibration import HISTOGRAM_BINS, Calibration, Coverage
from molmeta.reporting.canvas import GREY, PANEL, Panel, look, sheet
from molmeta.reporting.study import Method
from molmeta.reporting.words import number

Calibrations = Mapping[Method, Calibration]
FEW = 4  # methods up to which each gets markers and its histogram


def reliability_diagram(found: Calibrations, size: int, kind_of_class: str = "actives") -> Panel:
    """Observed share against predicted probability, and below it how often each probability is given."""
    with sheet(PANEL[0], 4.2) as made:
        below = made.strip()
        axes = made.axes
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.9)
        edges = [i / HISTOGRAM_BINS for i in range(HISTOGRAM_BINS + 1)]
        few = len(found) <= FEW
        for method, calibration in found.items():
            style = look(method.place) | ({} if few else {"marker": ""})
            axes.plot(
                calibration.predicted, calibration.observed, label=method.name, markersize=4, clip_on=False, **style
            )
            if few or method.place == 0:
                below.stairs(calibration.histogram, edges, color=style["color"], linewidth=1.1)
        axes.set(xlim=(0, 1), ylim=(0, 1), ylabel=f"share of {kind_of_class}", title=f"{size} labelled")
        below.set(xlabel="predicted probability", ylabel="how often", ylim=(0, None))
        below.set_yticks([])
        made.legend()
        errors = ", ".join(f"{method.name} {number(c.ece)}" for method, c in found.items())
        return made.panel(
            f"reliability-{size}", f"Reliability at {size} labelled molecules; pooled calibration error: {errors}."
        )


def risk_coverage(found: Calibrations, size: int) -> Panel:
    """The error rate among the most certain predictions."""
    with sheet() as made:
        axes = made.axes
        for method, calibration in found.items():
            style = look(method.place) | {"marker": ""}
            axes.plot(calibration.kept, calibration.error, label=method.name, **style)
        axes.set(xlim=(0, 1), ylim=(0, None), xlabel="share kept, most certain first", ylabel="error rate")
        axes.set_title(f"{size} labelled")
        made.legend()
        told = ", ".join(
            f"{method.name} {number(c.error[-1])} of all, {number(c.error[len(c.error) // 2])} of the surer half"
            for method, c in found.items()
        )
        return made.panel(f"risk-coverage-{size}", f"Error rate at {size} labelled molecules: {told}.")


def interval_coverage(found: Mapping[Method, Coverage], size: int) -> Panel:
    """How many values lie inside the predicted central interval, by its level."""
    with sheet(PANEL[0], 3.5) as made:
        axes = made.axes
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.9)
        for method, coverage in found.items():
            axes.plot(coverage.levels, coverage.observed, label=method.name, markersize=3.5, **look(method.place))
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="predicted central interval", ylabel="share of values inside")
        axes.set_title(f"{size} labelled")
        made.legend()
        told = ", ".join(f"{method.name} {number(c.observed[-2])}" for method, c in found.items())
        return made.panel(f"coverage-{size}", f"Coverage at {size} labelled molecules; inside the 90 %: {told}.")
