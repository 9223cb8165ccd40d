from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from molmeta.config import from_mapping, override, to_mapping, to_toml
from molmeta.errors import ConfigError
from molmeta.methods.maml import MAMLConfig
from molmeta.recipe import Recipe
from molmeta.training_run import shipped_recipes


@dataclass(frozen=True, kw_only=True, slots=True)
class Inner:
    width: int = 4
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outer:
    rate: float = 0.1
    steps: int | None = None
    sizes: tuple[int, ...] = (1, 2)
    flag: bool = False
    name: str = "x"
    inner: Inner = field(default_factory=Inner)


def test_settings_survive_a_round_trip_through_toml() -> None:
    made = Outer(rate=2.5e-7, steps=3, sizes=(7,), flag=True, name='a "b" \\ ü', inner=Inner(width=9, kind="b"))
    text = to_toml({"method": {"name": "m", **to_mapping(made)}})
    read = tomllib.loads(text)["method"]
    assert read.pop("name") == 'a "b" \\ ü'
    assert from_mapping(Outer, {**read, "name": made.name}, "[method]") == made
    assert from_mapping(Outer, tomllib.loads(to_toml(to_mapping(Outer()))), "[method]") == Outer()


def test_a_typo_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r'unknown setting "inner_lrs" in \[method\]. Did you mean "inner_lr"\?'):
        from_mapping(MAMLConfig, {"inner_lrs": 0.1}, "[method]")
    with pytest.raises(ConfigError, match=r'unknown setting "zzz" in \[method\]. Known: rate, steps'):
        from_mapping(Outer, {"zzz": 1}, "[method]")


def test_all_wrong_settings_are_listed_at_once_nested_ones_by_their_path() -> None:
    wrong = {"rate": "fast", "flag": 1, "sizes": [1, "two"], "inner": {"widht": 3, "kind": "c"}, "steps": 1.5}
    with pytest.raises(ConfigError) as caught:
        from_mapping(Outer, wrong, "[m]")
    assert str(caught.value).split("\n") == [
        "[m].rate is a float, not 'fast'",
        "[m].flag is a bool, not 1",
        "[m].sizes is a int, not 'two'",
        'unknown setting "widht" in [m].inner. Did you mean "width"?',
        "[m].inner.kind is one of a, b, not 'c'",
        "[m].steps is a int, not 1.5",
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": True}, "steps is a int, not True"),
        ({"inner": 3}, "inner is a table"),
        ({"sizes": 3}, "sizes is a list"),
    ],
)
def test_a_value_of_another_type_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_mapping(Outer, settings, "[m]")


def test_a_whole_number_serves_as_a_float_and_nothing_as_an_optional_number() -> None:
    made = from_mapping(Outer, {"rate": 1, "steps": ""}, "[m]")
    assert (made.rate, type(made.rate), made.steps) == (1.0, float, None)


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("method.inner_lr=0.01", {"method": {"inner_lr": 0.01}}),
        ("method.name = gp", {"method": {"name": "gp"}}),
        ("episodes.support_sizes=[4, 8]", {"episodes": {"support_sizes": [4, 8]}}),
        ("backbone.gnn.width=7", {"backbone": {"gnn": {"width": 7}}}),
        ("method.prior=false", {"method": {"prior": False}}),
        ("source.root=/a=b", {"source": {"root": "/a=b"}}),
    ],
)
def test_an_override_sets_one_value_as_toml_reads_it(assignment: str, expected: dict[str, Any]) -> None:
    tables: dict[str, Any] = {}
    override(tables, assignment)
    assert tables == expected


@pytest.mark.parametrize("assignment", ["steps=3", "training.steps", ".steps=3", "training.=3", ""])
def test_an_override_of_another_form_is_refused_with_an_example(assignment: str) -> None:
    with pytest.raises(ConfigError, match=r"is not of the form table\.name=value, such as"):
        override({}, assignment)


def test_an_override_below_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="steps is a value, not a table"):
        override({"training": {"steps": 3}}, "training.steps.more=1")


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"trainnig": {}}, r"unknown table \[trainnig\]. Did you mean \[training\]\?"),
        ({"training": {"stepps": 3}}, r'unknown setting "stepps" in \[training\]. Did you mean "steps"\?'),
        ({"method": {"name": "protonett"}}, r'unknown method "protonett". Did you mean "protonet"\?'),
        ({"method": {"name": "gp", "priro": True}}, r'unknown setting "priro" in \[method\]. Did you mean "prior"\?'),
        ({"backbone": {"name": "gnn", "layer": 3}}, r'Did you mean "layers"\?'),
        ({"source": {"name": "fsmoll"}}, r'unknown source "fsmoll". Did you mean "fsmol"\?'),
        ({"method": "gp"}, r"\[method\] is a table of settings, not 'gp'"),
        ({"method": {"name": 3}}, r"\[method\] needs a name; known: adkf, .*gp, .*maml"),
        ({"backbone": {"name": "collections:OrderedDict"}}, "neither an nn.Module class nor a function"),
        ({"validation": {"seeds": 0}}, r"\[validation\].seeds is at least 1"),
        ({"validation": {"support_sizes": []}}, r"\[validation\].support_sizes are 0 or more, one at least"),
    ],
)
def test_a_wrong_recipe_is_refused_by_name(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Recipe.of(tables)


def test_the_problems_of_all_tables_of_a_recipe_are_listed_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Recipe.of({"training": {"stepps": 3, "lr": "x"}, "method": {"name": "gpp"}, "episodes": {"query_size": 0}})
    assert len(str(caught.value).split("\n")) == 4


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_is_read_and_written_back_in_full(name: str) -> None:
    recipe = Recipe.of(Recipe.read(shipped_recipes()[name]))
    assert Recipe.of(tomllib.loads(to_toml(recipe.tables()))).tables() == recipe.tables()
