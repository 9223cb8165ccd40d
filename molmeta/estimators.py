"""scikit-learn's interface on a bundle: ``fit`` reads the labelled molecules, ``predict`` scores others.

    model = FewShotClassifier().fit(smiles, y)
    model.predict_proba(others)

``X`` is a list, array or Series of SMILES, or a table of one column. Nothing touches the network.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted

from molmeta.bundle import Bundle
from molmeta.core.task import FloatArray, TaskKind
from molmeta.devices import choose_device
from molmeta.domains.molecules.descriptions import read_description
from molmeta.domains.molecules.featurise import Featurised, MoleculeArrays, featurise
from molmeta.domains.molecules.label_values import ACTIVE_WORDS, INACTIVE_WORDS
from molmeta.domains.molecules.labels import AssayLabels
from molmeta.domains.molecules.workers import featurise_stream
from molmeta.errors import ConfigError, InputError, ModelFileError, SupportError
from molmeta.estimator_inputs import as_labels, as_numbers, as_smiles, refused_error
from molmeta.files import check_writable
from molmeta.predicting.assay import AssayModel, AssayPrediction, check_prior, predict_molecules
from molmeta.predicting.outlook import MORE, Outlook, outlook
from molmeta.predicting.reasons import Reasons, explain_molecules
from molmeta.predicting.selection import Goal, Suggestions, suggest

OnInvalid = Literal["raise", "nan"]
T = TypeVar("T")
_CHUNK = 2048


class _FewShot(BaseEstimator):  # type: ignore[misc]
    """What classifier and regressor share."""

    model: str | Path | Bundle
    on_invalid: OnInvalid
    n_jobs: int | None
    random_state: int | None
    device: str
    assay_: AssayModel
    smiles_: list[str]
    y_: NDArray[Any]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags

    def _read_support(self, X: Any, y: ArrayLike) -> tuple[MoleculeArrays, NDArray[Any]]:
        if self.on_invalid not in ("raise", "nan"):
            raise ConfigError(f'on_invalid is "raise" or "nan", not {self.on_invalid!r}')
        smiles, labels = as_smiles(X), as_labels(y)
        if len(smiles) != len(labels):
            raise InputError(f"{len(smiles)} molecules but {len(labels)} labels: give one label a molecule")
        blocks = list(self._featurise(smiles, _CHUNK, canonical=True))
        reasons = [reason for block in blocks for reason in block.reasons]
        if any(reasons):
            error = refused_error(smiles, reasons, "leave them out")
            if self.on_invalid == "raise":
                raise error
            listed = str(error).rpartition("\n")[0]  # without the way out, which was taken
            warnings.warn(f"left out of the support: {listed}", UserWarning, stacklevel=3)
        kept = np.array([i for i, reason in enumerate(reasons) if not reason], np.int64)
        self.smiles_, self.y_ = [smiles[i] for i in kept], labels[kept]
        if len(kept) < 2 and (smiles or getattr(self, "description", None) is None):
            count = f"{len(kept)} labelled molecule{'s' * (len(kept) != 1)}"
            raise SupportError(f"the support has {count}; two or more are needed. Add labelled molecules")
        self._structures = [text for block in blocks for text in block.canonical if text]
        blocks = blocks or [featurise([])]
        return MoleculeArrays.concatenate([block.arrays for block in blocks]), labels[kept]

    def _fit(
        self,
        molecules: MoleculeArrays,
        labels: NDArray[Any],
        kind: TaskKind,
        classes: Sequence[str] = (),
        prior: float | None = None,
        description: Mapping[str, str] | None = None,
    ) -> None:
        if not isinstance(self.model, (str, Path, Bundle)):
            raise ConfigError(f"model is a bundle's name, its file or a Bundle, not {self.model!r}")
        if not (self.random_state is None or isinstance(self.random_state, (int, np.integer))):
            raise ConfigError(f"random_state is a whole number or None, not {self.random_state!r}")
        device = choose_device(self.device)
        bundle = self.model if isinstance(self.model, Bundle) else Bundle.load(self.model)
        rows = np.arange(len(labels))
        texts = [str(label) for label in self.y_.tolist()]
        assay = AssayLabels("", rows, rows, [str(s) for s in self.smiles_], texts, labels, kind, tuple(classes))
        seed = int(self.random_state or 0)
        self.assay_ = AssayModel.fit(
            bundle.to(device), assay, molecules, self._structures, prior=prior, seed=seed, description=description
        )

    def _featurise(
        self, smiles: Sequence[Any], size: int, canonical: bool = False, graphs: bool = True
    ) -> Iterator[Featurised]:
        chunks = [smiles[i : i + size] for i in range(0, len(smiles), size)]
        # sklearn's convention: None is one process, -1 every core.
        workers = 1 if self.n_jobs is None else (self.n_jobs if self.n_jobs > 0 else None)
        return (done for _, done in featurise_stream(chunks, list, workers, canonical, graphs))

    def _in_blocks(self, X: Any, use: Callable[[list[str], MoleculeArrays], T]) -> tuple[list[T], list[Any], list[str]]:
        """What ``use`` makes of each block of molecules that can be read; the molecules, and why each is refused."""
        check_is_fitted(self, "assay_")
        smiles = as_smiles(X)
        # A method that looks at the other queries needs them all at once.
        size = max(1, len(smiles)) if self.assay_.bundle.transductive else _CHUNK
        refused: list[str] = []
        made: list[T] = []
        for block in self._featurise(smiles, size, graphs=self.assay_.bundle.reads_graphs):
            start = len(refused)
            refused += block.reasons
            if len(block.arrays) and not (self.on_invalid == "raise" and any(refused)):
                made.append(use([str(smiles[start + i]) for i in np.flatnonzero(block.valid)], block.arrays))
        if self.on_invalid == "raise" and any(refused):
            raise refused_error(smiles, refused, "their predictions are NaN")
        return made, smiles, refused

    def _predict_all(self, X: Any) -> tuple[AssayPrediction | None, NDArray[np.bool_]]:
        """The prediction of the molecules that can be read (None where there is none), and which of X they are."""
        made, _, refused = self._in_blocks(X, lambda _, molecules: predict_molecules([self.assay_], molecules)[0])
        return AssayPrediction.concatenate(made) if made else None, np.array([not reason for reason in refused], bool)

    def explain(self, X: Any) -> Reasons:
        """Why each molecule is predicted as it is: the support molecules that moved it, and by how much; the parts of
        prior and support; and how far it lies from the training chemistry.

        Each support molecule is left out in turn, so that this takes as long as one prediction and fit for each.

        Args:
            X: ``m`` SMILES. With ``on_invalid="nan"`` those that cannot be read have NaN.

        Returns:
            Arrays ``[m]``, and ``[m, n]`` for the ``n`` molecules of ``smiles_``; ``print`` them, or ``draw`` them.

        Raises:
            NotFittedError: it has not been fitted.
            InputError: molecules cannot be read.
        """
        made, smiles, refused = self._in_blocks(
            X, lambda smiles, molecules: explain_molecules([self.assay_], smiles, molecules)[0][1]
        )
        return Reasons.concatenate(made or [Reasons.blank(self.assay_)]).among(smiles, refused)

    def outlook(self, more: Sequence[int] = MORE) -> Outlook:
        """How good predictions are to be expected now and after so many ``more`` labels, for molecules like
        ``smiles_``; ``print`` it.

        Raises:
            NotFittedError: it has not been fitted.
            ModelFileError: the model holds no curves for such labels.
            SupportError: the support is too small for an estimate.
        """
        check_is_fitted(self, "assay_")
        return outlook(self.assay_, more)

    def suggest(self, X: Any, n: int = 8, goal: Goal = "model") -> Suggestions:
        """Which ``n`` molecules of a library ``X`` to measure next; ``print`` them.

        Args:
            X: SMILES. With ``on_invalid="nan"`` those that cannot be read are not chosen.
            n: how many, to be measured as one batch.
            goal: ``model`` teaches the model most, ``hits`` are the likeliest actives or the largest values.

        Raises:
            NotFittedError: it has not been fitted.
            InputError: molecules cannot be read, or the library is too small.
            ConfigError: n or goal is out of range.
        """
        blocks, _, refused = self._in_blocks(X, lambda smiles, molecules: (smiles, molecules))
        positions = np.flatnonzero([not reason for reason in refused])
        ends = np.cumsum([len(smiles) for smiles, _ in blocks])
        parts = zip(np.split(positions, ends[:-1]), blocks, strict=True) if blocks else ()
        return suggest(self.assay_, ((place, *block) for place, block in parts), n, goal)

    def save(self, path: str | Path) -> None:
        """Write the fitted object as one file: the model itself, the support and the settings; no pickle.

        Raises:
            NotFittedError: it has not been fitted.
            InputError: the file cannot be written there.
        """
        check_is_fitted(self, "assay_")
        check_writable(Path(path), force=True)
        given = {name: value for name, value in self.get_params(deep=False).items() if name != "model"}
        settings = {name: value.item() if isinstance(value, np.generic) else value for name, value in given.items()}
        y = {"dtype": self.y_.dtype.str, "values": self.y_.tolist()}
        extra = {"estimator": type(self).__name__, "settings": settings, "smiles": self.smiles_, "y": y}
        self.assay_.bundle.save(path, extra)

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> Self:
        """Read what :meth:`save` wrote. It predicts as before; ``model`` is now that file.

        Raises:
            ModelFileError: the file is missing, damaged, or not a saved estimator of this class.
        """
        bundle, extra = Bundle.load_with_extra(path)
        if extra.get("estimator") != cls.__name__:
            held = extra.get("estimator", "a model without a support set")
            raise ModelFileError(f"{path} holds {held}, not a fitted {cls.__name__}")
        try:
            estimator = cls(**{**extra["settings"], "device": device})
            y = np.array(extra["y"]["values"], dtype=np.dtype(extra["y"]["dtype"]))
            estimator.set_params(model=bundle).fit(extra["smiles"], y)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"{path} is damaged ({error})") from error
        return estimator.set_params(model=str(path))  # type: ignore[no-any-return]


class FewShotClassifier(ClassifierMixin, _FewShot):  # type: ignore[misc]
    """Classify molecules from a few labelled ones.

    Args:
        model: a bundle: its name (``default``), its file, or a :class:`~molmeta.bundle.Bundle`.
        positive: the active one of two classes; None: 1, true, active, yes or + against their opposites, else the
            last of ``classes_``.
        prior: share of actives to expect among what is predicted, which shifts the odds; None: the support's share.
        description: what is known of an assay of two classes, for a model that reads it: ``target``, ``ec``,
            ``organism`` and ``type``, some of them, as a mapping or as text, ``"target=CDK5 kinase, type=binding"``.
            With it, ``fit([], [])`` predicts before anything is measured; the classes are then 0 and 1.
        on_invalid: ``"raise"`` refuses molecules that cannot be read, all of them at once; ``"nan"`` leaves them out
            of the support, with a warning, and gives them NaN probabilities and the class None.
        n_jobs: processes that featurise; None is 1, -1 every core. (A script that uses several needs
            ``if __name__ == "__main__":``, as multiprocessing does.)
        random_state: for methods that draw at random while they adapt.
        device: auto, cpu, cuda or cuda:N.

    Attributes:
        classes_: ``[k]`` the classes, sorted; the columns of ``predict_proba``.
    """

    def __init__(
        self,
        model: str | Path | Bundle = "default",
        *,
        positive: Any = None,
        prior: float | None = None,
        description: str | Mapping[str, str] | None = None,
        on_invalid: OnInvalid = "raise",
        n_jobs: int | None = None,
        random_state: int | None = None,
        device: str = "auto",
    ) -> None:
        self.model = model
        self.positive = positive
        self.prior = prior
        self.description = description
        self.on_invalid = on_invalid
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.device = device

    def fit(self, X: Any, y: ArrayLike) -> Self:
        """Read the support set: ``n`` SMILES and their classes, any two or more values.

        Raises:
            InputError: molecules that cannot be read, missing labels, or labels that are no classes.
            SupportError: fewer than two molecules, or one class only.
            ConfigError: a setting is out of range.
        """
        description = None if self.description is None else read_description(self.description)
        molecules, labels = self._read_support(X, y)
        if len(labels) and type_of_target(labels).startswith("continuous"):
            raise InputError("y holds real numbers, not classes. Use FewShotRegressor, or cut them: y >= threshold")
        self.classes_, index = np.unique(labels, return_inverse=True)
        if not len(labels):
            self.classes_, index = np.array([0, 1]), np.empty(0, np.int64)
        if len(self.classes_) < 2:
            raise SupportError(
                f"all {len(labels)} labels of the support are {labels.tolist()[0]!r}: nothing can be learned from one "
                "class. Add a molecule of another class"
            )
        kind = TaskKind.BINARY if len(self.classes_) == 2 else TaskKind.MULTICLASS
        check_prior(self.prior, kind)
        self._order = self._inner_order()
        names = [str(name) for name in self.classes_[self._order].tolist()]
        self._fit(molecules, np.argsort(self._order)[index], kind, names, self.prior, description)
        return self

    def predict_proba(self, X: Any) -> FloatArray:
        """Probabilities ``[m, k]``, in the order of ``classes_``."""
        prediction, valid = self._predict_all(X)
        result = np.full((len(valid), len(self.classes_)), np.nan)
        if prediction is not None and prediction.probabilities is not None:
            result[np.ix_(valid, self._order)] = prediction.probabilities
        return result

    def predict(self, X: Any) -> NDArray[Any]:
        """The likeliest class of each molecule ``[m]``."""
        probabilities = self.predict_proba(X)
        valid = ~np.isnan(probabilities[:, 0])
        chosen: NDArray[Any] = self.classes_[np.where(valid, probabilities.argmax(1), 0)]
        if valid.all():
            return chosen
        chosen = chosen.astype(object)
        chosen[~valid] = None
        return chosen

    def _inner_order(self) -> NDArray[np.int64]:
        """Position in ``classes_`` of each class as the model numbers them: class 1 is the active one."""
        order = np.arange(len(self.classes_))
        if len(order) > 2:
            if self.positive is not None:
                raise ConfigError(f"positive names the active one of two classes; y has {len(order)}")
            return order
        words = [str(c).strip().casefold() for c in self.classes_]
        if self.positive is not None:
            found = np.flatnonzero(self.classes_ == self.positive)
            if len(found) != 1:
                raise ConfigError(f"positive={self.positive!r} is not among the classes {self.classes_.tolist()}")
            return order if found[0] == 1 else order[::-1]
        return order[::-1] if words[0] in ACTIVE_WORDS and words[1] in INACTIVE_WORDS else order


class FewShotRegressor(RegressorMixin, _FewShot):  # type: ignore[misc]
    """Predict a number for molecules from a few measured ones.

    Args as for :class:`FewShotClassifier`.
    """

    def __init__(
        self,
        model: str | Path | Bundle = "default",
        *,
        on_invalid: OnInvalid = "raise",
        n_jobs: int | None = None,
        random_state: int | None = None,
        device: str = "auto",
    ) -> None:
        self.model = model
        self.on_invalid = on_invalid
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.device = device

    def fit(self, X: Any, y: ArrayLike) -> Self:
        """Read the support set: ``n`` SMILES and their values.

        Raises:
            InputError: molecules that cannot be read, or labels that are missing or no numbers.
            SupportError: fewer than two molecules.
        """
        molecules, labels = self._read_support(X, y)
        values = as_numbers(labels)
        self._fit(molecules, values, TaskKind.REGRESSION)
        return self

    def predict(self, X: Any, return_std: bool = False) -> FloatArray | tuple[FloatArray, FloatArray]:
        """The expected value of each molecule ``[m]``, and with ``return_std`` its standard deviation ``[m]``."""
        prediction, valid = self._predict_all(X)
        mean, deviation = np.full(len(valid), np.nan), np.full(len(valid), np.nan)
        if prediction is not None and prediction.mean is not None:
            mean[valid] = prediction.mean
            if prediction.deviation is not None:
                deviation[valid] = prediction.deviation
        return (mean, deviation) if return_std else mean

    def predict_interval(self, X: Any, level: float = 0.9) -> FloatArray:
        """``[m, 2]`` ends of the central interval that should hold the value of each molecule in ``level`` of cases.

        Raises:
            ConfigError: the level is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise ConfigError(f"level is the share of values inside, between 0 and 1 (0.9 is 90 %), not {level}")
        prediction, valid = self._predict_all(X)
        ends = np.full((len(valid), 2), np.nan)
        if prediction is not None:
            ends[valid] = np.stack(prediction.interval(level), axis=1)
        return ends
