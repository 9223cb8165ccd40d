"""Nearest molecules, against RDKit's own count Tanimoto."""

from __future__ import annotations

import numpy as np
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator

from molmeta.domains.molecules import nearest
from molmeta.domains.molecules.featurise import featurise
from molmeta.domains.molecules.nearest import Counts, NearestTable, cached_nearest_similarity, nearest_similarity
from molmeta.domains.molecules.reference import Reference, describe_chemistry
from tests.bundles import DRUGS


def counts(smiles: list[str]) -> Counts:
    return Counts.of(featurise(smiles).arrays)


def test_similarities_are_rdkits():
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    prints = [generator.GetCountFingerprint(Chem.MolFromSmiles(s)) for s in DRUGS]
    expected = [DataStructs.BulkTanimotoSimilarity(p, prints[:7]) for p in prints]
    np.testing.assert_allclose(NearestTable(counts(DRUGS[:7])).similarities(counts(DRUGS)), expected, atol=1e-6)


def test_a_molecule_is_its_own_nearest(monkeypatch):
    monkeypatch.setattr(nearest, "_CELLS", 30)  # several blocks of rows
    index, similarity = NearestTable(counts(DRUGS)).nearest(counts(DRUGS))
    np.testing.assert_array_equal(index, range(len(DRUGS)))
    np.testing.assert_array_equal(similarity, 1)


def test_no_query_and_nothing_in_common_are_served():
    table = NearestTable(counts(["CCO"]))
    assert table.nearest(counts([]))[0].shape == (0,)
    assert table.nearest(counts(["[Xe]"]))[1].tolist() == [0.0]


def test_the_nearest_of_many_blocks_is_rdkits(monkeypatch):
    monkeypatch.setattr(nearest, "_BLOCK", 3)
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    prints = [generator.GetCountFingerprint(Chem.MolFromSmiles(s)) for s in DRUGS]
    expected = [max(DataStructs.BulkTanimotoSimilarity(p, prints[4:])) for p in prints[:6]]
    found = nearest_similarity(counts(DRUGS[:6]), counts(DRUGS[4:]))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float32
    assert nearest_similarity(counts(DRUGS[:2]), counts([])).tolist() == [0, 0]


def test_the_nearest_are_computed_once_for_the_same_molecules_and_anew_for_others_or_a_damaged_file(
    tmp_path, monkeypatch
):
    computed = []
    compute = nearest.nearest_similarity
    monkeypatch.setattr(nearest, "nearest_similarity", lambda *a: computed.append(a) or compute(*a))

    def find(queries: int = 3, molecules: int = 6) -> list[float]:
        return cached_nearest_similarity(counts(DRUGS[:queries]), counts(DRUGS[2:molecules]), tmp_path).tolist()

    first = find()
    assert find() == first == compute(counts(DRUGS[:3]), counts(DRUGS[2:6])).tolist()
    assert len(computed) == 1
    find(queries=4)
    find(molecules=7)
    assert len(computed) == 3
    for path in (tmp_path / "nearest").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    assert find() == first
    assert len(computed) == 4


def test_far_means_far_from_both():
    reference = Reference(counts(DRUGS[:2]), far_from_training=0.5, far_from_support=0.5)
    queries = counts([DRUGS[0], DRUGS[5], DRUGS[7]])
    support = np.array([0.1, 0.9, 0.1], np.float32)
    assert reference.far(queries, support).tolist() == [False, False, True]


def test_similarities_are_to_the_support_and_to_the_sample():
    support, queries = featurise(DRUGS[2:4]).arrays, featurise(DRUGS[:4]).arrays
    to_support, to_training = Reference(counts(DRUGS[:2])).similarities(support, queries)
    assert (to_support == 1).tolist() == [False, False, True, True]
    assert (to_training == 1).tolist() == [True, True, False, False]


def test_the_threshold_is_the_share_of_heldout_molecules():
    training, heldout = featurise(DRUGS[:8]).arrays, featurise(DRUGS).arrays
    reference = Reference.sample(training, heldout, size=8, share=0.25)
    far = reference.similarity(Counts.of(heldout)) < reference.far_from_training
    assert len(reference.molecules) == 8
    assert far.sum() == 3


def test_chemistry_is_told_by_size_elements_and_charges() -> None:
    said = describe_chemistry(featurise(["CCO", "CCN", "c1ccccc1", "[Na+].[Cl-]"]).arrays)
    assert said == {
        "molecules": "4",
        "heavy atoms": "3 in the middle, 98 % have 2 to 5",
        "elements": "C 75.0%, N 25.0%, O 25.0%, Na 25.0%, Cl 25.0% of molecules",
        "with a charged atom": "25.0%",
    }
