"""Structures as read, and the reasons of those that are refused."""

from __future__ import annotations

import multiprocessing
import random
import string

import pytest
from rdkit import Chem, rdBase

from molmeta.domains.molecules.parse import MAX_LENGTH, NO_STRUCTURE, VALENCE_UNCHECKED, canonical, parse, parse_quietly

REASONS = [
    ("C1CC", "ring opened but never closed (ring number 1)"),
    ("C(C", 'branch "(" (character 2) never closed'),
    ("CC)", 'branch ")" (character 3) was never opened'),
    ("C()C", 'nothing stands between "(" and ")" (characters 2 and 3)'),
    ("[CH", 'bracket "[" (character 1) never closed'),
    ("C[Xx]", 'unknown element symbol "Xx" in "[Xx]"'),
    ("aspirin", 'unknown element symbol "a" (character 1)'),
    ("CFe", "Fe must stand in square brackets: [Fe] (character 3)"),
    ("[C@@@H]", 'bracket atom "[C@@@H]" has a part that means nothing in SMILES'),
    ("C==C", 'two bond symbols in a row, "=" and "=" (characters 2 and 3)'),
    ("C=", 'nothing follows "=" (character 2)'),
    ("=C", 'no atom stands before bond "=" (character 1)'),
    ("C11", "ring number 1 joins an atom to itself (character 3)"),
    ("C1C1", "ring number 1 joins two atoms that are already bonded (character 4)"),
    ("C%1", "ring number after % (character 2) needs two digits, or brackets: %(100)"),
    ("C..C", 'no fragment stands before "." (character 3)'),
    ("CC>>CC", "a reaction (>), not a molecule"),
    ("CC!", "character '!' (character 3) means nothing in SMILES"),
    ("[#200]", 'there is no element number 200 ("[#200]")'),
    ("c1cccc1", "aromatic ring cannot be kekulised (atoms 0, 1, 2, 3, 4)"),
    ("c1ccccc1c", "carbon (atom 6) is written as aromatic (lower case) but stands in no ring"),
    (
        "CN(C)(C)(C)C.c1cccc1",
        "nitrogen (atom 1) has 5 bonds; aromatic ring cannot be kekulised (atoms 6, 7, 8, 9, 10)",
    ),
]


@pytest.mark.parametrize(("smiles", "reason"), REASONS)
def test_a_refused_molecule_has_a_chemical_reason(smiles: str, reason: str) -> None:
    parsed = parse(smiles)
    assert parsed.molecule is None
    assert parsed.reason == reason


@pytest.mark.parametrize("nothing", ["", "  \t", None, float("nan"), "NaN", "N/A", "none"])
def test_an_empty_structure_is_refused_though_rdkit_takes_it(nothing: object) -> None:
    assert parse(nothing).reason == NO_STRUCTURE


def test_what_is_not_text_is_refused_by_its_type() -> None:
    assert parse(5).reason == "not text but int (5)"


def test_a_valence_refusal_is_kept_without_the_check_and_flagged() -> None:
    assert Chem.MolFromSmiles("CN(C)(C)(C)C") is None
    parsed = parse("CN(C)(C)(C)C")
    assert parsed.flags == (VALENCE_UNCHECKED,)
    assert canonical(parsed.molecule) == "CN(C)(C)(C)C"
    assert [atom.GetTotalNumHs() for atom in parsed.molecule.GetAtoms()] == [3, 0, 3, 3, 3, 3]


@pytest.mark.parametrize(
    "smiles", ["C[C@H](N)C(=O)O", "OC(=O)/C=C/c1ccccc1", "[2H]OC", "[NH3]->[Cu]", "O=N(=O)c1ccccc1"]
)
def test_a_valid_molecule_is_rdkits_own(smiles: str) -> None:
    parsed = parse(smiles)
    assert canonical(parsed.molecule) == Chem.CanonSmiles(smiles)
    assert parsed.flags == ()


HYDROGENS = ["[H]/N=C/c1ccccc1", "[H]C([H])([H])[H]", "[2H]C", "[#1]O", "[H][H]", "[H+]", "C/C(=C(/C)[2H])Cl"]
STEREO = ["C[C@H](F)Cl", "[C@@H2](F)Cl", "F/C=C/F", "C[N@@+](CC)(CCC)O", "C[S@](=O)c1ccccc1", "[Pt@SP1](F)(Cl)(Br)I"]


