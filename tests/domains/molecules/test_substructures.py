"""Hashed substructures: counted as RDKit counts them, and the same however the atoms are numbered."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator
from torch.nn import functional as F

from molmeta.domains.molecules.featurise import featurise
from molmeta.domains.molecules.inputs import MoleculeBatch
from molmeta.domains.molecules.profiles import Profiles, ProfilesConfig
from molmeta.domains.molecules.substructures import SUBSTRUCTURES, counted
from molmeta.errors import ConfigError

SMILES = [
    "CC(=O)Oc1ccccc1C(=O)O",
    "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
    "C",
    "[Na+].[Cl-]",
    "O=C(NC1CCNCC1)c1ccc(F)cc1",
    "C1CCC1",
    "FC(F)(F)c1cc(Br)ccc1[N+](=O)[O-]",
]


def batch(smiles: list[str]) -> MoleculeBatch:
    return MoleculeBatch.of(featurise(smiles).arrays)


def test_there_are_as_many_torsions_as_rdkit_finds() -> None:
    generator = rdFingerprintGenerator.GetTopologicalTorsionGenerator(fpSize=2048)
    wanted = [sum(generator.GetCountFingerprint(Chem.MolFromSmiles(s)).GetNonzeroElements().values()) for s in SMILES]
    assert counted(batch(SMILES), "torsions").sum(1).tolist() == wanted


@pytest.mark.parametrize("name", ["elements", "roles"])
def test_every_atom_has_an_environment_of_each_radius(name: str) -> None:
    atoms = [Chem.MolFromSmiles(s).GetNumAtoms() for s in SMILES]
    assert counted(batch(SMILES), name).sum(1).tolist() == [3 * n for n in atoms]


@pytest.mark.parametrize("name", SUBSTRUCTURES)
def test_counts_do_not_depend_on_the_order_of_atoms_nor_on_the_other_molecules(name: str) -> None:
    rng = np.random.default_rng(0)
    shuffled = []
    for smiles in SMILES:
        molecule = Chem.MolFromSmiles(smiles)
        order = rng.permutation(molecule.GetNumAtoms()).tolist()
        shuffled.append(Chem.MolToSmiles(Chem.RenumberAtoms(molecule, order), canonical=False))
    alone = torch.cat([counted(batch([smiles]), name) for smiles in shuffled])
    assert torch.equal(counted(batch(SMILES), name), alone)


def test_elements_tell_what_roles_do_not_and_the_other_way_round() -> None:
    chlorine, bromine, amide, amine = (batch([s]) for s in ("Clc1ccccc1", "Brc1ccccc1", "CC(=O)NC", "CCNC"))
    assert torch.equal(counted(chlorine, "roles"), counted(bromine, "roles"))
    assert not torch.equal(counted(chlorine, "elements"), counted(bromine, "elements"))
    assert not torch.equal(counted(amide, "roles"), counted(amine, "roles"))


def test_roles_part_atoms_as_rdkits_features_do() -> None:
    """Two groups have the same roles here where they have them there."""
    kinds = rdFingerprintGenerator.GetMorganFeatureAtomInvGen()
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=0, atomInvariantsGenerator=kinds)
    groups = ["CO", "CN", "CC", "CF", "CBr", "c1ccncc1", "C=O"]
    theirs = [generator.GetFingerprintAsNumPy(Chem.MolFromSmiles(s)).tobytes() for s in groups]
    ours = [counted(batch([s]), "roles").gt(0).numpy().tobytes() for s in groups]
    same = [[a == b for b in theirs] for a in theirs]
    assert [[a == b for b in ours] for a in ours] == same


def test_the_similarity_of_a_profiles_structure_is_the_mean_over_its_views() -> None:
    names = ("morgan", "elements", "roles", "torsions")
    backbone = Profiles(ProfilesConfig(structures=names, properties=0.0))
    assert backbone.reads_graphs
    together = torch.split(backbone(batch(SMILES)), list(backbone.views), dim=1)[2]
    each = [F.normalize(counted(batch(SMILES), name).log1p(), dim=1) for name in names]
    torch.testing.assert_close(together @ together.T, sum(view @ view.T for view in each) / 4)


def test_torsions_are_those_found_by_walking_from_every_atom() -> None:
    """Told apart by their ends alone, in each molecule."""
    smiles = [*SMILES, "C12C3C4C1C5C2C3C45", "C1CC12CC2", "CC(C)(C)C(C)(C)C"]
    for text in smiles:
        molecule = Chem.MolFromSmiles(text)
        around = [[a.GetIdx() for a in atom.GetNeighbors()] for atom in molecule.GetAtoms()]
        walked = {
            min((a, b, c, d), (d, c, b, a))
            for a in range(len(around))
            for b in around[a]
            for c in around[b]
            for d in around[c]
            if len({a, b, c, d}) == 4
        }
        assert counted(batch([text]), "torsions").sum() == len(walked), text


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_profile_s_structure_is_that_of_dense_counts(dtype: torch.dtype) -> None:
    """Logs, weights and unit length: of whole rows, and of what is not 0 alone."""
    names = ("morgan", "roles", "torsions")
    backbone = Profiles(ProfilesConfig(structures=names, properties=0.0))
    backbone.weights = torch.rand(3, 2048, generator=torch.Generator().manual_seed(0)) + 0.5
    torch.set_default_dtype(dtype)
    try:
        found = torch.split(backbone(batch(SMILES)), list(backbone.views), dim=1)[2]
        logs = [counted(batch(SMILES), name).log1p() for name in names]
    finally:
        torch.set_default_dtype(torch.float32)
    dense = [F.normalize(log * weights, dim=1) for log, weights in zip(logs, backbone.weights.to(dtype), strict=True)]
    assert found.dtype == dtype
    torch.testing.assert_close(found, torch.cat(dense, dim=1) / 3**0.5)
    assert (found[2, 4096:] == 0).all(), "methane has no torsion"


def test_an_unknown_view_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="elements, roles, torsions"):
        ProfilesConfig(structures=("morgan", "rings"))
