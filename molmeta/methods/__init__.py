"""Meta-learning methods: one paper, one file. This registry is the list; nothing is imported until it is used."""

from molmeta.core.registry import Registry

METHODS = Registry(
    "method",
    {
        "gp": "molmeta.methods.gp:GaussianProcess",
        "maml": "molmeta.methods.maml:MAML",
        "protonet": "molmeta.methods.protonet:ProtoNet",
        "tanimoto_gp": "molmeta.methods.tanimoto_gp:TanimotoGP",
    },
)
