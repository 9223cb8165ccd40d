"""Why RDKit refuses a structure, in a chemist's words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from rdkit import Chem

_TOKEN = re.compile(
    r"(?P<bracket>\[[^\[\]]*\])|(?P<atom>Br|Cl|[BCNOPSFI]|[bcnops]|\*)|(?P<bond>->|<-|[-=#$:/\\~])"
    r"|(?P<ring>%\(\d{1,5}\)|%\d\d|\d)|(?P<open>\()|(?P<close>\))|(?P<dot>\.)|(?P<wrong>.)",
    re.DOTALL,
)
_BRACKET_ATOM = re.compile(
    r"\[\d*(?P<symbol>[A-Z][a-z]{0,2}|[a-z]{1,2}|\*|#\d+)(@{1,2}|@(TH|AL|SP|TB|OH)\d*)?(H\d?)?(\+{1,2}|-{1,2}|[+-]\d+)?(:\d+)?\]"
)
_AROMATIC = {"b", "c", "n", "o", "p", "s", "se", "as", "te", "si"}
_SPECIAL = {
    "[": 'bracket "[" (character {at}) never closed',
    "]": 'bracket "]" (character {at}) was never opened',
    "%": "ring number after % (character {at}) needs two digits, or brackets: %(100)",
    ">": "a reaction (>), not a molecule",
}
_NITROGEN = 7
_LISTED_ATOMS = 8


def _elements() -> frozenset[str]:
    table = Chem.GetPeriodicTable()
    return frozenset(table.GetElementSymbol(number) for number in range(1, 119))


_ELEMENTS = _elements()


def chemistry_reason(molecule: Chem.Mol) -> str:
    """What is chemically wrong with an unsanitised molecule; empty where RDKit finds nothing."""
    return "; ".join(_explain(problem, molecule) for problem in Chem.DetectChemistryProblems(molecule))


def _explain(problem: Any, molecule: Chem.Mol) -> str:
    kind, message = problem.GetType(), problem.Message()
    if kind == "KekulizeException":
        return _explain_kekulise(problem.GetAtomIndices(), molecule)
    if not hasattr(problem, "GetAtomIdx"):
        return str(message)
    atom = molecule.GetAtomWithIdx(problem.GetAtomIdx())
    name = f"{Chem.GetPeriodicTable().GetElementName(atom.GetAtomicNum()).lower()} (atom {atom.GetIdx()})"
    if kind == "AtomKekulizeException" and "non-ring" in message:
        return f"{name} is written as aromatic (lower case) but stands in no ring"
    valence = re.search(r"(\d+), is greater", message)
    return f"{name} has {valence[1]} bonds" if valence else f"{name}: {message}"


def _explain_kekulise(indices: Sequence[int], molecule: Chem.Mol) -> str:
    atoms = ", ".join(str(i) for i in indices[:_LISTED_ATOMS]) + ", ..." * (len(indices) > _LISTED_ATOMS)
    has_nitrogen = any(molecule.GetAtomWithIdx(i).GetAtomicNum() == _NITROGEN for i in indices)
    hint = "; a ring nitrogen that bears a hydrogen is written [nH]" if has_nitrogen else ""
    return f"aromatic ring cannot be kekulised (atoms {atoms}){hint}"


def syntax_reason(text: str) -> str:
    """The first mistake in the writing of a SMILES, its character counted from 1; empty where none is found."""
    return next(_mistakes(text), "")


def _mistakes(text: str) -> Iterator[str]:
    scan = _Scan()
    for match in _TOKEN.finditer(text):
        kind, token, at = str(match.lastgroup), match.group(), match.start() + 1
        wrong = _wrong_character(text, match.start()) if kind == "wrong" else scan.step(kind, token, at)
        if wrong:
            yield wrong
            return
    yield from scan.unfinished()


class _Scan:
    """What a reader of SMILES must remember from one symbol to the next."""

    def __init__(self) -> None:
        self.atoms = 0
        self.here: int | None = None  # the atom that the next one is bonded to
        self.branches: list[tuple[int | None, int]] = []  # the atom branched from, and where
        self.rings: dict[int, int] = {}  # open ring number -> atom
        self.bonds: set[tuple[int, int]] = set()
        self.pending = ("", 0)  # a bond, "(" or dot that waits for an atom, and where

    def step(self, kind: str, token: str, at: int) -> str:
        mistake = getattr(self, f"_{kind}")(token, at)
        return str(mistake or "")

    def unfinished(self) -> Iterator[str]:
        if self.pending[0]:
            yield f'nothing follows "{self.pending[0]}" (character {self.pending[1]})'
        if self.branches:
            yield f'branch "(" (character {self.branches[-1][1]}) never closed'
        if self.rings:
            yield f"ring opened but never closed (ring number {', '.join(map(str, self.rings))})"

    def _atom(self, token: str, at: int) -> None:
        if self.here is not None:
            self.bonds.add((self.here, self.atoms))
        self.here = self.atoms
        self.atoms += 1
        self.pending = ("", 0)

    def _bracket(self, token: str, at: int) -> str | None:
        self._atom(token, at)
        return _wrong_bracket(token)

    def _bond(self, token: str, at: int) -> str | None:
        before, where = self.pending
        if before not in ("", "("):
            return f'two bond symbols in a row, "{before}" and "{token}" (characters {where} and {at})'
        if self.here is None:
            return f'no atom stands before bond "{token}" (character {at})'
        self.pending = (token, at)
        return None

    def _ring(self, token: str, at: int) -> str | None:
        if self.here is None or self.pending[0] == "(":
            return f"no atom stands before ring number {token} (character {at})"
        self.pending = ("", 0)
        number = int(token.strip("%()"))
        partner = self.rings.pop(number, None)
        if partner is None:
            self.rings[number] = self.here
        elif partner == self.here:
            return f"ring number {number} joins an atom to itself (character {at})"
        elif (partner, self.here) in self.bonds:
            return f"ring number {number} joins two atoms that are already bonded (character {at})"
        else:
            self.bonds.add((partner, self.here))
        return None

    def _open(self, token: str, at: int) -> str | None:
        if self.here is None or self.pending[0]:
            return f'no atom stands before branch "(" (character {at})'
        self.branches.append((self.here, at))
        self.pending = (token, at)
        return None

    def _close(self, token: str, at: int) -> str | None:
        if self.pending[0]:
            return f'nothing stands between "{self.pending[0]}" and ")" (characters {self.pending[1]} and {at})'
        if not self.branches:
            return f'branch ")" (character {at}) was never opened'
        self.here = self.branches.pop()[0]
        return None

    def _dot(self, token: str, at: int) -> str | None:
        if self.here is None or self.pending[0]:
            return f'no fragment stands before "." (character {at})'
        self.here = None
        self.pending = (token, at)
        return None


def _wrong_bracket(token: str) -> str | None:
    match = _BRACKET_ATOM.fullmatch(token)
    if match is None:
        return f'bracket atom "{token}" has a part that means nothing in SMILES'
    symbol = match["symbol"]
    if symbol[0] in "*#" or symbol in _ELEMENTS | _AROMATIC:
        known = symbol[0] != "#" or int(symbol[1:]) < 119
        return None if known else f'there is no element number {symbol[1:]} ("{token}")'
    return f'unknown element symbol "{symbol}" in "{token}"'


def _wrong_character(text: str, start: int) -> str:
    """Why no token of SMILES begins at ``start``."""
    character, at = text[start], start + 1
    if character in _SPECIAL:
        return _SPECIAL[character].format(at=at)
    pair = next((text[i : i + 2] for i in (start - 1, start) if i >= 0 and text[i : i + 2] in _ELEMENTS), "")
    element = pair or (character if character in _ELEMENTS else "")
    if element:
        return f"{element} must stand in square brackets: [{element}] (character {at})"
    if character.isascii() and character.isalpha():
        word = re.match("[A-Z]?[a-z]?", text[start:])
        return f'unknown element symbol "{word[0] if word else character}" (character {at})'
    return f"character {character!r} (character {at}) means nothing in SMILES"