@pytest.mark.parametrize("text", [*HYDROGENS, *STEREO, "CN(=O)=O", "c1ccc2cccc2cc1", "[NH3]->[Cu]", "CC[Hg]C"])
@pytest.mark.parametrize("stereo", [True, False])
def test_the_steps_that_are_left_out_change_no_atom_and_no_bond(text: str, stereo: bool) -> None:
    molecule = parse_quietly(text, stereo=stereo).molecule
    assert molecule is not None
    assert facts(molecule) == facts(Chem.MolFromSmiles(text))
    if stereo:
        assert canonical(molecule) == Chem.CanonSmiles(text)


def facts(molecule: Chem.Mol) -> list[tuple[object, ...]]:
    atoms = [
        (a.GetAtomicNum(), a.GetFormalCharge(), a.GetTotalNumHs(), a.GetHybridization(), a.GetIsAromatic())
        for a in molecule.GetAtoms()
    ]
    bonds = [
        (b.GetBeginAtomIdx(), b.GetEndAtomIdx(), b.GetBondType(), b.GetIsConjugated(), b.IsInRing())
        for b in molecule.GetBonds()
    ]
    return [*atoms, *bonds]


@pytest.mark.parametrize("stereo", [True, False])
def test_what_rdkit_refuses_of_texts_changed_at_random_is_refused_and_nothing_else(stereo: bool) -> None:
    rng = random.Random(0)
    for _ in range(500):
        letters = list("C[C@@H](N)C(=O)/C=C/c1ccc[nH]1")
        letters[rng.randrange(len(letters))] = rng.choice("CNcn()=#[]@/+-H1.")
        text = "".join(letters)
        with rdBase.BlockLogs():
            whole, parsed = Chem.MolFromSmiles(text), parse_quietly(text, stereo=stereo)
        taken = parsed.molecule if VALENCE_UNCHECKED not in parsed.flags else None
        assert (taken is None) == (whole is None), text
        assert taken is None or facts(taken) == facts(whole), text


def test_text_after_white_space_is_a_name_and_flagged() -> None:
    parsed = parse(" CCO ethanol")
    assert canonical(parsed.molecule) == "CCO"
    assert parsed.flags == ("text after the SMILES ignored",)


def test_fragments_are_used_as_written_and_flagged() -> None:
    parsed = parse("CCO.[Na+].[Cl-]")
    assert parsed.molecule.GetNumAtoms() == 5
    assert parsed.flags == ("3 fragments",)
    assert parse("C1.C1").flags == ()


def test_the_largest_fragment_is_kept_on_request_with_ties_settled_by_mass_then_alphabet() -> None:
    def largest(smiles: str) -> str:
        return canonical(parse(smiles, salts="largest").molecule)

    assert largest("[Na+].CC(=O)[O-]") == "CC(=O)[O-]"
    assert largest("CC.CO") == "CO"
    assert largest("CCN=C.NC1CC1.C=CCN") == "C=CCN"
    assert parse("[Na+].CC(=O)[O-]", salts="largest").flags == ("largest of 2 fragments kept",)


def test_wildcards_are_kept_and_flagged() -> None:
    assert parse("*CC(*)C").flags == ("2 wildcard atoms (*)",)
    assert parse("C~C").flags == ("1 bond (~)",)


def test_a_very_long_text_is_refused_and_a_long_one_is_read() -> None:
    assert "up to 10,000 are read" in parse("C" * (MAX_LENGTH + 1)).reason
    assert parse("C" * 3000).molecule.GetNumAtoms() == 3000


def test_random_text_never_raises_and_always_has_a_molecule_or_a_reason(capfd: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(0)
    alphabets = ["CNOcn()[]=#123%.+-@H/\\*~>$:", string.printable, "é\0\ud800C(1"]
    for _ in range(1500):
        text = "".join(rng.choices(rng.choice(alphabets), k=rng.randint(1, 25)))
        parsed = parse(text)
        assert (parsed.molecule is None) == bool(parsed.reason)
    assert capfd.readouterr().err == ""


def test_parsing_works_in_worker_processes() -> None:
    smiles = ["CCO", "C1CC", "CN(C)(C)(C)C"]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        reasons = [parsed.reason for parsed in pool.map(parse, smiles)]
    assert reasons == [parse(text).reason for text in smiles]
