from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

from molmeta.core.random import seed_torch
from molmeta.core.task import Split, Task, TaskKind
from molmeta.devices import choose_device
from molmeta.errors import ConfigError, DataError, DeviceError, ModelFileError
from molmeta.evaluation.fewshot import evaluate
from molmeta.evaluation.statistics import summarise
from molmeta.recipe import Recipe, make_learner, make_trainer
from molmeta.training.state import load_tensors
from molmeta.training.trainer import Trainer
from molmeta.training_run import choose_recipe, run_training, shipped_recipes
from tests.toy import Source, SourceConfig

TOY: dict[str, Any] = {
    "method": {"name": "protonet"},
    "backbone": {"name": "tests.toy:Net"},
    "source": {"name": "tests.toy:Source", "tasks": 3},
    "episodes": {"support_sizes": [4], "query_size": 8},
    "training": {"steps": 4, "tasks_per_step": 2, "eval_every": 2},
    "validation": {"support_sizes": [6], "seeds": 2},
}


def recipe(**training: Any) -> Recipe:
    return Recipe.of({**TOY, "training": {**TOY["training"], **training}})


def run(folder: Path, force: bool = False, device: str = "cpu", **training: Any) -> Trainer:
    return run_training(recipe(**training), folder, device=device, threads=1, force=force)


def test_a_run_leaves_its_settings_history_weights_environment_and_card(tmp_path: Path) -> None:
    trainer = run(tmp_path / "run")
    folder = tmp_path / "run"
    assert Recipe.of(tomllib.loads((folder / "config.toml").read_text())).tables() == recipe().tables()
    assert [json.loads(line) for line in (folder / "history.jsonl").open()] == trainer.history
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__
    assert (environment["device"], environment["threads"]) == ("cpu", 1)
    card = json.loads((folder / "card.json").read_text())
    assert card["training_tasks"] == ["train0", "train1", "train2"]
    assert card["score"] == max(entry["score"] for entry in trainer.history) == card["validation"]["score"]
    assert not list(folder.glob(".*"))


def test_the_model_of_a_run_scores_what_its_history_says(tmp_path: Path) -> None:
    trainer = run(tmp_path / "run")
    tensors, header = load_tensors(tmp_path / "run" / "model.safetensors")
    read = Recipe.of(header["recipe"])
    learner = make_learner(read.method, read.backbone)
    learner.load_state_dict(tensors)
    source = Source(SourceConfig(tasks=3))
    scores = evaluate(learner, source, source.tasks(Split.VALID), sizes=(6,), seeds=range(2))
    best = max(trainer.history, key=lambda entry: entry["score"])
    assert best["valid_delta_auprc_6"] == pytest.approx(summarise(scores, "delta_auprc", 6).mean, abs=1e-5)
    assert best["score"] == pytest.approx((best["valid_delta_auprc_6"] + best["heldout_delta_auprc_6"]) / 2)


def test_the_same_command_twice_trains_once(tmp_path: Path) -> None:
    run(tmp_path / "run")
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    seen: list[object] = []
    run_training(recipe(), tmp_path / "run", device="cpu", threads=1, show=seen.append)
    assert seen == []
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before


def test_the_same_seed_gives_the_same_model_and_another_seed_another(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(tmp_path / name, seed=seed)
    a, b, c = (load_tensors(tmp_path / name / "model.safetensors")[0] for name in "abc")
    torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert not torch.equal(a["backbone.net.0.weight"], c["backbone.net.0.weight"])


def test_a_folder_with_another_run_or_anything_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    run(tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(
        ConfigError, match=rf"{tmp_path / 'run'} is not empty and does not hold a run of these settings"
    ):
        run(tmp_path / "run", steps=5)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    with pytest.raises(ConfigError, match=r"Name another folder with --out, or give --force"):
        run(tmp_path / "mine")


def test_force_replaces_a_run_and_leaves_other_files_alone(tmp_path: Path) -> None:
    run(tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("keep me")
    trainer = run(tmp_path / "run", force=True, steps=6)
    assert [entry["step"] for entry in trainer.history] == [2, 4, 6]
    assert (tmp_path / "run" / "notes.txt").read_text() == "keep me"


def test_what_a_kill_left_half_written_does_not_stand_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".config.toml.123.partial").write_text("[meth")
    run(tmp_path / "run")
    assert not list((tmp_path / "run").glob(".*"))


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(ConfigError, match=rf"cannot write the run folder {tmp_path / 'run'}"):
        run(tmp_path / "run")


def test_a_device_that_is_not_there_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    missing = f"cuda:{torch.cuda.device_count()}" if torch.cuda.is_available() else "cuda"
    with pytest.raises(DeviceError, match=rf'"{missing}" was asked for, but this machine has \d CUDA devices'):
        run(tmp_path / "run", device=missing)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "message"), [("gpu", "is not a device"), ("meta", "computes on cpu and cuda")])
