"""Domains: each brings inputs, a featuriser, backbones and task sources. They never import one another."""

from molmeta.core.registry import Registry

BACKBONES = Registry(
    "backbone",
    {
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
        "moleculenet": "molmeta.domains.molecules.moleculenet:MoleculeNet",
    },
)
