"""Saved models: they read back as they were, and nothing else is taken for one."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from molmeta.bundle import Bundle
from molmeta.config import to_toml
from molmeta.core.learner import Prediction
from molmeta.core.task import TaskKind
from molmeta.domains.molecules.featurise import featurise
from molmeta.domains.molecules.inputs import MoleculeBatch
from molmeta.errors import ModelFileError, SupportError
from molmeta.export import export
from molmeta.recipe import Recipe
from molmeta.training.state import load_tensors, save_tensors
from tests.bundles import BACKBONE, DRUGS, labels, tiny_bundle


def molecules() -> MoleculeBatch:
    return MoleculeBatch.of(featurise(DRUGS).arrays)


def predict(bundle: Bundle) -> Prediction:
    encoded = bundle.encode(molecules())
    return bundle.adapt(encoded, torch.from_numpy(labels(12)), TaskKind.BINARY, 2).predict(encoded)


@pytest.mark.parametrize("method", ["gp", "protonet", "maml"])
def test_a_saved_bundle_predicts_exactly_as_before(tmp_path, method):
    bundle = tiny_bundle(method, members=2)
    bundle.save(tmp_path / "m.safetensors")
    again = Bundle.load(tmp_path / "m.safetensors")
    assert torch.equal(predict(again).probabilities, predict(bundle).probabilities)
    assert again.card == bundle.card
    assert again.digest == bundle.digest
    np.testing.assert_array_equal(again.reference.molecules.bins, bundle.reference.molecules.bins)
    again.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "m.safetensors").read_bytes()


def test_weights_are_kept_in_half_precision(tmp_path):
    tiny_bundle().save(tmp_path / "m.safetensors")
    kept = load_file(tmp_path / "m.safetensors")
    learned = [tensor for name, tensor in kept.items() if name.startswith("member0/")]
    assert {t.dtype for t in learned if t.ndim} == {torch.float16}
    assert {t.dtype for t in learned if not t.ndim} <= {torch.float32}


def test_another_bundle_has_another_digest():
    assert tiny_bundle("gp").digest != tiny_bundle("protonet").digest


def test_a_kind_that_the_model_does_not_serve_is_refused():
    bundle = tiny_bundle("protonet")
    with pytest.raises(SupportError, match="binary, multiclass tasks, not regression"):
        bundle.adapt(bundle.encode(molecules()), torch.ones(12), TaskKind.REGRESSION, 0)


def test_a_model_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(ModelFileError, match=r'no model "nowhere".*one of'):
        Bundle.load("nowhere")


def test_a_folder_is_not_a_model(tmp_path):
    with pytest.raises(ModelFileError, match="is a folder"):
        Bundle.load(tmp_path)


@pytest.mark.parametrize("keep", [0, 7, 100, 0.5, 0.999])
def test_a_truncated_model_is_refused_by_name(tmp_path, keep):
    path = tmp_path / "m.safetensors"
    tiny_bundle().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(ModelFileError, match=r"m\.safetensors is damaged"):
        Bundle.load(path)


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match="not one that molmeta wrote"):
        Bundle.load(tmp_path / "m.safetensors")


def test_a_run_state_is_not_taken_for_a_model(tmp_path):
    save_tensors(tmp_path / "state.safetensors", {"a": torch.ones(2)}, {"step": 1})
    with pytest.raises(ModelFileError, match="not a model to predict with"):
        Bundle.load(tmp_path / "state.safetensors")


def rewritten(path, **changes):
    tensors, header = load_tensors(path)
    save_tensors(path, tensors, header | changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format 2; this molmeta reads up to 1. Upgrade"),
        ({"featuriser": 99}, "featuriser 99"),
        ({"members": [{"method": {"name": "gp"}}]}, "damaged"),
        ({"members": []}, "damaged"),
        ({"members": [{"method": {"name": "gp"}, "backbone": {**BACKBONE, "width": 8}}]}, "damaged"),
        ({"members": [{"method": {"name": "gq"}, "backbone": BACKBONE}]}, 'unknown method "gq"'),
        ({"temperature": 3}, "damaged"),
        ({"reference": {"nearest": 1}}, "damaged"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(tmp_path, change, message):
    path = tmp_path / "m.safetensors"
    tiny_bundle().save(path)
    rewritten(path, **change)
    with pytest.raises(ModelFileError, match=message):
        Bundle.load(path)


def test_a_failed_save_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    tiny_bundle().save(path)
    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "no space")))
    with pytest.raises(OSError, match="no space"):
        tiny_bundle("protonet").save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_runs_are_exported_as_an_ensemble_with_their_best_weights(tmp_path):
    bundle = tiny_bundle("gp", members=2)
    runs = []
    for i, member in enumerate(bundle.members):
        run = tmp_path / f"run{i}"
        run.mkdir()
        tables = Recipe.of({"method": dict(member.method), "backbone": dict(member.backbone)}).tables()
        (run / "config.toml").write_text(to_toml(tables))
        best = {f"best/{name}": t for name, t in member.learner.state_dict().items()}
        worse = {f"learner/{name}": t * 0 for name, t in member.learner.state_dict().items()}
        save_tensors(run / "state.safetensors", best | worse, {"step": 1})
        runs.append(run)
    export(runs, tmp_path / "both.safetensors", {"name": "Both", "scores": {"valid": 0.2}})
    assert torch.equal(predict(Bundle.load(tmp_path / "both.safetensors")).probabilities, predict(bundle).probabilities)
    assert "# Both" in (tmp_path / "both.md").read_text()
    (tmp_path / "run1" / "config.toml").write_text(to_toml(Recipe.of({"method": {"name": "protonet"}}).tables()))
    with pytest.raises(ModelFileError, match=r"run1 do not fit its config\.toml"):
        export(runs, tmp_path / "both.safetensors", {})


def test_the_header_is_readable_without_torch(tmp_path):
    path = tmp_path / "m.safetensors"
    tiny_bundle().save(path)
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert json.loads(header["__metadata__"]["molmeta"])["card"]["name"] == "tiny"


def test_a_bundle_needs_a_learner():
    with pytest.raises(ModelFileError, match="one learner or more"):
        Bundle([])


def test_each_kind_is_predicted_by_the_members_that_serve_it() -> None:
    process, prototypes = tiny_bundle("gp"), tiny_bundle("protonet")
    both = Bundle([*process.members, *prototypes.members])
    assert both.kinds == process.kinds
    molecules = MoleculeBatch.of(featurise(DRUGS).arrays)
    values = torch.arange(len(DRUGS)).float()

    def predicted(bundle: Bundle, targets: torch.Tensor, kind: TaskKind, k: int) -> Prediction:
        encoded = bundle.encode(molecules)
        return bundle.adapt(encoded, targets, kind, k).predict(encoded)

    alone = predicted(process, values, TaskKind.REGRESSION, 0)
    torch.testing.assert_close(predicted(both, values, TaskKind.REGRESSION, 0).mean, alone.mean)
    classes = torch.from_numpy(labels(len(DRUGS)))
    each = [predicted(b, classes, TaskKind.BINARY, 2).probabilities for b in (process, prototypes)]
    mixed = predicted(both, classes, TaskKind.BINARY, 2).probabilities
    torch.testing.assert_close(mixed, sum(p for p in each if p is not None) / 2)


def test_a_bundle_of_fingerprints_needs_no_graphs_and_predicts_the_same_without() -> None:
    bundle = Bundle.load("default")
    assert not bundle.reads_graphs
    assert not tiny_bundle().reads_graphs
    whole, short = (MoleculeBatch.of(featurise(DRUGS, graphs=graphs).arrays) for graphs in (True, False))
    for one, other in zip(bundle.encode(whole), bundle.encode(short), strict=True):
        torch.testing.assert_close(one.values, other.values, rtol=0, atol=0)
