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
        "mlp": "molmeta.domains.functions.mlp:MLP",
        "profiles": "molmeta.domains.molecules.profiles:Profiles",
        "text_bag": "molmeta.domains.text.bag:TextBag",
        "wordllama": "molmeta.domains.text.static_vectors:WordLlama",
    },
)
SOURCES = Registry(
    "source",
    {
        "banking77": "molmeta.domains.text.intents:Banking77",
        "blobs": "molmeta.domains.functions.blobs:Blobs",
        "clinc150": "molmeta.domains.text.intents:Clinc150",
        "fsmol": "molmeta.domains.molecules.fsmol:FSMol",
        "hwu64": "molmeta.domains.text.intents:Hwu64",
        "image_folder": "molmeta.domains.images.folder:ImageFolder",
        "moleculenet": "molmeta.domains.molecules.moleculenet:MoleculeNet",
        "omniglot": "molmeta.domains.images.omniglot:Omniglot",
        "omniglot_runs": "molmeta.domains.images.lake_runs:LakeRuns",
        "sinusoid": "molmeta.domains.functions.sinusoid:Sinusoid",
        "text_table": "molmeta.domains.text.intents:TextTable",
    },
)