def test_a_word_that_is_no_device_is_refused(name: str, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        choose_device(name)


def test_the_first_cuda_device_is_chosen_where_there_is_one() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu").type == "cpu"


def test_a_recipe_is_found_by_file_or_shipped_name_and_overridden(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[training]\nsteps = 7\n")
    found = choose_recipe(tmp_path / "mine.toml", ["training.lr=0.5", "method.name=gp"])
    assert (found.training.steps, found.training.lr, found.method["name"]) == (7, 0.5, "gp")
    assert choose_recipe(Path("fingerprint-gp"), []) == Recipe.of(Recipe.read(shipped_recipes()["fingerprint-gp"]))
    with pytest.raises(ConfigError, match=r'no file or shipped recipe "defualt". Shipped: .*fingerprint-baseline'):
        choose_recipe(Path("defualt"), [])
    (tmp_path / "broken.toml").write_text("[training\n")
    with pytest.raises(ConfigError, match=r"broken.toml is not TOML"):
        choose_recipe(tmp_path / "broken.toml", [])


def trainer(source: Any, folder: Path, sizes: list[int]) -> Trainer:
    made = Recipe.of({**TOY, "validation": {"support_sizes": sizes, "seeds": 1}})
    return make_trainer(made, source, folder)


def test_a_support_size_that_no_validation_task_is_large_enough_for_is_left_out_of_the_score(tmp_path: Path) -> None:
    made = trainer(Source(SourceConfig(tasks=3)), tmp_path, [6, 500])
    made.run()
    last = made.history[-1]
    assert {name for name in last if name.startswith("valid_")} == {"valid_delta_auprc_6"}
    assert last["score"] == pytest.approx((last["valid_delta_auprc_6"] + last["heldout_delta_auprc_6"]) / 2)


@pytest.mark.parametrize(
    ("kind", "asked_for", "metric", "sign"),
    [
        (TaskKind.MULTICLASS, "", "accuracy", 1),
        (TaskKind.REGRESSION, "", "r2", 1),
        (TaskKind.REGRESSION, "mse", "mse", -1),
    ],
)
def test_a_source_of_one_kind_is_chosen_on_by_that_kind_s_metric_or_the_one_asked_for(
    tmp_path: Path, kind: TaskKind, asked_for: str, metric: str, sign: int
) -> None:
    class OfOneKind(Source):
        def tasks(self, split: Split, asked: TaskKind = TaskKind.BINARY) -> list[Task]:
            return super().tasks(split, kind) if asked is kind else []

    tables = {**TOY, "method": {"name": "gp"}, "validation": {"support_sizes": [6], "seeds": 1, "metric": asked_for}}
    if kind is TaskKind.REGRESSION:
        tables["training"] = {**tables["training"], "regression": 1.0}
    made = make_trainer(Recipe.of(tables), OfOneKind(), tmp_path)
    made.run()
    last = made.history[-1]
    assert sign * last["score"] == pytest.approx((last[f"valid_{metric}_6"] + last[f"heldout_{metric}_6"]) / 2)
    with pytest.raises(ConfigError, match="is one of"):
        make_trainer(Recipe.of({**tables, "validation": {"metric": "roc_auc"}}), OfOneKind(), tmp_path / "other")


def test_a_source_without_a_task_to_choose_on_is_refused_before_training(tmp_path: Path) -> None:
    class TrainOnly(Source):
        def tasks(self, split: Split, kind: TaskKind = TaskKind.BINARY) -> list[Task]:
            return super().tasks(split, kind) if split is Split.TRAIN else []

    for source, sizes in ((TrainOnly(), [6]), (Source(), [500])):
        with pytest.raises(DataError, match=r"neither a valid nor a held-out task .*support_sizes = \["):
            trainer(source, tmp_path, sizes)


def test_a_run_starts_from_the_backbone_of_another_and_its_card_says_so(tmp_path: Path) -> None:
    first = {**TOY, "method": {"name": "finetune", "heads": 8}}
    run_training(Recipe.of(first), tmp_path / "first", device="cpu", threads=1)
    second = run(tmp_path / "second", init=str(tmp_path / "first"), steps=1, lr=1e-12, weight_decay=0.0)
    pretrained, _ = load_tensors(tmp_path / "first" / "model.safetensors")
    for name, tensor in second.best.items():
        torch.testing.assert_close(tensor, pretrained[name], rtol=0, atol=1e-6)
    card = json.loads((tmp_path / "second" / "card.json").read_text())
    assert card["init"]["recipe"]["method"]["name"] == "finetune"
    with pytest.raises(ModelFileError, match="does not fit"):
        run_training(
            Recipe.of(
                {
                    **TOY,
                    "backbone": {"name": "tests.toy:Net", "width": 7},
                    "training": {"init": str(tmp_path / "first")},
                }
            ),
            tmp_path / "third",
        )
    with pytest.raises(ModelFileError, match="no model file"):
        run(tmp_path / "fourth", init=str(tmp_path / "absent"))


def test_a_run_s_first_weights_depend_on_its_seed_alone(tmp_path: Path) -> None:
    seed_torch(3, 3)
    first = trainer(Source(), tmp_path, [6]).learner.state_dict()
    seed_torch(4, 4)
    torch.testing.assert_close(trainer(Source(), tmp_path, [6]).learner.state_dict(), first, rtol=0, atol=0)
