"""Evaluations over a person's own assays: interrupted, on several processes, of functions and estimators."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.naive_bayes import BernoulliNB

from molmeta.bundle import Bundle
from molmeta.cli import main
from molmeta.core.task import Split
from molmeta.domains.molecules.fsmol import FSMol, FSMolConfig
from molmeta.errors import ConfigError, DataError, InputError, ModelFileError
from molmeta.evaluation.fewshot import Support
from molmeta.evaluation.results import Result
from molmeta.evaluation.scores import Score
from molmeta.recipe import make_learner
from molmeta.scoring import PROTOCOLS, Question, evaluate, question
from molmeta.scoring.overlap import short, training_structures
from molmeta.scoring.summary import lines, training_lines
from tests.assays import own_assays
from tests.bundles import BACKBONE, tiny_bundle

TIMES = {"seconds", "encode_seconds"}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Question:
    """Six own assays, in the train fold; support sizes of 8 and 12, two draws each."""
    folder = tmp_path_factory.mktemp("own")
    table = own_assays(folder / "own.csv")
    assert main(["data", "convert", str(table), "-o", str(folder / "assays")]) == 0
    settings = (f"source.root={folder / 'assays'}", "source.hold_out=false")
    return question("fsmol", split="train", sizes=(8, 12), seeds=2, settings=settings)


@pytest.fixture(scope="module")
def source(asked: Question) -> FSMol:
    root = asked.settings[0].partition("=")[2]
    return FSMol(FSMolConfig(root=root, hold_out=False))


def values(scores: list[Score] | tuple[Score, ...]) -> dict[tuple[object, ...], dict[str, float]]:
    return {
        (s.task, s.support_size, s.seed, s.subset): {k: v for k, v in s.values.items() if k not in TIMES}
        for s in scores
    }


def test_an_interrupted_evaluation_goes_on_and_ends_with_the_same_numbers(asked: Question, tmp_path: Path) -> None:
    whole = evaluate("tanimoto-gp", asked, out=tmp_path / "whole")

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate("tanimoto-gp", asked, out=tmp_path / "cut", progress=stop)
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "cut" / "draws").iterdir()}
    assert len(finished) == 2
    with pytest.raises(InputError, match="not finished"):
        Result.read(tmp_path / "cut")
    seen = []
    cut = evaluate("tanimoto-gp", asked, out=tmp_path / "cut", progress=lambda *counts: seen.append(counts))
    assert seen[0] == (2, len(whole.tasks))
    assert all(path.stat().st_mtime_ns == time for path, time in finished.items())
    np.testing.assert_equal(values(Result.read(tmp_path / "cut").scores), values(whole.scores))
    np.testing.assert_equal(values(cut.scores), values(whole.scores))


def test_the_numbers_do_not_depend_on_the_workers(asked: Question, tmp_path: Path) -> None:
    model = tmp_path / "tiny.safetensors"
    tiny_bundle(members=2).save(model)
    alone = evaluate(str(model), asked)
    together = evaluate(str(model), asked, workers=2)
    np.testing.assert_equal(values(together.scores), values(alone.scores))
    with pytest.raises(ConfigError, match="by name"):
        evaluate(tiny_bundle(), asked, workers=2)


def test_another_evaluation_s_folder_is_not_touched_unless_forced(asked: Question, tmp_path: Path) -> None:
    evaluate("tanimoto-gp", asked, out=tmp_path / "r")
    before = {path.name: path.read_bytes() for path in (tmp_path / "r").iterdir() if path.is_file()}
    with pytest.raises(InputError, match="protocol differ"):
        evaluate("tanimoto-gp", question_with(asked, sizes=(8,)), out=tmp_path / "r")
    with pytest.raises(InputError, match="method"):
        evaluate("tanimoto-gp", asked, out=tmp_path / "r", name="other")
    assert {path.name: path.read_bytes() for path in (tmp_path / "r").iterdir() if path.is_file()} == before
    assert evaluate("tanimoto-gp", question_with(asked, sizes=(8,)), out=tmp_path / "r", force=True).sizes == [8]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("dear")
    with pytest.raises(InputError, match="not a result"):
        evaluate("tanimoto-gp", asked, out=tmp_path / "mine", force=True)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "dear"
    with pytest.raises(InputError, match="there is no folder"):
        evaluate("tanimoto-gp", asked, out=tmp_path / "no" / "r")


def test_another_program_s_result_is_not_overwritten_even_when_forced(asked: Question, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "draws").mkdir(parents=True)
    for name, text in {"result.json": '{"mine": 1}', "draws/thesis.tex": "dear", "scores.csv": "mine"}.items():
        (mine / name).write_text(text)
    for header in ('{"mine": 1}', "[]", "{"):
        (mine / "result.json").write_text(header)
        with pytest.raises(InputError, match="not a result"):
            evaluate("tanimoto-gp", asked, out=mine, force=True)
    assert (mine / "draws" / "thesis.tex").read_text() == "dear"
    assert (mine / "scores.csv").read_text() == "mine"


def test_a_changed_model_under_the_same_name_is_another_evaluation(asked: Question, tmp_path: Path) -> None:
    def f(support: Support, query: list[str]) -> list[float]:
        return [float("Cl" in smiles) for smiles in query]

    evaluate(f, asked, out=tmp_path / "f")
    with pytest.raises(InputError, match="model differ"):
        evaluate(f, asked, out=tmp_path / "f")  # nobody can tell that it is the same
    first, second = (make_learner({"name": "protonet"}, BACKBONE) for _ in range(2))
    evaluate(first, asked, out=tmp_path / "learner")
    evaluate(first, asked, out=tmp_path / "learner")
    with pytest.raises(InputError, match="model differ"):
        evaluate(second, asked, out=tmp_path / "learner")


def test_a_task_whose_data_changed_is_done_anew(asked: Question, tmp_path: Path) -> None:
    before = evaluate("knn", asked, out=tmp_path / "r")
    root = Path(asked.settings[0].partition("=")[2])
    file = root / "train" / "has_0.jsonl.gz"
    original = file.read_bytes()
    try:
        lines = [json.loads(line) for line in gzip.decompress(original).decode().splitlines()]
        for line in lines:
            line["Property"] = str(1 - float(line["Property"]))
        file.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
        after = evaluate("knn", asked, out=tmp_path / "r")
        fresh = evaluate("knn", asked)
    finally:
        file.write_bytes(original)
    np.testing.assert_equal(values(after.scores), values(fresh.scores))
    changed = {k[0] for k, v in values(after.scores).items() if v != values(before.scores)[k] and v["queries"]}
    assert "has_0" in changed


def test_a_scikit_learn_estimator_is_evaluated_as_it_is(asked: Question) -> None:
    result = evaluate(BernoulliNB(), asked)
    assert result.method == "BernoulliNB"
    assert all(np.isfinite(s.values["nll"]) for s in result.scores if s.subset == "all")
    with pytest.raises(ConfigError, match="neither"):
        evaluate(5, asked)  # type: ignore[arg-type]


def test_an_interrupt_ends_the_workers(asked: Question, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
import time, uuid
from pathlib import Path

def slow(support, query):
    (Path("calls") / uuid.uuid4().hex).touch()
    time.sleep(30 if len(list(Path("calls").iterdir())) > 8 else 0)  # two tasks are done at once, the others in minutes
    return [0.5] * len(query)
"""
    (tmp_path / "slow_scores.py").write_text(code)
    (tmp_path / "calls").mkdir()
    monkeypatch.chdir(tmp_path)

    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        evaluate("slow_scores:slow", asked, workers=2, progress=stop)
    assert time.monotonic() - started < 25
    assert not multiprocessing.active_children()


