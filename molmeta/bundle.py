"""A bundle: a saved model in one safetensors file, with its settings and card as JSON in the header. Never pickle.

It holds one or more learners, whose predictions are averaged; the featuriser's version; a temperature by support
size; a small sample of the training chemistry; and the card, which says what the model was trained on and how well it
does. Weights are kept in half precision and used in single.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from molmeta.core.ensemble import Encodings, EnsemblePredictor
from molmeta.core.episode import LabelledSet
from molmeta.core.learner import Knowing, Learner
from molmeta.core.networks import require_classes
from molmeta.core.task import Inputs, TaskKind
from molmeta.domains import BACKBONES
from molmeta.domains.molecules.descriptions import rows_of
from molmeta.domains.molecules.featurise import FEATURISER_VERSION
from molmeta.domains.molecules.reference import Reference
from molmeta.errors import ModelFileError, MolmetaError, SupportError
from molmeta.recipe import make_learner
from molmeta.training.state import load_tensors, save_tensors

FORMAT = 1
SUFFIX = ".safetensors"
_MODELS = Path(__file__).parent / "models"


@dataclass(frozen=True, eq=False)
class Member:
    """One learner, and the ``[method]`` and ``[backbone]`` tables that build it again."""

    method: Mapping[str, Any]
    backbone: Mapping[str, Any]
    learner: Learner


@dataclass(frozen=True, eq=False)
class Bundle:
    """A model to predict with.

    Attributes:
        members: the learners; their predictions are averaged.
        card: name, data, licence, command, seed, scores, limits: whatever a reader should know, as JSON.
        reference: a sample of the training chemistry, or None.
        temperature: support size -> what logits are divided by (straight lines between in log size); empty: 1.
        training_structures: sorted 32-bit hashes of the training molecules (see ``scoring.overlap``), or None.
        curves: kind -> how quality grows with labels (see ``predicting.outlook``); empty where nobody learned it. They
            change no prediction, and so not the digest.
    """

    members: Sequence[Member]
    card: Mapping[str, Any] = field(default_factory=dict)
    reference: Reference | None = None
    temperature: Mapping[int, float] = field(default_factory=dict)
    training_structures: NDArray[np.uint32] | None = None
    curves: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.members:
            raise ModelFileError("a bundle needs one learner or more")
        for member in self.members:
            # What is scored and used is then exactly what a file holds.
            member.learner.load_state_dict(_halved(member.learner.state_dict()))
            member.learner.eval()

    @classmethod
    def load(cls, name_or_path: str | Path) -> Self:
        """Read a bundle: one of the package's by name (``default``), or any file.

        Raises:
            ModelFileError: it is missing, damaged, from a newer version, or not a bundle.
        """
        return cls.load_with_extra(name_or_path)[0]

    @classmethod
    def load_with_extra(cls, name_or_path: str | Path) -> tuple[Self, dict[str, Any]]:
        """As :meth:`load`, with what :meth:`save` was given as ``extra``."""
        path = find(name_or_path)
        tensors, header = _read(path)
        try:
            members = [_member(tables, _part(tensors, f"member{i}")) for i, tables in enumerate(header["members"])]
            sample = _part(tensors, "reference")
            return cls(
                members,
                header["card"],
                Reference.of(sample, header["reference"]) if sample else None,
                {int(size): float(t) for size, t in header["temperature"].items()},
                _hashes(tensors),
                dict(header.get("curves", {})),
            ), header.get("extra", {})
        except (MolmetaError, RuntimeError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise ModelFileError(
                f"{path} is damaged, or was written by another version of molmeta ({_first_line(error)}). Fetch or "
                "train it again"
            ) from error

    def save(self, path: Path | str, extra: Mapping[str, Any] | None = None) -> None:
        """Write the bundle as one file; it appears whole or not at all.

        Args:
            path: the file.
            extra: further JSON to keep in it.
        """
        require_classes(BACKBONES, *(member.backbone for member in self.members))
        tensors = {
            f"member{i}/{name}": _stored(tensor)
            for i, member in enumerate(self.members)
            for name, tensor in member.learner.state_dict().items()
        }
        if self.training_structures is not None:
            tensors["training/structures"] = torch.from_numpy(self.training_structures.view(np.int32))
        if self.reference:
            tensors |= {f"reference/{name}": tensor for name, tensor in self.reference.tensors().items()}
        further = {"curves": dict(self.curves), "extra": dict(extra or {})}
        save_tensors(Path(path), tensors, self._header() | {name: each for name, each in further.items() if each})

    def _header(self) -> dict[str, Any]:
        return {
            "what": "bundle",
            "format": FORMAT,
            "featuriser": FEATURISER_VERSION,
            "members": [{"method": dict(m.method), "backbone": dict(m.backbone)} for m in self.members],
            "card": dict(self.card),
            "reference": self.reference.settings() if self.reference else {},
            "temperature": {str(size): t for size, t in self.temperature.items()},
        }

    def to(self, device: torch.device | str) -> Self:
        """Move every member to a device; returns the bundle itself."""
        for member in self.members:
            member.learner.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the members are."""
        return self.members[0].learner.device

    @property
    def transductive(self) -> bool:
        """Whether a query's prediction depends on the other queries."""
        return any(member.learner.laws.transductive for member in self.members)

    @property
    def needs_no_support(self) -> bool:
        """Whether every member predicts a binary assay without labelled molecules."""
        return all(member.learner.laws.empty_support for member in self.members)

    @property
    def reads_descriptions(self) -> bool:
        """Whether some member reads what is said of an assay in words."""
        return any(getattr(member.learner.backbone, "towers", None) is not None for member in self.members)

    @property
    def reads_graphs(self) -> bool:
        """Whether some member reads atoms and bonds; else fingerprints are enough."""
        return any(getattr(member.learner.backbone, "reads_graphs", True) for member in self.members)

    @property
    def kinds(self) -> frozenset[TaskKind]:
        """The kinds of task that some member serves; each kind is predicted by those members."""
        return frozenset.union(*(member.learner.laws.kinds for member in self.members))

    @torch.no_grad()
    def encode(self, inputs: Inputs) -> Encodings:
        """What each member needs of ``n`` molecules: their embeddings, or the molecules where its method adapts
        the backbone."""
        moved = inputs.to(self.device)
        return tuple(m.learner.encode(moved) if m.learner.laws.encodes else moved for m in self.members)

    @torch.no_grad()
    def adapt(
        self,
        encoded: Encodings,
        labels: torch.Tensor,
        kind: TaskKind,
        num_classes: int,
        description: Mapping[str, str] | None = None,
    ) -> EnsemblePredictor:
        """Specialise every member that serves the kind to one task.

        Args:
            encoded: ``n`` support molecules from :meth:`encode`.
            labels: ``[n]`` class indices (int64), or float values.
            kind: what the labels are.
            num_classes: k; 0 for regression.
            description: what is known of a binary assay in words (see ``domains.molecules.descriptions``).

        Raises:
            SupportError: no member serves the kind, or a class is missing.
        """
        if kind not in self.kinds:
            raise SupportError(f"this model serves {', '.join(sorted(self.kinds))} tasks, not {kind}")
        on_device = labels.to(self.device)
        described = rows_of(description, num_classes).to(self.device) if description else None
        predictors = [
            member.learner.adapt(LabelledSet(inputs, on_device, kind, num_classes, described))
            if kind in member.learner.laws.kinds
            else None
            for member, inputs in zip(self.members, encoded, strict=True)
        ]
        plain = shares_of(on_device, num_classes) if kind.is_classification else on_device.mean()
        return EnsemblePredictor(predictors, self.temperature_at(len(labels)), plain)

    def knows(self, encoded: Encodings) -> NDArray[np.bool_]:
        """``[n]`` whether some member knows each molecule from other assays; few methods keep them."""
        known = np.zeros(len(encoded[0]), bool)
        for member, inputs in zip(self.members, encoded, strict=True):
            if isinstance(member.learner, Knowing):
                known |= member.learner.knows(inputs).cpu().numpy()
        return known

    def temperature_at(self, support_size: int) -> float:
        """What logits are divided by at a support size."""
        if not self.temperature:
            return 1.0
        sizes = sorted(self.temperature)
        return float(np.interp(np.log(max(1, support_size)), np.log(sizes), [self.temperature[size] for size in sizes]))

    @property
    def digest(self) -> str:
        """A short hash of weights and settings: equal for bundles that predict the same."""
        hashed = hashlib.sha256(json.dumps(self._header(), sort_keys=True).encode())
        for member in self.members:
            for name, tensor in member.learner.state_dict().items():
                hashed.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        return hashed.hexdigest()[:16]


