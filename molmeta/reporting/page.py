"""The page: its sections, and how they become HTML."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from molmeta.reporting.blocks import Section, data_uri
from molmeta.reporting.canvas import colour
from molmeta.reporting.compared import differences, separation
from molmeta.reporting.details import assays, audit, calibration, costs, groups
from molmeta.reporting.scored import question, scores
from molmeta.reporting.study import Study
from molmeta.reporting.words import count


def render(study: Study) -> tuple[str, dict[str, bytes]]:
    """A study as one HTML page, and its figures by file name."""
    makers = (question, scores, differences, separation, groups, calibration, costs, audit, assays)
    sections = [section for make in makers if (section := make(study)) is not None]
    figures = {
        f"{panel.name}.{form}": content
        for section in sections
        for panel in section.panels()
        for form, content in (("svg", panel.svg), ("png", panel.png))
    }
    return _html(study, sections), figures


def _html(study: Study, sections: list[Section]) -> str:
    environment = Environment(
        loader=PackageLoader("molmeta.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["uri"] = data_uri
    environment.filters["prose"] = lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%")
    tasks = {score.task for method in study.methods for score in method.result.scores}
    sizes = ", ".join(map(str, study.sizes))
    return environment.get_template("report.html.j2").render(
        title=" · ".join(method.name for method in study.methods[:3]) + (" …" if len(study.methods) > 3 else ""),
        summary=f"{count(len(study.methods), 'method')}, {count(len(tasks), 'task')}, {sizes} labelled molecules",
        names=[method.name for method in study.methods],
        sections=sections,
        colour=colour,
    )
