from __future__ import annotations

import sys
from collections import OrderedDict
from pathlib import Path

import pytest

from molmeta.core.registry import Registry
from molmeta.domains import BACKBONES, SOURCES
from molmeta.errors import ConfigError
from molmeta.methods import METHODS


@pytest.fixture
def registry() -> Registry:
    return Registry("box", {"ordered": "collections:OrderedDict", "counter": "collections:Counter"})


def test_a_name_or_a_path_of_one_s_own_loads(registry: Registry) -> None:
    assert registry.load("ordered") is OrderedDict
    assert registry.load("collections:OrderedDict") is registry["ordered"] is OrderedDict


def test_a_typo_is_answered_with_the_nearest_name_and_all_that_are_known(registry: Registry) -> None:
    with pytest.raises(ConfigError, match=r'unknown box "orderd". Did you mean "ordered"\? Known: counter, ordered'):
        registry.load("orderd")
    with pytest.raises(ConfigError, match=r'unknown box "xyz". Known: .*package.module:Name'):
        registry.load("xyz")


def test_a_path_to_nothing_says_which_part_is_missing(registry: Registry) -> None:
    with pytest.raises(ConfigError, match="there is no module nowhere_at_all to import"):
        registry.load("nowhere_at_all.mine:Thing")
    with pytest.raises(ConfigError, match="module collections has no Orderly"):
        registry.load("collections:Orderly")


def test_a_module_that_misses_something_else_shows_its_own_error(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine_needs.py").write_text("import nothing_of_that_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="nothing_of_that_name"):
        registry.load("mine_needs:Thing")


def test_a_name_is_given_once(registry: Registry) -> None:
    registry.add("deque", "collections:deque")
    registry.add("deque", "collections:deque")
    with pytest.raises(ConfigError, match='box "deque" is already collections:deque'):
        registry.add("deque", "queue:Queue")
    assert list(registry) == ["ordered", "counter", "deque"]
    assert "deque" in registry


def test_listing_a_registry_imports_nothing() -> None:
    registry = Registry("box", {"heavy": "antigravity:nothing"})
    assert list(registry) == ["heavy"]
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("registry", [METHODS, BACKBONES, SOURCES])
def test_every_registered_thing_loads_and_has_settings(registry: Registry) -> None:
    for name in registry:
        assert registry.load(name).Config()