def test_a_refused_evaluation_leaves_nothing_behind(tmp_path: Path, asked: Question) -> None:
    with pytest.raises(ModelFileError, match='Did you mean "default"'):
        evaluate("defualt", asked, out=tmp_path / "r")
    with pytest.raises(DataError):
        evaluate("knn", question_with(asked, split="test"), out=tmp_path / "r")
    with pytest.raises(ConfigError, match="does not serve"):
        evaluate("sklearn.linear_model:Ridge", asked, out=tmp_path / "r")
    assert not list(tmp_path.iterdir())


def question_with(asked: Question, **changes: object) -> Question:
    return question("fsmol", **{**asked.__dict__, **changes})


def test_a_function_sees_smiles_and_labels_and_is_scored_like_a_model(asked: Question, source: FSMol) -> None:
    calls = []

    def chlorine(support: Support, query: list[str]) -> list[float]:
        calls.append(support)
        return [float("Cl" in smiles) for smiles in query]

    result = evaluate(chlorine, asked)
    assert result.method == "chlorine"
    per_task = {s.task: s.values["roc_auc"] for s in result.scores}
    assert per_task["has_0"] > 0.6 > per_task["has_2"]
    known = {task.name: task for task in source.tasks(Split.TRAIN)}["has_0"]
    truth = dict(zip(source.smiles(known.rows), known.labels, strict=True))
    first = calls[0]
    assert [truth[smiles] for smiles in first.smiles] == first.labels.tolist()


