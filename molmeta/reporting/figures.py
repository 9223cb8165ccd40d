"""Figures of scores; one function a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from molmeta.core.task import FloatArray
from molmeta.evaluation.breakdowns import Breakdown
from molmeta.evaluation.comparisons import Ranks, bootstrap_interval
from molmeta.reporting.canvas import (
    FAINT,
    GREY,
    INK,
    PANEL,
    WIDE,
    Panel,
    colour,
    log_sizes,
    log_values,
    look,
    marker,
    sheet,
    shorten,
)
from molmeta.reporting.study import Method, Study
from molmeta.reporting.words import count, metric, number, signed

BANDS = 2  # methods up to which intervals are bands
_FLOOR = -1.0  # R² below is drawn here: it has no lower end


def learning_curves(study: Study) -> Panel:
    """The leading metric by support size, a band a method."""
    with sheet(WIDE, 3.7) as made:
        axes = made.axes
        for method in study.methods:
            _learning_curve(axes, study, method)
        chance = [study.first.summary("chance", size).mean for size in study.sizes]
        if study.metric == "delta_auprc" and np.isfinite(chance).any():
            axes.plot(study.sizes, chance, color=GREY, linestyle=":", linewidth=1.2, label="chance")
        log_sizes(axes, study.sizes)
        axes.set_ylabel(metric(study.metric).title)
        made.legend()
        means = "; ".join(
            f"{m.name} {number(m.summary(study.metric, s).mean)}" for s in study.sizes[:1] for m in study.methods
        )
        title = metric(study.metric).title
        return made.panel(
            "learning-curves", f"{title} against the number of labelled molecules; at {study.sizes[0]}: {means}."
        )


def _learning_curve(axes: Axes, study: Study, method: Method) -> None:
    """A line with its bootstrap intervals: as a band, or as bars side by side where bands would cover one another."""
    sizes = np.array([size for size in study.sizes if method.means(study.metric, size)])
    values = [list(method.means(study.metric, size).values()) for size in sizes]
    means, bands = np.array([np.mean(v) for v in values]), np.array([bootstrap_interval(v) for v in values])
    style, shade = look(method.place), colour(method.place)
    if len(study.methods) <= BANDS:
        axes.plot(sizes, means, label=method.name, **style)
        axes.fill_between(sizes, bands[:, 0], bands[:, 1], color=shade, alpha=0.15, linewidth=0)
        return
    aside = sizes * 2 ** (0.36 * ((method.place + 0.5) / len(study.methods) - 0.5))
    axes.plot(aside, means, label=method.name, **style)
    axes.vlines(aside, bands[:, 0], bands[:, 1], color=shade, linewidth=1, alpha=0.7)


def _paired(study: Study, size: int) -> tuple[list[str], FloatArray, FloatArray]:
    """Shared tasks, and the means of the first method and of the baseline."""
    assert study.baseline is not None
    ours, theirs = study.first.means(study.metric, size), study.baseline.means(study.metric, size)
    tasks = sorted(ours.keys() & theirs.keys())
    return tasks, np.array([ours[t] for t in tasks]), np.array([theirs[t] for t in tasks])


def scatter(study: Study, size: int) -> Panel | None:
    """The first method against the baseline, a point a task."""
    tasks, ours, theirs = _paired(study, size)
    if not tasks or study.baseline is None:
        return None
    above = int((ours > theirs).sum())
    ours, theirs = _floored(study, ours), _floored(study, theirs)
    low, high = min(ours.min(), theirs.min()), max(ours.max(), theirs.max())
    margin = 0.06 * (high - low) or 0.05
    trained = np.array([task in study.trained for task in tasks])
    with sheet(PANEL[0], 3.7) as made:
        axes = made.axes
        axes.plot([low - margin, high + margin], [low - margin, high + margin], color=GREY, linewidth=0.9, zorder=1)
        shades = np.where(ours >= theirs, colour(study.first.place), colour(study.baseline.place))
        for mask, fill in ((~trained, True), (trained, False)):
            faces: Any = shades[mask] if fill else "none"
            axes.scatter(theirs[mask], ours[mask], s=22, facecolors=faces, edgecolors=shades[mask], alpha=0.8)
        axes.set(
            xlim=(low - margin, high + margin),
            ylim=(low - margin, high + margin),
            aspect="equal",
            xlabel=shorten(study.baseline.name, 36),
            ylabel=shorten(study.first.name, 36),
            title=f"{size} labelled: {above} of {len(tasks)} above",
        )
        alt = (
            f"{metric(study.metric).title} of {study.first.name} against {study.baseline.name} at {size} labelled "
            f"molecules: {above} of {count(len(tasks), 'task')} lie above the diagonal."
        )
        return made.panel(f"scatter-{size}", alt)


def _floored(study: Study, values: FloatArray) -> FloatArray:
    return np.maximum(values, _FLOOR) if study.metric == "r2" else values


def ranked_differences(study: Study, size: int) -> Panel | None:
    """The first method minus the baseline, a bar a task, in order."""
    tasks, ours, theirs = _paired(study, size)
    if not tasks or study.baseline is None:
        return None
    gaps = ours - theirs
    order = np.argsort(-gaps, kind="stable")
    shades = np.where(gaps >= 0, colour(study.first.place), colour(study.baseline.place))
    low, high = bootstrap_interval(gaps)
    with sheet(PANEL[0], 2.7) as made:
        axes = made.axes
        shown = np.clip(gaps, _FLOOR, -_FLOOR) if study.metric == "r2" else gaps
        axes.bar(np.arange(len(gaps)), shown[order], color=shades[order], width=0.85)
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.axhline(gaps.mean(), color=INK, linewidth=1, linestyle="--")
        if np.isfinite(low):
            axes.axhspan(low, high, color=INK, alpha=0.12, linewidth=0)
        axes.grid(axis="x", visible=False)
        axes.set_xticks([])
        axes.set(
            xlabel=f"{count(len(tasks), 'task')}, in order",
            ylabel=f"difference in {metric(study.metric).title}",
            title=f"{size} labelled: mean {signed(gaps.mean())}",
        )
        alt = (
            f"{study.first.name} minus {study.baseline.name} for each task at {size} labelled molecules, in order; "
            f"mean {signed(gaps.mean())}, from {signed(gaps.max())} to {signed(gaps.min())}."
        )
        return made.panel(f"differences-{size}", alt)


def breakdown(study: Study, way: Breakdown, size: int) -> Panel | None:
    """Means and standard errors by group of tasks."""
    found = {group: counted for group, tasks in way.groups.items() if (counted := group_means(study, tasks, size))}
    if len(found) < 2:
        return None
    rows, methods = list(found), len(study.methods)
    step = 0.64 / methods
    with sheet(WIDE, 1.0 + len(rows) * max(0.34, 0.13 * methods)) as made:
        axes = made.axes
        for method in study.methods:
            shift = step * (method.place - (methods - 1) / 2)
            points = [(i + shift, *found[g][method.name]) for i, g in enumerate(rows) if method.name in found[g]]
            y, mean, error, _ = np.array(points).reshape(-1, 4).T
            style: dict[str, Any] = {"color": colour(method.place), "marker": marker(method.place)}
            axes.errorbar(mean, y, xerr=np.nan_to_num(error), linestyle="none", label=method.name, **style)
        axes.set_yticks(range(len(rows)), [_group_label(g, found[g]) for g in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.grid(axis="y", visible=False)
        for i in range(1, len(rows)):
            axes.axhline(i - 0.5, color=FAINT, linewidth=0.6)
        axes.set(xlabel=metric(study.metric).title)
        made.legend()
        alt = f"{metric(study.metric).title} at {size} labelled molecules {way.title}: " + "; ".join(
            f"{group}: " + ", ".join(f"{name} {number(v[0])}" for name, v in found[group].items()) for group in rows
        )
        return made.panel(f"by-{way.name}", alt + ".")


def group_means(study: Study, tasks: Sequence[str], size: int) -> dict[str, tuple[float, float, int]]:
    """Method to mean, standard error and number of tasks, of a group's tasks that it has."""
    found = {}
    for method in study.methods:
        means = method.means(study.metric, size)
        if values := [means[task] for task in tasks if task in means]:
            error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
            found[method.name] = (float(np.mean(values)), error, len(values))
    return found


