"""Domains: each brings inputs, a featuriser, backbones and task sources. They never import one another."""

from molmeta.core.registry import Registry

BACKBONES = Registry(
    "backbone",
    {
        "conv4": "molmeta.domains.images.conv4:Conv4",
        "counts": "molmeta.domains.molecules.fingerprints:Counts",
        "fingerprint": "molmeta.domains.molecules.fingerprints:FingerprintNet",
        "gnn": "molmeta.domains.molecules.gnn:GNN",
        "joint": "molmeta.domains.molecules.gnn:Joint",
    },
)
SOURCES = Registry(
    "source",
    {
        "fsmol": "molmeta.domains.molecules.fsmol:FSMol",
        "image_folder": "molmeta.domains.images.folder:ImageFolder",
        "moleculenet": "molmeta.domains.molecules.moleculenet:MoleculeNet",
        "omniglot": "molmeta.domains.images.omniglot:Omniglot",
        "omniglot_runs": "molmeta.domains.images.lake_runs:LakeRuns",
    },
)
