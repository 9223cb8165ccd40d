"""scikit-learn's estimators as learners: random forest, gradient boosting, logistic regression, TabPFN, and any other.

Each is the ``estimator`` that it makes for a support; random states are fixed, and one core is used.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import clone
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from molmeta.core.learner import Laws
from molmeta.core.registry import Registry
from molmeta.core.task import FloatArray, TaskKind
from molmeta.errors import ConfigError, MolmetaError, SupportError
from molmeta.methods.classical import Classical, Fitted, Labels, with_deviation
from molmeta.methods.tanimoto import Fingerprints


class ScikitLearner(Classical):
    """Whatever has scikit-learn's ``fit``, and ``predict_proba``, ``decision_function`` or ``predict``."""

    @abstractmethod
    def estimator(self, y: Labels, kind: TaskKind) -> Any:
        """An unfitted estimator for a support with these labels ``[n]``."""

    def fit(self, x: Fingerprints, y: Labels, kind: TaskKind) -> Fitted:
        estimator = self.estimator(y, kind)
        try:
            estimator.fit(x, y)
        except (ValueError, TypeError) as error:
            raise SupportError(
                f"{type(self).__name__} cannot learn from a support of {len(x)} rows: {error}"
            ) from error
        return partial(_answer, estimator, kind)


def _answer(estimator: Any, kind: TaskKind, query: Fingerprints) -> FloatArray:
    try:
        return _predicted(estimator, kind, query)
    except (ValueError, TypeError) as error:
        raise SupportError(f"{type(estimator).__name__} cannot predict {len(query)} rows: {error}") from error


def _predicted(estimator: Any, kind: TaskKind, query: Fingerprints) -> FloatArray:
    if not kind.is_classification:
        return with_deviation(np.asarray(estimator.predict(query), np.float64).reshape(len(query)))
    if hasattr(estimator, "predict_proba"):
        probabilities: FloatArray = np.asarray(estimator.predict_proba(query), np.float64)
        return probabilities
    scores = np.asarray(estimator.decision_function(query), np.float64)
    of_class: FloatArray = np.stack([expit(-scores), expit(scores)], 1) if scores.ndim == 1 else softmax(scores, axis=1)
    return of_class


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomForestConfig:
    trees: int = 200  # on FS-Mol, 500 gain nothing at 16 rows and .003 of ΔAUPRC at 64
    grid: bool = False  # search FS-Mol's grid by cross-validation: 480 forests and some minutes a support


