"""Meta-learning methods, and the baselines. This registry is the list; nothing is imported until it is used."""

from molmeta.core.registry import Registry

METHODS = Registry(
    "method",
    {
        "gp": "molmeta.methods.gp:GaussianProcess",
        "gradient_boosting": "molmeta.methods.scikit:GradientBoosting",
        "knn": "molmeta.methods.neighbours:KNN",
        "logistic": "molmeta.methods.scikit:Logistic",
        "maml": "molmeta.methods.maml:MAML",
        "protonet": "molmeta.methods.protonet:ProtoNet",
        "random_forest": "molmeta.methods.scikit:RandomForest",
        "similarity": "molmeta.methods.neighbours:SimilaritySearch",
        "sklearn": "molmeta.methods.scikit:Sklearn",
        "tabpfn": "molmeta.methods.scikit:TabPFN",
        "tanimoto_gp": "molmeta.methods.tanimoto_gp:TanimotoGP",
    },
)
