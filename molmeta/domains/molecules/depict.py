"""Molecules drawn as pictures that carry nothing but lines."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from rdkit import Chem, rdBase
from rdkit.Chem.Draw import rdMolDraw2D

WIDTH, HEIGHT = 220, 150
# Darker than RDKit's own where that is too light for paper: F, S, Cl, Br.
_PALETTE = {9: (0.0, 0.45, 0.45), 16: (0.6, 0.42, 0.0), 17: (0.0, 0.45, 0.0), 35: (0.5, 0.2, 0.1)}


@lru_cache(maxsize=1024)
def draw(smiles: str) -> bytes | None:
    """A molecule as SVG; None for what RDKit does not read."""
    text = _drawn(smiles, rdMolDraw2D.MolDraw2DSVG(WIDTH, HEIGHT), 1)
    return None if text is None else str(text).encode()


@lru_cache(maxsize=1024)
def draw_png(smiles: str, scale: int = 2) -> bytes | None:
    """A molecule as PNG of ``scale`` times the size; None for what RDKit does not read."""
    png: bytes | None = _drawn(smiles, rdMolDraw2D.MolDraw2DCairo(scale * WIDTH, scale * HEIGHT), scale)
    return png


def _drawn(smiles: str, drawer: Any, scale: int) -> Any:
    with rdBase.BlockLogs():
        # What stands behind the structure (labels, a name) is not the structure, and is not drawn.
        molecule = Chem.MolFromSmiles(smiles.strip().partition(" ")[0])
        if molecule is None or not molecule.GetNumAtoms():
            return None
        options: Any = drawer.drawOptions()
        options.clearBackground = False
        options.updateAtomPalette(_PALETTE)
        options.bondLineWidth = 1.3 * scale
        options.padding = 0.04
        options.fixedBondLength = 24 * scale
        rdMolDraw2D.PrepareAndDrawMolecule(drawer, molecule)
        drawer.FinishDrawing()
    return drawer.GetDrawingText()