class RandomForest(ScikitLearner):
    """Bagged trees (Breiman, 2001, doi:10.1023/A:1010933404324); a split sees the square root of the bins.

    ``grid`` searches as FS-Mol's own baseline does (Stanley et al., 2021): scikit-learn's cross-validation with its
    default score, in at most five folds.
    """

    Config = RandomForestConfig
    config: RandomForestConfig
    laws = Laws(kinds=frozenset(TaskKind), support_order_invariant=False)
    GRID: Mapping[str, list[Any]] = {
        "n_estimators": [10, 100, 200, 500],
        "max_depth": [None, 5, 10, 20],
        "max_features": ["sqrt", "log2"],  # "auto", FS-Mol's third, was another name of "sqrt"
        "min_samples_leaf": [1, 2, 5],
    }

    def __init__(self, backbone: nn.Module, config: RandomForestConfig | None = None) -> None:
        super().__init__(backbone, config)
        if self.config.grid:  # scores that tie are told apart by how rows fell into folds
            self.laws = replace(self.laws, class_equivariant=False)

    def estimator(self, y: Labels, kind: TaskKind) -> Any:
        forest = RandomForestClassifier if kind.is_classification else RandomForestRegressor
        default = forest(self.config.trees, max_features="sqrt", random_state=0, n_jobs=1)
        folds = min(5, int(np.bincount(y).max()) if kind.is_classification else len(y) // 2)
        return GridSearchCV(default, dict(self.GRID), cv=folds) if self.config.grid and folds > 1 else default


@dataclass(frozen=True, kw_only=True, slots=True)
class GradientBoostingConfig:
    trees: int = 100
    learning_rate: float = 0.05
    depth: int = 3
    rows: float = 0.5  # share of the support that a tree sees
    features: float = 0.1  # share of the bins that a split sees


class GradientBoosting(ScikitLearner):
    """Stochastic gradient boosting (Friedman, 2002, doi:10.1016/S0167-9473(01)00065-2)."""

    Config = GradientBoostingConfig
    config: GradientBoostingConfig
    # With three classes and more, each class's trees draw their own random numbers, in the classes' order.
    laws = Laws(kinds=frozenset(TaskKind), support_order_invariant=False, class_equivariant=False)

    def estimator(self, y: Labels, kind: TaskKind) -> Any:
        boosted = GradientBoostingClassifier if kind.is_classification else GradientBoostingRegressor
        return boosted(
            n_estimators=self.config.trees,
            learning_rate=self.config.learning_rate,
            max_depth=self.config.depth,
            subsample=self.config.rows if len(y) > 1 else 1.0,  # scikit-learn scores the rows left out: there is one
            max_features=self.config.features,
            random_state=0,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LogisticConfig:
    strength: float = 0.1  # C, the inverse of the L2 penalty

    def __post_init__(self) -> None:
        if not self.strength > 0:
            raise ConfigError(f"logistic: strength is positive, not {self.strength}")


class Logistic(ScikitLearner):
    """L2-penalised logistic regression on log(1 + count); ridge regression for values."""

    Config = LogisticConfig
    config: LogisticConfig

    def estimator(self, y: Labels, kind: TaskKind) -> Any:
        c = self.config.strength
        model = LogisticRegression(C=c, tol=1e-6, max_iter=1000) if kind.is_classification else Ridge(alpha=1 / c)
        return make_pipeline(FunctionTransformer(_log_counts), model)


ESTIMATORS = Registry(
    "estimator",
    {
        "extra_trees": "sklearn.ensemble:ExtraTreesClassifier",
        "naive_bayes": "sklearn.naive_bayes:BernoulliNB",
        "svm": "sklearn.svm:SVC",
    },
)


@dataclass(frozen=True, kw_only=True, slots=True)
class SklearnConfig:
    estimator: str = "naive_bayes"  # a name, or package.module:Name of a class, a function that makes one, or one
    params: dict = field(default_factory=dict)  # type: ignore[type-arg]  # its keyword arguments


class Sklearn(ScikitLearner):
    """Any estimator with scikit-learn's interface, on the embeddings as they are.

    It serves classification if it has ``predict_proba`` or ``decision_function``, else regression. Nothing is promised
    of what it does. A random state that is left open is set to 0.

    Raises:
        ConfigError: there is no such estimator, or it does not take these parameters.
    """

    Config = SklearnConfig
    config: SklearnConfig
    laws = Laws(kinds=frozenset(TaskKind), support_order_invariant=False, class_equivariant=False)

    def __init__(self, backbone: nn.Module, config: SklearnConfig | None = None, estimator: Any = None) -> None:
        super().__init__(backbone, config)
        self._given = estimator
        made = self._make()
        if hasattr(made, "predict_proba") or hasattr(made, "decision_function"):
            kinds = frozenset({TaskKind.BINARY, TaskKind.MULTICLASS})
        elif hasattr(made, "predict"):
            kinds = frozenset({TaskKind.REGRESSION})
        else:
            raise ConfigError(
                f'sklearn: "{self.config.estimator}" has none of predict_proba, decision_function and predict'
            )
        self.laws = replace(self.laws, kinds=kinds)

    def estimator(self, y: Labels, kind: TaskKind) -> Any:
        return self._make()

    def _make(self) -> Any:
        found = ESTIMATORS.load(self.config.estimator) if self._given is None else self._given
        try:
            is_made = hasattr(found, "get_params") and not isinstance(found, type)
            made = clone(found).set_params(**self.config.params) if is_made else found(**self.config.params)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f'sklearn: "{self.config.estimator}" does not take {self.config.params}: {error}'
            ) from error
        params = made.get_params() if hasattr(made, "get_params") else {}
        open_states = [name for name, value in params.items() if name.endswith("random_state") and value is None]
        return made.set_params(**dict.fromkeys(open_states, 0)) if open_states else made


@dataclass(frozen=True, kw_only=True, slots=True)
class TabPFNConfig:
    features: int = 500  # bins at most: those whose log count varies most in the support
    params: dict = field(default_factory=dict)  # type: ignore[type-arg]  # further arguments of TabPFN's own


class TabPFN(ScikitLearner):
    """A transformer pre-trained on synthetic tables (Hollmann et al., 2025, doi:10.1038/s41586-024-08328-6).

    Raises:
        MolmetaError: the package ``tabpfn`` is not installed.
    """

    Config = TabPFNConfig
    config: TabPFNConfig
    laws = Laws(kinds=frozenset(TaskKind), support_order_invariant=False, class_equivariant=False)

    def __init__(self, backbone: nn.Module, config: TabPFNConfig | None = None) -> None:
        super().__init__(backbone, config)
        _tabpfn()

    def estimator(self, y: Labels, kind: TaskKind) -> Any:
        package = _tabpfn()
        maker = package.TabPFNClassifier if kind.is_classification else package.TabPFNRegressor
        model = maker(**{"random_state": 0, **self.config.params})
        k = min(self.config.features, self.backbone.width)
        return make_pipeline(FunctionTransformer(_log_counts), SelectKBest(_variance, k=k), model)


def _tabpfn() -> Any:
    try:
        return import_module("tabpfn")
    except ImportError as error:
        raise MolmetaError(
            f'the method "tabpfn" needs a package that cannot be imported ({error}): pip install tabpfn'
        ) from error


def _log_counts(x: Fingerprints) -> Fingerprints:
    """log(1 + count); odd, so that an embedding with negative numbers will do as well."""
    logs: Fingerprints = np.sign(x) * np.log1p(np.abs(x))
    return logs


def _variance(x: Fingerprints, y: Labels) -> FloatArray:
    spread: FloatArray = x.var(axis=0, dtype=np.float64)
    return spread