def test_a_function_or_estimator_in_a_file_of_one_s_own_is_named_on_the_command_line(
    asked: Question, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "import sklearn.naive_bayes\n\ndef longer(support, query):\n    return [len(s) for s in query]\n"
    (tmp_path / "my_own_scores.py").write_text(
        code + "\nbayes = sklearn.naive_bayes.BernoulliNB(alpha=0.5)\nfive = 5\n"
    )
    monkeypatch.chdir(tmp_path)
    options = ["--split", "train", "-n", "8", "--seeds", "1"]
    options += [part for setting in asked.settings for part in ("--set", setting)]
    for name in ("my_own_scores:longer", "my_own_scores:bayes", "sklearn.naive_bayes:BernoulliNB"):
        out = Path(name.partition(":")[2])
        assert main(["evaluate", name, *options, "-o", str(out)]) == 0
        assert json.loads((out / "result.json").read_text())["method"] == out.name
    assert main(["evaluate", "my_own_scores:five", *options]) == 2
    assert main(["evaluate", "my_own_score:five", *options]) == 2
    assert main(["evaluate", "my_own_scores:six", *options]) == 2
    said = capsys.readouterr().err
    assert "neither" in said
    assert "no module my_own_score " in said
    assert "has no six" in said


def test_what_a_model_was_trained_on_is_counted_marked_and_scored_apart(
    asked: Question, source: FSMol, tmp_path: Path
) -> None:
    tasks = source.tasks(Split.TRAIN)
    names = frozenset(task.name for task in tasks[:2])
    some = source.structures(tasks[0].rows[:30])
    bundle = tiny_bundle()
    card = {**bundle.card, "training_tasks": sorted(names)}
    told = Bundle(bundle.members, card, None, {}, np.sort(short(some)))
    told.save(tmp_path / "told.safetensors")
    result = evaluate(str(tmp_path / "told.safetensors"), asked)
    seen = result.header["overlap"]
    molecules = len(np.unique(np.concatenate([source.structures(task.rows) for task in tasks])))
    assert seen == {
        "tasks": len(tasks),
        "trained_tasks": sorted(names),
        "molecules": molecules,
        "trained_molecules": 30,
    }
    said = "\n".join(training_lines(result))
    assert f"30 of the {molecules} molecules" in said
    assert f"2 of {len(tasks)} assays were trained on" in said
    rows = {(s.task, s.support_size, s.seed, s.subset): s.values["queries"] for s in result.scores}
    assert 0 < rows[tasks[0].name, 8, 0, "unseen"] <= molecules - 30 < rows[tasks[0].name, 8, 0, "all"]
    # A card that only names its tasks tells as much, where they are at hand.
    named = training_structures(source, names)
    assert named is not None
    expected = np.unique(np.concatenate([source.structures(task.rows) for task in tasks[:2]]))
    assert named.tolist() == np.unique(short(expected)).tolist()
    assert training_structures(source, names | {"elsewhere"}) is None


def test_a_model_file_keeps_the_hashes_of_its_training_molecules(tmp_path: Path) -> None:
    bundle = tiny_bundle()
    hashes = np.array([0, 5, 2**31, 2**32 - 1], np.uint32)
    Bundle(bundle.members, bundle.card, None, {}, hashes).save(tmp_path / "b.safetensors")
    read = Bundle.load(tmp_path / "b.safetensors").training_structures
    assert read is not None
    assert read.tolist() == hashes.tolist()
    bundle.save(tmp_path / "without.safetensors")
    assert Bundle.load(tmp_path / "without.safetensors").training_structures is None


def test_the_bundled_model_knows_its_training_molecules() -> None:
    hashes = Bundle.load("default").training_structures
    assert hashes is not None
    assert len(hashes) > 100_000


def test_the_summary_counts_tasks_and_says_when_they_differ_between_lines(asked: Question) -> None:
    result = evaluate("tanimoto-gp", question_with(asked, sizes=(8, 47)))
    said = lines(result)
    assert said[1].split()[:2] == ["8", str(len(result.tasks))]
    assert said[2].split()[:2] == ["47", "0"]
    assert any("random ranking" in line for line in said)


def test_the_published_protocols_ask_what_they_publish() -> None:
    fsmol = PROTOCOLS["fsmol"]
    assert (fsmol.sizes, fsmol.seeds, fsmol.draws) == ((16, 32, 64, 128, 256), 10, "standard")
    assert PROTOCOLS["muv"].sizes == (2, 20)
    assert question("fsmol-regression", settings=("source.on_invalid=drop",)).settings == (
        "source.regression=adkf",
        "source.on_invalid=drop",
    )
    with pytest.raises(ConfigError, match='Did you mean "fsmol"'):
        question("fs-mol")
    with pytest.raises(ConfigError, match="unknown split") as refused:
        question(split="tset", draws="random", seeds=0)
    assert "unknown way to draw" in str(refused.value)
    assert "seeds are 1 or more" in str(refused.value)