def _group_label(group: str, counted: Mapping[str, tuple[float, float, int]]) -> str:
    numbers = sorted({n for _, _, n in counted.values()})
    told = "–".join(map(str, {numbers[0]: 0, numbers[-1]: 0}))
    return f"{shorten(group)}\n{told} task{'' if numbers == [1] else 's'}"


def seconds_per_draw(method: Method, size: int) -> float:
    """Seconds to adapt and predict a draw, with its share of embedding the task; NaN where it was not measured."""
    draws: dict[str, int] = {}
    for score in method.result.scores:
        if score.subset == "all":
            draws[score.task] = draws.get(score.task, 0) + 1
    own, shared = method.means("seconds", size), method.means("encode_seconds", size)
    costs = [seconds + shared.get(task, 0.0) / draws[task] for task, seconds in own.items()]
    return float(np.mean(costs)) if costs else float("nan")


def cost(study: Study) -> Panel | None:
    """The leading metric against the seconds of a draw, a line a method over its support sizes."""
    with sheet(WIDE, 3.5) as made:
        axes, told = made.axes, []
        for method in study.methods:
            sizes = [size for size in study.sizes if method.means(study.metric, size)]
            seconds = np.array([seconds_per_draw(method, size) for size in sizes])
            means = np.array([method.summary(study.metric, size).mean for size in sizes])
            kept = np.isfinite(seconds) & (seconds > 0)
            if not kept.any():
                continue
            axes.plot(seconds[kept], means[kept], label=method.name, **look(method.place))
            for i in dict.fromkeys((np.flatnonzero(kept)[0], np.flatnonzero(kept)[-1])):
                axes.annotate(str(sizes[i]), (seconds[i], means[i]), (4, 4), textcoords="offset points", fontsize=8)
            told.append(f"{method.name} {seconds[kept][0]:.2g} s at {np.array(sizes)[kept][0]}")
        if not told:
            return None
        axes.set_xscale("log")
        log_values(axes.xaxis)
        axes.set(xlabel="seconds a draw", ylabel=metric(study.metric).title)
        made.legend()
        return made.panel("cost", f"{metric(study.metric).title} against seconds a draw: {'; '.join(told)}.")


def mean_rank_plot(study: Study, ranks: Ranks, size: int) -> Panel:
    """Mean ranks, each with half the critical difference on either side."""
    places = {method.name: method.place for method in study.methods}
    with sheet(PANEL[0], 0.75 + 0.25 * len(ranks.ranks)) as made:
        axes = made.axes
        for row, (name, rank) in enumerate(ranks.ranks.items()):
            style: dict[str, Any] = {"color": colour(places[name]), "marker": marker(places[name])}
            axes.errorbar(rank, row, xerr=ranks.critical_difference / 2, linestyle="none", linewidth=2, **style)
        axes.set_yticks(range(len(ranks.ranks)), [f"{shorten(name)}  {rank:.2f}" for name, rank in ranks.ranks.items()])
        axes.set_ylim(len(ranks.ranks) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set(xlabel=f"mean rank over {count(ranks.tasks, 'task')}", title=f"{size} labelled")
        alt = f"Mean ranks over {count(ranks.tasks, 'task')} at {size} labelled molecules: " + ", ".join(
            f"{name} {rank:.2f}" for name, rank in ranks.ranks.items()
        )
        return made.panel(f"ranks-{size}", f"{alt}; critical difference {ranks.critical_difference:.2f}.")
