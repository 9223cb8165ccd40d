"""Two towers that meet in a product: what is fitted, and what it says of an assay that it has not seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from molmeta.core.task import Inputs, IntArray, Task, TaskKind
from molmeta.domains.molecules import towers as module
from molmeta.domains.molecules.descriptions import stacked
from molmeta.domains.molecules.featurise import featurise
from molmeta.domains.molecules.fingerprints import log_counts
from molmeta.domains.molecules.inputs import MoleculeBatch
from molmeta.domains.molecules.towers import Towers

# Kinases like amines, proteases like acids: half of the molecules are each.
AMINES = [f"{'C' * i}N" for i in range(1, 9)]
ACIDS = [f"{'C' * i}C(=O)O" for i in range(1, 9)]
MOLECULES = MoleculeBatch.of(featurise([*AMINES, *ACIDS]).arrays)


class Source:
    def gather(self, rows: IntArray) -> Inputs:
        return MOLECULES[torch.from_numpy(rows)]


def assays() -> list[Task]:
    rng, made = np.random.default_rng(0), []
    for i in range(12):
        rows = rng.permutation(16)[:10]
        kinase = i % 2 == 0
        labels = ((rows < 8) == kinase).astype(np.int64)
        said = {"target": f"{'kinase' if kinase else 'protease'} number{i}", "target_id": str(i)}
        made.append(Task(f"t{i}", rows, labels, TaskKind.BINARY, 2, said))
    return made


@pytest.fixture
def towers(monkeypatch: pytest.MonkeyPatch) -> Towers:
    monkeypatch.setattr(module, "_STEPS", 150)
    monkeypatch.setattr(module, "_ROWS", 64)
    made = Towers(4)
    made.fit(Source(), assays())  # type: ignore[arg-type]
    return made


def logits(towers: Towers, *targets: str) -> torch.Tensor:
    described = stacked([{"target": target} if target else {} for target in targets])
    return towers.molecules(MOLECULES) @ towers.assays(described).T


def test_a_new_target_of_a_known_family_prefers_what_its_family_prefers(towers: Towers) -> None:
    kinase, protease = logits(towers, "A kinase never seen", "unseen protease").T
    assert kinase[:8].min() > kinase[8:].max()
    assert protease[8:].min() > protease[:8].max()


def test_words_that_training_never_met_say_as_little_as_none(towers: Towers) -> None:
    strange, none = logits(towers, "zzyzx qwop", "").T
    torch.testing.assert_close(strange, none)


def test_the_product_is_the_formula(towers: Towers) -> None:
    x, d = F.normalize(log_counts(MOLECULES), dim=1)[3], stacked([{"target": "kinase number2"}])[0]
    u = towers.structure @ x + towers.structure_bias
    n = d * towers.rarity / (d * towers.rarity).norm()
    v = towers.words @ n + towers.words_bias
    torch.testing.assert_close(logits(towers, "kinase number2")[3, 0], u[0] + u[1:] @ v / 2)


def test_fitting_twice_gives_the_same_numbers_and_nothing_for_a_trainer_to_move(towers: Towers) -> None:
    again = Towers(4)
    again.fit(Source(), assays())  # type: ignore[arg-type]
    for name, tensor in towers.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, rtol=0, atol=0)
    assert not list(towers.parameters())


def test_the_sparse_product_is_that_of_whole_fingerprints() -> None:
    rows = np.array([2, 5, 11])
    table = torch.randn(2048, 3, generator=torch.Generator().manual_seed(0))
    drawn = torch.tensor([2, 0, 0, 1])
    dense = F.normalize(log_counts(MOLECULES[torch.from_numpy(rows)]), dim=1)
    found = module._Fingerprints(Source(), rows).times(table, drawn)  # type: ignore[arg-type]
    torch.testing.assert_close(found, dense[drawn] @ table)
