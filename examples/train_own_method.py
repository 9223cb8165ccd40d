"""A method of one's own, meta-trained on made-up assays: ``python examples/train_own_method.py``.

The method is nearest neighbour: a query takes the label of the support row of the highest cosine, softly.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F

from molmeta.core.learner import Laws
from molmeta.core.task import TaskKind
from molmeta.domains.molecules.convert import convert
from molmeta.methods.episodic import EmbeddingLearner, HeadOutput, PaddedEpisodes
from molmeta.training_run import choose_recipe, run_training


@dataclass(frozen=True, kw_only=True)
class SoftNeighbourConfig:
    temperature: float = 10.0


class SoftNeighbour(EmbeddingLearner):
    """p(y = k | x) = sum over the support of class k of softmax(T cos(x, s))."""

    Config = SoftNeighbourConfig
    laws = Laws(kinds=frozenset({TaskKind.BINARY, TaskKind.MULTICLASS}))

    def __init__(self, backbone, config):
        super().__init__(backbone)
        self.config = config

    def head(self, episodes: PaddedEpisodes) -> HeadOutput:
        cosine = F.normalize(episodes.query, dim=-1) @ F.normalize(episodes.support, dim=-1).mT
        scores = (self.config.temperature * cosine).masked_fill(~episodes.support_mask[:, None], -torch.inf)
        return HeadOutput(logits=(scores.softmax(-1) @ episodes.targets).clamp(min=1e-6).log())


def made_up_assays(path: Path) -> None:
    """Alkyl benzenes; each assay asks for one of six substituents."""
    rests = ["Cl", "O", "N", "F", "C(=O)O", "OC"]
    lines = ["smiles," + ",".join(f"assay_{k}" for k in range(6))]
    for length in range(1, 11):
        for i, rest in enumerate(rests):
            labels = ",".join(str(int(i in (k, (k + 1) % 6))) for k in range(6))
            lines.append(f"{'C' * length}c1ccc({rest})cc1,{labels}")
    path.write_text("\n".join(lines))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        made_up_assays(root / "assays.csv")
        convert(str(root / "assays.csv"), root / "assays")
        recipe = choose_recipe(
            None,
            [
                f"method.name={__name__}:SoftNeighbour",
                f"source.root={root / 'assays'}",
                "source.hold_out=false",
                "backbone.hidden=64",
                "backbone.width=32",
                "training.steps=60",
                "training.eval_every=20",
                "training.tasks_per_step=4",
                "episodes.support_sizes=[8]",
                "validation.support_sizes=[8]",
            ],
        )
        trainer = run_training(recipe, root / "run")
        for line in trainer.history:
            print(f"step {line['step']:>3}  loss {line['loss']:.3f}  valid ΔAUPRC {line['valid_delta_auprc_8']:.3f}")
