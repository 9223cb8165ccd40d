"""Networks of one's own by name, in recipes and on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from molmeta.bundle import Bundle, Member
from molmeta.cli import main
from molmeta.core.networks import NetworkMaker
from molmeta.domains import BACKBONES
from molmeta.errors import ConfigError, ModelFileError
from molmeta.recipe import Recipe, make_learner
from molmeta.training.state import load_tensors, save_tensors

HERE = "tests.core.test_networks"


def made(hidden: tuple[int, ...] = (5,), width: int = 4, norm: Callable[[int], nn.Module] = nn.LayerNorm) -> nn.Module:
    return nn.Sequential(nn.Linear(2, hidden[0]), norm(hidden[0]), nn.Linear(hidden[0], width))


class Plain(nn.Module):
    """A network that knows nothing of backbones."""

    width = 3

    def __init__(self, slope: float = 0.1) -> None:
        super().__init__()
        self.layer, self.slope = nn.Linear(2, 3), slope

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = nn.functional.leaky_relu(self.layer(x), self.slope)
        return out


NETWORK = made()


def needs(hidden: int) -> nn.Module:
    return made((hidden,))


def test_a_function_s_plain_defaults_are_its_settings() -> None:
    tables = {"backbone": {"name": f"{HERE}:made", "hidden": [6]}, "method": {"name": "protonet"}}
    recipe = Recipe.of(tables)
    assert recipe.tables()["backbone"] == {"name": f"{HERE}:made", "hidden": [6], "width": 4}
    learner = make_learner(recipe.method, recipe.backbone)
    assert learner.backbone(torch.zeros(5, 2)).shape == (5, 4)
    assert learner.state_dict()["backbone.net.0.weight"].shape == (6, 2)
    with pytest.raises(ConfigError, match=r'unknown setting "widht" in \[backbone\]. Did you mean "width"'):
        Recipe.of({"backbone": {"name": f"{HERE}:made", "widht": 3}})
    with pytest.raises(ConfigError, match="width is a int, not 'wide'"):
        Recipe.of({"backbone": {"name": f"{HERE}:made", "width": "wide"}})


def test_a_class_of_networks_is_made_with_its_settings() -> None:
    learner = make_learner({"name": "gp"}, {"name": f"{HERE}:Plain", "slope": 0.5})
    assert learner.backbone.width == 3
    assert learner.backbone.net.slope == 0.5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NETWORK", "is a network that was made"),
        ("needs", "needs hidden: give each parameter a default"),
        ("Path", "neither an nn.Module class nor a function"),
        ("HERE", "neither an nn.Module class nor a function"),
        ("nothing", "has no nothing"),
    ],
)
def test_what_makes_no_network_is_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Recipe.of({"backbone": {"name": f"{HERE}:{name}"}})


def test_a_module_beside_which_the_command_is_typed_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "beside_net.py").write_text("from torch import nn\n\ndef make():\n    return nn.Linear(10, 4)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [p for p in __import__("sys").path if p])
    settings = ["episodes.sampler=ways_and_shots", "episodes.support_sizes=[1]", "validation.support_sizes=[1]"]
    settings += ["training.warmup=1", "validation.seeds=1", "source.rows=40"]
    given = [part for setting in settings for part in ("--set", setting)]
    command = ["train", "--method", "protonet", "--backbone", "beside_net:make", "--source", "blobs", "--steps", "2"]
    assert main([*command, *given, "-o", "run"]) == 0, capsys.readouterr().err
    assert 'name = "beside_net:make"' in (tmp_path / "run" / "config.toml").read_text()


def test_a_model_file_names_no_function_to_call(tmp_path: Path) -> None:
    method, plain = {"name": "protonet"}, {"name": f"{HERE}:Plain"}
    path = tmp_path / "model.safetensors"
    Bundle([Member(method, plain, make_learner(method, plain))]).save(path)
    assert Bundle.load(path).members[0].backbone == plain
    tensors, header = load_tensors(path)
    header["members"][0]["backbone"] = {"name": "timeit:timeit", "stmt": "raise SystemExit"}
    save_tensors(path, tensors, header)
    with pytest.raises(ModelFileError, match='"timeit:timeit" is no class'):
        Bundle.load(path)
    of_function = {"name": f"{HERE}:made"}
    with pytest.raises(ConfigError, match="may name no function"):
        Bundle([Member(method, of_function, make_learner(method, of_function))]).save(path)


def test_a_registered_backbone_keeps_its_own_settings() -> None:
    assert all(hasattr(BACKBONES[name], "Config") for name in BACKBONES)
    assert NetworkMaker(Plain, "Plain").Config().slope == 0.1