def shares_of(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """``[k]`` the share of each class among labels ``[n]``; equal ones where there is no label."""
    if not len(labels):
        return torch.full((num_classes,), 1 / num_classes)
    return F.one_hot(labels, num_classes).float().mean(0)


def shipped() -> list[str]:
    """The names of the package's own bundles."""
    return sorted(path.stem for path in _MODELS.glob(f"*{SUFFIX}"))


def find(name_or_path: str | Path) -> Path:
    """The file of a bundle.

    Raises:
        ModelFileError: neither a bundle of the package nor a file has that name.
    """
    path = Path(name_or_path)
    if str(name_or_path) in shipped():
        return _MODELS / f"{name_or_path}{SUFFIX}"
    if path.is_dir():
        raise ModelFileError(f"{path} is a folder; a model is one {SUFFIX} file")
    if not path.is_file():
        known = ", ".join(shipped()) or "none"
        raise ModelFileError(
            f'there is no model "{name_or_path}". Give the path of a {SUFFIX} file, or one of: {known}'
        )
    return path


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    try:
        tensors, header = load_tensors(path)
    except ValueError as error:
        raise ModelFileError(f"{path} is damaged: its header is not JSON. Fetch or train it again") from error
    if not isinstance(header, dict) or header.get("what") != "bundle":
        raise ModelFileError(f"{path} is a file of molmeta's, but not a model to predict with (a run's state, perhaps)")
    if not isinstance(header.get("format"), int) or header["format"] > FORMAT:
        raise ModelFileError(
            f"{path} is a bundle of format {header.get('format')}; this molmeta reads up to {FORMAT}. Upgrade molmeta"
        )
    if header.get("featuriser") != FEATURISER_VERSION:
        raise ModelFileError(
            f"{path} was made for featuriser {header.get('featuriser')}; this molmeta has featuriser "
            f"{FEATURISER_VERSION}. Install the molmeta that wrote it, or train it again"
        )
    return tensors, header


def _member(tables: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> Member:
    require_classes(BACKBONES, tables["backbone"], tables["method"].get("task_backbone"))
    learner = make_learner(tables["method"], tables["backbone"])
    learner.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in weights.items()})
    return Member(tables["method"], tables["backbone"], learner)


def _part(tensors: Mapping[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(f"{name}/"): t for key, t in tensors.items() if key.startswith(f"{name}/")}


def _hashes(tensors: Mapping[str, torch.Tensor]) -> NDArray[np.uint32] | None:
    stored = tensors.get("training/structures")
    return None if stored is None else stored.numpy().view(np.uint32)


def _stored(tensor: torch.Tensor) -> torch.Tensor:
    """Half precision, but for scalars (kernel parameters) and what half precision cannot hold."""
    if not tensor.is_floating_point() or tensor.ndim == 0:
        return tensor
    half = tensor.half()
    return half if bool(torch.isfinite(half).all()) else tensor


def _halved(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: _stored(tensor).to(tensor.dtype) for name, tensor in state.items()}


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]
