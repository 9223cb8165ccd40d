"""Meta-learning methods, and the baselines. This registry is the list; nothing is imported until it is used."""

from molmeta.core.registry import Registry

METHODS = Registry(
    "method",
    {
        "adkf": "molmeta.methods.adkf:ADKF",
        "anil": "molmeta.methods.anil:ANIL",
        "centroid": "molmeta.methods.centroid:Centroid",
        "dkt": "molmeta.methods.adkf:DKT",
        "finetune": "molmeta.methods.finetune:FineTune",
        "gp": "molmeta.methods.gp:GaussianProcess",
        "gradient_boosting": "molmeta.methods.scikit:GradientBoosting",
        "in_context": "molmeta.methods.in_context:InContext",
        "knn": "molmeta.methods.neighbours:KNN",
        "known_assays": "molmeta.methods.known_assays:KnownAssays",
        "logistic": "molmeta.methods.scikit:Logistic",
        "maml": "molmeta.methods.maml:MAML",
        "matching": "molmeta.methods.matching:MatchingNetwork",
        "meta_sgd": "molmeta.methods.meta_sgd:MetaSGD",
        "protonet": "molmeta.methods.protonet:ProtoNet",
        "quadratic_probe": "molmeta.methods.quadratic_probe:QuadraticProbe",
        "r2d2": "molmeta.methods.r2d2:R2D2",
        "random_forest": "molmeta.methods.scikit:RandomForest",
        "relation": "molmeta.methods.relation:RelationNetwork",
        "reptile": "molmeta.methods.reptile:Reptile",
        "scratch": "molmeta.methods.scratch:Scratch",
        "similarity": "molmeta.methods.neighbours:SimilaritySearch",
        "sklearn": "molmeta.methods.scikit:Sklearn",
        "tabpfn": "molmeta.methods.scikit:TabPFN",
        "tanimoto_gp": "molmeta.methods.tanimoto_gp:TanimotoGP",
        "zero_shot": "molmeta.methods.zero_shot:ZeroShot",
    },
)
