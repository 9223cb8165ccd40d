"""SMILES to an RDKit molecule, or the chemical reason why not.

What is read, and how:

- The first word is the structure. Text after white space is taken for a name and ignored, and the molecule is
  flagged, so that ``CCO ethanol`` reads as ethanol. That holds for CXSMILES extensions (``CCO |...|``) too.
- A structure that only the valence check refuses is kept without that check, and flagged.
- Fragments are used as written and flagged; ``salts="largest"`` keeps the largest one.
- Wildcard atoms (``*``) and bonds of any order (``~``) stand for something unknown: they are kept, and flagged.
- Nothing is written to stderr and RDKit's own logging is left as it was found.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Literal

from rdkit import Chem, rdBase
from rdkit.Chem import rdMolDescriptors

from molmeta.domains.molecules.refusals import chemistry_reason, syntax_reason

VALENCE_UNCHECKED = "valence not checked"
NO_STRUCTURE = "no structure given"
MAX_LENGTH = 10_000  # RDKit's time grows with the square of the nesting: 60,000 characters can take minutes

Salts = Literal["keep", "largest"]

_ALL_BUT_VALENCE = Chem.SanitizeFlags.SANITIZE_ALL ^ Chem.SanitizeFlags.SANITIZE_PROPERTIES
_STEREO_MARK = re.compile(r"[@/\\]")
_HYDROGEN_ATOM = re.compile(r"\[\d*[HDT]|#1")  # or what may be one
_MISSING_WORDS = frozenset({"na", "n/a", "nan", "none", "null", "-", "<na>"})


@dataclass(frozen=True, eq=False)
class Parsed:
    """One structure as read.

    Attributes:
        molecule: the molecule, or None where it was refused.
        reason: why it was refused, in chemical terms; empty otherwise.
        flags: what a user should know of it (valence not checked, 2 fragments).
    """

    molecule: Chem.Mol | None
    reason: str = ""
    flags: tuple[str, ...] = ()


def parse(smiles: object, salts: Salts = "keep") -> Parsed:
    """Parse one SMILES as written; never raises for what it is given.

    Args:
        smiles: the text; anything else is refused with a reason.
        salts: ``"keep"`` uses every fragment; ``"largest"`` keeps the one with the most heavy atoms, of those the
            heaviest by exact mass, of those the first by canonical SMILES in alphabetical order.

    Returns:
        The molecule with its flags, or the reason why there is none. Atoms are counted from 0, as RDKit does,
        characters from 1.
    """
    with rdBase.BlockLogs():
        return parse_quietly(smiles, salts)


def parse_quietly(smiles: object, salts: Salts = "keep", stereo: bool = True) -> Parsed:
    """As :func:`parse`, where the caller holds ``rdBase.BlockLogs()`` for many structures: each costs 5 us.

    Without ``stereo``, marks of it are read, but not what they mean: the molecule has no CIP labels.
    """
    if not isinstance(smiles, str):
        return Parsed(None, _why_not_text(smiles))
    words = smiles.split(None, 1)
    if not words:
        return Parsed(None, NO_STRUCTURE)
    text = words[0]
    if len(text) > MAX_LENGTH:
        return Parsed(None, f"{len(text):,} characters long; up to {MAX_LENGTH:,} are read")
    parsed = _parse_word(text, stereo)
    molecule = parsed.molecule
    if molecule is None:
        return parsed
    flags = parsed.flags
    if len(words) > 1:
        flags += ("text after the SMILES ignored",)
    if "." in text:
        molecule, fragment_flags = _fragments(molecule, salts)
        flags += fragment_flags
    if "*" in text or "#0" in text or "~" in text:
        flags += _unknowns(molecule)
    return Parsed(molecule, flags=flags)


def canonical(molecule: Chem.Mol) -> str:
    """The canonical isomeric SMILES: equal for two molecules exactly when RDKit holds them for the same structure."""
    text: str = Chem.MolToSmiles(molecule)
    return text


def _why_not_text(value: object) -> str:
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    return NO_STRUCTURE if missing else f"not text but {type(value).__name__} ({value!r:.40})"


def _parse_word(text: str, stereo: bool) -> Parsed:
    try:
        molecule = _molecule(text, stereo)
        if molecule is None:
            return _without_valence_check(text)
    except (ValueError, RuntimeError) as error:  # not encodable, or an invariant of RDKit's broken
        return Parsed(None, syntax_reason(text) or _first_line(error))
    if molecule.GetNumAtoms() == 0:
        return Parsed(None, NO_STRUCTURE)
    return Parsed(molecule)


def _molecule(text: str, stereo: bool) -> Any:
    """RDKit's own reading: a molecule, or None.

    Its last steps, a fifth of the time, are gone through only where they have work: they take out atoms of hydrogen,
    and work out stereo.
    """
    if (stereo and _STEREO_MARK.search(text)) or _HYDROGEN_ATOM.search(text):
        return Chem.MolFromSmiles(text)
    molecule = Chem.MolFromSmiles(text, sanitize=False)
    if molecule is None or Chem.SanitizeMol(molecule, catchErrors=True) != Chem.SanitizeFlags.SANITIZE_NONE:
        return None
    return molecule


def _without_valence_check(text: str) -> Parsed:
    """As FS-Mol's fingerprints were made: every sanitisation step but the one that checks valences."""
    if text.lower() in _MISSING_WORDS:
        return Parsed(None, NO_STRUCTURE)
    molecule: Any = Chem.MolFromSmiles(text, sanitize=False)
    if molecule is None:
        return Parsed(None, syntax_reason(text) or "not readable as SMILES")
    untouched = Chem.Mol(molecule)
    try:
        Chem.SanitizeMol(molecule, sanitizeOps=_ALL_BUT_VALENCE)
        molecule.UpdatePropertyCache(strict=False)
        Chem.AssignStereochemistry(molecule, cleanIt=True, force=True)
    except (ValueError, RuntimeError) as error:
        return Parsed(None, chemistry_reason(untouched) or _first_line(error))
    return Parsed(molecule, flags=(VALENCE_UNCHECKED,))


def _fragments(molecule: Any, salts: Salts) -> tuple[Any, tuple[str, ...]]:
    count = len(Chem.GetMolFrags(molecule))
    if count == 1:  # ring bonds can join what dots separate: C1.C1
        return molecule, ()
    if salts == "keep":
        return molecule, (f"{count} fragments",)
    fragments = Chem.GetMolFrags(molecule, asMols=True, sanitizeFrags=False)
    return min(fragments, key=_size_order), (f"largest of {count} fragments kept",)


def _size_order(fragment: Chem.Mol) -> tuple[int, float, str]:
    return -fragment.GetNumHeavyAtoms(), -round(rdMolDescriptors.CalcExactMolWt(fragment), 3), canonical(fragment)


def _unknowns(molecule: Chem.Mol) -> tuple[str, ...]:
    atoms = sum(atom.GetAtomicNum() == 0 for atom in molecule.GetAtoms())
    bonds = sum(bond.GetBondType() == Chem.BondType.UNSPECIFIED for bond in molecule.GetBonds())
    counted = ((atoms, "wildcard atom", "*"), (bonds, "bond", "~"))
    return tuple(f"{n} {what}{'s' * (n > 1)} ({symbol})" for n, what, symbol in counted if n)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
