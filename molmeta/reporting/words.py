"""What the report says of metrics, subsets and protocols in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from molmeta.core.task import TaskKind


@dataclass(frozen=True)
class Metric:
    """A metric as it is shown.

    Attributes:
        title: short, for a column.
        meaning: one line.
        better: 1 where higher is better, -1 where lower is, 0 where neither.
    """

    title: str
    meaning: str
    better: int = 1

    @property
    def heading(self) -> str:
        """The title, with an arrow to the better side."""
        return self.title + {1: "\N{NO-BREAK SPACE}↑", -1: "\N{NO-BREAK SPACE}↓", 0: ""}[self.better]


METRICS = {
    "delta_auprc": Metric("ΔAUPRC", "average precision minus the query's own share of actives"),
    "above_chance": Metric("ΔAUPRC above chance", "ΔAUPRC minus what a random ranking of the same queries scores"),
    "r2": Metric("R²", "out-of-sample: 1 − squared error / squared distance from the support's mean"),
    "delta_auprc_support": Metric(
        "ΔAUPRC (support)", "average precision minus the support's share of actives, the other definition in use"
    ),
    "average_precision": Metric("Average precision", "area under the precision-recall curve"),
    "roc_auc": Metric("ROC-AUC", "share of (active, inactive) pairs in the right order; 0.5 by chance"),
    "balanced_accuracy": Metric("Balanced accuracy", "mean of sensitivity and specificity at a probability of ½"),
    "accuracy": Metric("Accuracy", "share of rows whose likeliest class is the right one"),
    **{
        f"accuracy_{kept}": Metric(f"Accuracy, surest {kept} %", f"accuracy of the most certain {kept} % of the query")
        for kept in (75, 50, 25)
    },
    "f1": Metric("F1", "harmonic mean of precision and recall at a probability of ½"),
    "kappa": Metric("Cohen's κ", "agreement beyond chance at a probability of ½"),
    "nll": Metric("NLL", "negative log-likelihood, nats a molecule", -1),
    "brier": Metric("Brier", "mean squared error of the probability", -1),
    "ece": Metric("ECE", "calibration error in 15 bins of equal mass, per draw, then the mean over tasks", -1),
    "ef1": Metric("EF 1 %", "share of actives in the top 1 % over their share in all"),
    "bedroc": Metric("BEDROC", "early enrichment, α = 20: four fifths of the weight lie in the top 8 %"),
    "rmse": Metric("RMSE", "root mean squared error, in the values' unit", -1),
    "mse": Metric("MSE", "mean squared error", -1),
    "spearman": Metric("Spearman's ρ", "rank correlation"),
    "coverage_90": Metric("90 % coverage", "share of values inside the predicted central 90 %; 0.90 is right", 0),
}
# Columns of a table of scores that are no metric of the method.
FACTS = {"chance", "query_share", "support_share", "queries", "seconds", "encode_seconds"}
HEADLINES = {
    TaskKind.BINARY: ("delta_auprc", "roc_auc"),
    TaskKind.MULTICLASS: ("accuracy", "nll"),
    TaskKind.REGRESSION: ("r2", "rmse"),
}
BENCHMARK_METRIC = {"moleculenet": "roc_auc"}  # what a source's literature reports
DELTA_AUPRC = (
    "ΔAUPRC is the average precision of a draw's query minus the query's own share of actives. It is averaged over a "
    "task's draws, then over tasks, so every assay counts once; ± is the standard error over tasks, [ ] the 95 % "
    "bootstrap interval over tasks."
)
CHANCE = (
    "By this definition a random ranking does not score 0 on average but slightly above: the row “chance” says how "
    "much, in expectation over all orders of the same queries. A score near it shows no skill."
)
MEAN_OVER_TASKS = (
    "Scores are averaged over a task's draws, then over tasks, so every task counts once; ± is the standard error "
    "over tasks, [ ] the 95 % bootstrap interval over tasks."
)
FSMOL_256 = (
    "With FS-Mol's draws a support of 256 leaves out most assays, for they are too small: of the test fold, 157 tasks "
    "are drawn at 16 to 128 and 43 at 256. Columns of different task counts are not to be compared with one another."
)
PUBLISHED = "as the authors report it, over tasks of the {folds} fold; not computed here."
CHOSEN_ON_TEST = (
    "Published results on these data sets often choose the checkpoint on the test tasks themselves; a model that was "
    "chosen on validation tasks is at a disadvantage beside them. The notes say what is known."
)


def metric(name: str) -> Metric:
    """A metric as it is shown; one that is not known keeps its name and has no better side."""
    return METRICS.get(name) or Metric(name, "as the table of scores has it", 0)


# ChEMBL's letters.
ASSAY_TYPES = {
    "B": "binding",
    "F": "functional",
    "A": "ADME",
    "T": "toxicity",
    "P": "physicochemical",
    "U": "unclassified",
}
_KIND = {
    TaskKind.BINARY: "active or inactive",
    TaskKind.MULTICLASS: "several classes",
    TaskKind.REGRESSION: "a measured value",
}
_PROTOCOL = {"fsmol": "FS-Mol", "fsmol-regression": "FS-Mol, regression", "own": "own settings"}
_FOLD = {"valid": "validation", "heldout": "held-out (taken from the training fold)"}
_DRAWS = {
    "scaffold": "the support holds whole scaffolds; the query is molecules of other scaffolds",
    "cluster": "the support holds whole clusters of similar molecules; the query is molecules of other clusters",
    "imbalanced": "supports with few actives, as a screen would have found them",
}
_FSMOL_DRAWS = (
    "a stratified support, drawn as FS-Mol's own code does (actives first, then scikit-learn's "
    "StratifiedShuffleSplit with the seed); every other molecule of the assay is the query"
)


def protocol(header: Mapping[str, Any], kind: TaskKind) -> list[tuple[str, str]]:
    """What was asked, as pairs of a term and its description; what the header does not say is left out."""
    asked: Mapping[str, Any] = header.get("protocol") or {}
    name = str(asked.get("name", ""))
    seeds = asked.get("seeds")
    settings = asked.get("settings") or ()
    told = {
        "Protocol": _PROTOCOL.get(name, name),
        "Source": "" if asked.get("source", name) == name else str(asked["source"]),
        "Fold": _fold(str(asked.get("split", ""))),
        "Labels": _KIND[kind],
        "Draws": _draws(asked, kind) if asked else "",
        "Query": _query(asked),
        "Seeds": "" if seeds is None else _seeds(seeds),
        "Settings": ", ".join(map(str, settings)) if isinstance(settings, list | tuple) else str(settings),
    }
    return [(term, text) for term, text in told.items() if text]


def _draws(asked: Mapping[str, Any], kind: TaskKind) -> str:
    draws = str(asked.get("draws") or "standard")
    if draws == "standard":
        is_fsmol = asked.get("source") == "fsmol" and kind is TaskKind.BINARY
        return _FSMOL_DRAWS if is_fsmol else "the source's own: every molecule outside the support is the query"
    return _DRAWS.get(draws, draws)


def _query(asked: Mapping[str, Any]) -> str:
    """Of a result that was scored again at another share of actives."""
    share, prior = asked.get("query_share"), asked.get("prior")
    kept = "" if share is None else f"sub-sampled to {float(share):.3g} actives"
    known = "" if prior is None else f"probabilities are told a share of {float(prior):.3g}"
    return "; ".join(filter(None, [kept, known]))


def _fold(split: str) -> str:
    return f"{_FOLD[split]} ({split})" if split in _FOLD else split


def _seeds(seeds: object) -> str:
    if isinstance(seeds, int):
        return f"{seeds} draws a task and support size"
    return f"{len(seeds)} draws a task and support size" if isinstance(seeds, list | tuple) else str(seeds)


def number(value: float, decimals: int = 3) -> str:
    """A number with a true minus; a dash where there is none."""
    return "–" if math.isnan(value) else f"{value:.{decimals}f}".replace("-", "−")


def plus_minus(mean: float, error: float) -> str:
    """A mean with its standard error, where there is one."""
    return number(mean) + ("" if math.isnan(error) else f" ± {number(error)}")


def signed(value: float, decimals: int = 3) -> str:
    """A difference, with its sign."""
    return "–" if math.isnan(value) else f"{value:+.{decimals}f}".replace("-", "−")


def p_value(value: float) -> str:
    """A p-value to two digits."""
    return "–" if math.isnan(value) else ("< 0.0001" if value < 1e-4 else f"{value:.2g}")


def count(number: int, noun: str) -> str:
    """``1 task``, ``2 tasks``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
