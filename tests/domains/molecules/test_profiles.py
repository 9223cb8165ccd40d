"""What assays measured of molecules, by hand on a table small enough to read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from molmeta.core.task import Inputs, IntArray, Task, TaskKind
from molmeta.domains.molecules import towers
from molmeta.domains.molecules.featurise import featurise
from molmeta.domains.molecules.inputs import MoleculeBatch
from molmeta.domains.molecules.profiles import Profiles, ProfilesConfig, fingerprint_keys
from molmeta.domains.molecules.substructures import counted
from molmeta.errors import ConfigError

SMILES = ["CCO", "CCN", "c1ccccc1", "CC(=O)O", "CCCl", "CCCCBr"]
# Assays a column, molecules a row; the last molecule was never measured.
LABELS = np.array([[1, 1, 1], [0, 1, -1], [1, 0, 1], [-1, 0, 0], [0, -1, 0], [-1, -1, -1]])  # -1: not measured
SHARES = [0.5, 0.5, 0.5]


class Molecules:
    def __init__(self, smiles: list[str]) -> None:
        self.batch = MoleculeBatch.of(featurise(smiles).arrays)

    def gather(self, rows: IntArray) -> Inputs:
        return self.batch[torch.from_numpy(rows)]


def read(**settings: object) -> Profiles:
    tasks = []
    for t, column in enumerate(LABELS.T):
        rows = np.flatnonzero(column >= 0)
        tasks.append(Task(f"t{t}", rows, column[rows], TaskKind.BINARY, 2))
    backbone = Profiles(ProfilesConfig(**{"width": 3, **settings}))
    backbone.read(Molecules(SMILES), tasks)  # type: ignore[arg-type]
    return backbone


def views(backbone: Profiles, smiles: list[str]) -> list[torch.Tensor]:
    return list(torch.split(backbone(Molecules(smiles).batch), list(backbone.views), dim=1))


def test_the_rate_is_how_much_oftener_a_molecule_is_active_shrunk_by_two_measurements() -> None:
    measured = LABELS >= 0
    rate = np.where(measured, LABELS - SHARES, 0).sum(1) / (measured.sum(1) + 2)
    found = views(read(), SMILES)[0].numpy()
    np.testing.assert_allclose(found, np.stack([np.sin(np.pi * rate), np.cos(np.pi * rate)], 1), atol=1e-6)


def test_with_as_many_directions_as_assays_profiles_compare_as_whole_rows_of_the_table() -> None:
    table = np.where(LABELS >= 0, LABELS - SHARES, 0)
    unit = table / np.linalg.norm(table, axis=1, keepdims=True).clip(1e-12)
    profile = views(read(), SMILES)[1]
    assert np.linalg.matrix_rank(table) == 3  # two directions at the most are found of three assays
    np.testing.assert_allclose((profile[-1] == 0).all(), True)
    assert profile[:-1].norm(dim=1).numpy() == pytest.approx(1)
    assert np.corrcoef((profile @ profile.T).numpy()[:5, :5].ravel(), (unit @ unit.T)[:5, :5].ravel())[0, 1] > 0.9


def test_structures_compare_by_the_mean_of_cosines_of_weighted_log_counts_and_of_properties() -> None:
    backbone = read(structures=("morgan", "torsions"), properties=0.3, rarity=0.5)
    batch = Molecules(SMILES).batch
    parts = [counted(batch, name).double().numpy() for name in ("morgan", "torsions")]
    expected = 0.3 * cosines(backbone.properties(batch).double().numpy())
    for counts in parts:
        rarity = -np.log(((counts[:5] > 0).sum(0) + 0.5) / 6)  # of the five that were measured
        expected += 0.35 * cosines(np.log1p(counts) * rarity**0.5)
    found = views(backbone, SMILES)[2].double()
    np.testing.assert_allclose((found @ found.T).numpy(), expected, atol=1e-5)


def cosines(rows: np.ndarray) -> np.ndarray:
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
    return unit @ unit.T


def test_what_the_tower_says_of_a_molecule_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(towers, "_STEPS", 5)
    backbone, plain = read(described=4), read()
    *compared, u = views(backbone, SMILES)
    torch.testing.assert_close(u, backbone.towers.molecules(Molecules(SMILES).batch))
    torch.testing.assert_close(compared, views(plain, SMILES))


def test_without_a_share_properties_are_left_out() -> None:
    backbone = read(properties=0.0)
    assert backbone.properties is None
    assert views(backbone, SMILES)[2].shape[1] == 2048


def test_a_molecule_is_known_however_it_is_written_and_others_are_not() -> None:
    backbone = read()
    np.testing.assert_array_equal(backbone(Molecules(["OCC"]).batch), backbone(Molecules(["CCO"]).batch))
    rate, profile, structure = views(backbone, ["CCCCCCCC#N"])
    assert rate[0].tolist() == [0.0, 1.0]
    assert not profile.any()
    assert structure.norm() == pytest.approx(1)
    keys = fingerprint_keys(Molecules([*SMILES, "OCC"]).batch)
    assert len(set(keys.tolist())) == len(SMILES)


def test_what_was_read_is_saved_with_the_weights_and_replaced_by_what_is_read_next(tmp_path: object) -> None:
    backbone, other = read(), Profiles(ProfilesConfig(width=3))
    assert other.width == 2 + 3 + 2048 + 27
    other.load_state_dict(backbone.state_dict())
    torch.testing.assert_close(other(Molecules(SMILES).batch), backbone(Molecules(SMILES).batch), rtol=0, atol=0)
    assert not list(backbone.parameters())


def test_a_single_assay_can_be_read() -> None:
    backbone = Profiles(ProfilesConfig(width=2, properties=0.0))
    backbone.read(Molecules(SMILES), [Task("t", np.array([0, 1]), np.array([0, 1]), TaskKind.BINARY, 2)])  # type: ignore[arg-type]
    rate, profile, _ = views(backbone, SMILES[:3])
    assert rate[:, 0].sign().tolist() == [-1, 1, 0]
    assert not profile.any()


def test_a_molecule_that_an_assay_calls_both_counts_as_not_measured_there() -> None:
    tasks = [Task("t", np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0]), TaskKind.BINARY, 2) for _ in range(3)]
    backbone = Profiles(ProfilesConfig(width=2))
    backbone.read(Molecules(SMILES), tasks)  # type: ignore[arg-type]
    rate = views(backbone, SMILES[:3])[0][:, 0]
    assert rate.sign().tolist() == [0, 1, -1]


def test_settings_below_one_are_refused() -> None:
    with pytest.raises(ConfigError, match="1 or more"):
        ProfilesConfig(width=0)
