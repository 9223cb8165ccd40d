"""SMILES to an RDKit molecule, or the chemical reason why not."""

from __future__ import annotations

from dataclasses import dataclass

from rdkit import Chem, RDLogger

VALENCE_UNCHECKED = "valence not checked"


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


def parse(smiles: str) -> Parsed:
    """Parse one SMILES as written; valence refusals are retried without the valence check and flagged."""
    molecule = Chem.MolFromSmiles(smiles, sanitize=False)
    if molecule is None or molecule.GetNumAtoms() == 0:
        return Parsed(None, "no structure given" if not smiles.strip() else "not a SMILES that can be read")
    flags: tuple[str, ...] = ()
    try:
        Chem.SanitizeMol(molecule)
    except Chem.AtomValenceException:
        molecule = Chem.MolFromSmiles(smiles, sanitize=False)
        operations = Chem.SanitizeFlags.SANITIZE_ALL ^ Chem.SanitizeFlags.SANITIZE_PROPERTIES
        Chem.SanitizeMol(molecule, sanitizeOps=operations)
        flags = (VALENCE_UNCHECKED,)
    return Parsed(molecule, flags=flags)
