"""Any function of a support and SMILES, scored beside a baseline: ``python examples/evaluate_own_function.py``.

The assays are made up: alkyl benzenes, each assay asking for one of six substituents. On FS-Mol: without ``settings``.
"""

import tempfile
from collections import Counter
from pathlib import Path

from molmeta import evaluate
from molmeta.domains.molecules.convert import convert
from molmeta.evaluation.comparisons import compare
from molmeta.evaluation.statistics import per_task, summarise

RESTS = ["Cl", "O", "N", "F", "C(=O)O", "OC"]


def letters(support, query):
    """The letters that active compounds have more often than inactive ones, counted in each query."""
    weight = Counter()
    for smiles, label in zip(support.smiles, support.labels, strict=True):
        for letter in set(smiles):
            weight[letter] += 1 if label else -1
    return [sum(weight[letter] for letter in set(smiles)) for smiles in query]


def made_up_assays(path: Path) -> None:
    lines = ["smiles," + ",".join(f"has_{k}" for k in range(6))]
    for length in range(1, 13):
        for i, rest in enumerate(RESTS):
            lines.append(f"{'C' * length}c1ccc({rest})cc1," + ",".join(str(int(i == k)) for k in range(6)))
    path.write_text("\n".join(lines))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        made_up_assays(Path(folder) / "assays.csv")
        convert(str(Path(folder) / "assays.csv"), Path(folder) / "assays")
        settings = (f"source.root={folder}/assays", "source.hold_out=false")
        found = {}
        for model in (letters, "tanimoto-gp"):
            result = evaluate(model, "fsmol", split="train", sizes=(16,), seeds=5, settings=settings)
            found[result.method] = per_task(result.scores, "delta_auprc", 16)
            print(f"{result.method:<12} ΔAUPRC {summarise(result.scores, 'delta_auprc', 16)}")
        print(f"difference   {compare(found['letters'], found['tanimoto-gp'])}")
