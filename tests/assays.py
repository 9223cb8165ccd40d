"""A table of made-up assays over simple molecules, whose labels follow from their structure."""

from __future__ import annotations

from pathlib import Path

RESTS = ["Cl", "O", "N", "F", "C(=O)O", "OC"]
MOLECULES = [f"{'C' * length}c1ccc({rest})cc1" for length in range(1, 9) for rest in RESTS]


def own_assays(path: Path, rows: int | None = None) -> Path:
    """Write a wide table: six assays, one for each rest, and one by the chain's length."""
    names = [f"has_{i}" for i in range(len(RESTS))] + ["long"]
    lines = [",".join(["smiles", "name", *names])]
    for i, smiles in enumerate(MOLECULES[:rows]):
        length, rest = divmod(i, len(RESTS))
        labels = [int(rest in (k, (k + 1) % len(RESTS))) for k in range(len(RESTS))] + [int(length >= 4)]
        lines.append(",".join([smiles, f"molecule {i}", *map(str, labels)]))
    path.write_text("\n".join(lines) + "\n")
    return path
