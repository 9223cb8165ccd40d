"""Predictions from what is said of an assay, without labelled molecules and beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from molmeta import FewShotClassifier
from molmeta.bundle import Bundle, Member
from molmeta.cli import app
from molmeta.domains.molecules import towers
from molmeta.errors import ConfigError, SupportError
from molmeta.methods.known_assays import KnownAssays
from molmeta.recipe import make_learner
from tests.bundles import tiny_bundle
from tests.domains.molecules.test_towers import ACIDS, AMINES, Source, assays

LIBRARY = [*AMINES, *ACIDS]
METHOD, BACKBONE = {"name": "known_assays"}, {"name": "profiles", "width": 3, "described": 4}


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """Of kinases that like amines and proteases that like acids; it trusts descriptions."""
    learner = make_learner(METHOD, BACKBONE)
    assert isinstance(learner, KnownAssays)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(towers, "_STEPS", 150)
        patch.setattr(towers, "_ROWS", 64)
        learner.backbone.read(Source(), assays())
    torch.nn.init.constant_(learner.trust, 1.0)
    return Bundle([Member(METHOD, BACKBONE, learner)], {"name": "described"})


def said(model: Bundle | Path, description: object, smiles: list[str], labels: list[int]) -> np.ndarray:
    fitted = FewShotClassifier(model, description=description).fit(smiles, labels)
    return fitted.predict_proba(LIBRARY)[:, 1]


def test_without_a_label_a_family_s_description_ranks_what_the_family_prefers_first(bundle: Bundle) -> None:
    kinase = said(bundle, "target=some kinase, type=binding", [], [])
    assert kinase[:8].min() > kinase[8:].max()
    protease = said(bundle, {"target": "a protease"}, [], [])
    assert protease[8:].min() > protease[:8].max()


def test_labels_correct_a_description(bundle: Bundle) -> None:
    smiles, labels = [*AMINES[::2], *ACIDS[::2]], [0, 0, 0, 0, 1, 1, 1, 1]  # against what is said of kinases
    alone = said(bundle, "target=kinase", [], [])
    both, unsaid = said(bundle, "target=kinase", smiles, labels), said(bundle, None, smiles, labels)
    assert alone[8:].mean() < both[8:].mean() < unsaid[8:].mean()


def test_a_fitted_description_is_saved_with_the_model(bundle: Bundle, tmp_path: Path) -> None:
    fitted = FewShotClassifier(bundle, description={"target": "kinase"}).fit([], [])
    fitted.save(tmp_path / "kinase.safetensors")
    again = FewShotClassifier.load(tmp_path / "kinase.safetensors")
    np.testing.assert_allclose(again.predict_proba(LIBRARY), fitted.predict_proba(LIBRARY), atol=1e-6)
    assert fitted.classes_.tolist() == [0, 1]
    assert len(str(fitted.explain(LIBRARY[:2])).splitlines()) == 2


def test_what_a_model_cannot_use_is_refused(bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="reads no description of an assay"):
        said(tiny_bundle(), "target=kinase", ["CCO", "CCN"], [0, 1])
    with pytest.raises(SupportError, match="0 labelled molecules"):
        said(bundle, None, [], [])
    with pytest.raises(ConfigError, match="not for multiclass labels"):
        said(bundle, "target=kinase", ["CCO", "CCN", "CCC"], [0, 1, 2])
    with pytest.raises(ConfigError, match='did you mean "target"'):
        said(bundle, "tagret=kinase", [], [])


def test_a_library_is_predicted_from_a_description_alone(bundle: Bundle, tmp_path: Path) -> None:
    model, query, out = tmp_path / "described.safetensors", tmp_path / "library.csv", tmp_path / "out.csv"
    bundle.save(model)
    pd.DataFrame({"smiles": LIBRARY}).to_csv(query, index=False)
    given = ["predict", "--query", str(query), "--model", str(model), "-o", str(out)]
    done = CliRunner().invoke(app, [*given, "--describe", "target=kinase"])
    assert done.exit_code == 0, done.output
    table = pd.read_csv(out)
    np.testing.assert_allclose(table["assay_molmeta_probability"], said(bundle, "target=kinase", [], []), rtol=1e-4)
    assert table["assay_molmeta_nearest"].isna().all()
    refused = CliRunner().invoke(app, [*given, "--force"])
    assert refused.exit_code != 0
    assert "--describe" in str(refused.exception or refused.output)


def test_a_prediction_from_a_description_alone_is_explained_without_a_labelled_molecule(
    bundle: Bundle, tmp_path: Path
) -> None:
    model, query = tmp_path / "described.safetensors", tmp_path / "library.csv"
    bundle.save(model)
    pd.DataFrame({"smiles": LIBRARY}).to_csv(query, index=False)
    given = ["explain", "--support", "", "--query", str(query), "--model", str(model), "--describe", "target=kinase"]
    for name in ("why.csv", "why.html"):
        done = CliRunner().invoke(app, [*given, "-o", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "why.csv")
    np.testing.assert_allclose(table["assay_molmeta_probability"], said(bundle, "target=kinase", [], []), rtol=1e-4)
    parts = table[[f"assay_molmeta_{part}" for part in ("base", "prior_part", "support_part")]]
    np.testing.assert_allclose(parts.sum(axis=1), table["assay_molmeta_probability"], atol=1e-5)
    assert table["assay_molmeta_reason_1"].isna().all()


def test_explanations_and_plans_are_of_the_described_assay(bundle: Bundle, tmp_path: Path) -> None:
    model, query, support = tmp_path / "described.safetensors", tmp_path / "library.csv", tmp_path / "support.csv"
    curve = {"weights": [0.5, 0.1, 0.2, 1.0, 0.3, 0.6, 0.4], "spread": [0.02, 0.01, 0.01], "learned_from": "9 assays"}
    planned = replace(bundle, curves={"binary": curve})
    planned.save(model)
    smiles, labels = [*AMINES[::2], *ACIDS[::2]], [1, 0] * 4
    pd.DataFrame({"smiles": smiles, "active": labels}).to_csv(support, index=False)
    pd.DataFrame({"smiles": LIBRARY}).to_csv(query, index=False)
    given = ["--support", str(support), "--model", str(model), "--describe", "target=kinase"]
    explained = ["explain", *given, "--query", str(query), "-o", str(tmp_path / "why.csv")]
    assert CliRunner().invoke(app, explained).exit_code == 0
    found = pd.read_csv(tmp_path / "why.csv")["active_molmeta_probability"]
    np.testing.assert_allclose(found, said(bundle, "target=kinase", smiles, labels), rtol=1e-4)
    fitted = FewShotClassifier(planned, description="target=kinase").fit(smiles, labels)
    unsaid = FewShotClassifier(planned).fit(smiles, labels)
    shown = CliRunner().invoke(app, ["plan", *given])
    assert shown.exit_code == 0, shown.output
    assert str(fitted.outlook()) in shown.output
    assert str(unsaid.outlook()) != str(fitted.outlook())
