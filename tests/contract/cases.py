"""Every method, and what it does not promise; every domain's backbones; and which are tried together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Tables = Mapping[str, Any]

# The laws that a method may leave out, as the table below names them.
ORDER, NUMBERS, WAYS, ENCODING, ALONE = (
    "the order of the support changes nothing",
    "renumbering the classes changes nothing else",
    "one learner serves any number of ways",
    "an encoding stands for its inputs",
    "a prediction does not depend on the other queries",
)

_STEPS = {"inner_lr": 0.3, "inner_steps": 2}
_FEW = {"inner_lr": 0.1, "inner_steps": 3}
_FIXED = {"head": "fixed", "ways": 3}
_SGD = {"tol": 0.01, "learning_rate": "constant", "eta0": 0.1}
_METHODS: dict[str, tuple[Tables, set[str]]] = {  # its settings, and each law that it breaks
    "protonet": ({"name": "protonet"}, set()),
    "protonet, mahalanobis": ({"name": "protonet", "distance": "mahalanobis"}, set()),
    "protonet, cosine": ({"name": "protonet", "distance": "cosine"}, set()),
    "protonet, attention": ({"name": "protonet", "distance": "cosine", "attention": True}, set()),
    "matching": ({"name": "matching"}, set()),
    "matching, full context": ({"name": "matching", "full_context": True, "steps": 2}, {ORDER}),
    "relation": ({"name": "relation"}, set()),
    "relation, cross-entropy": ({"name": "relation", "loss": "cross_entropy", "pool": "sum"}, set()),
    "relation of maps": ({"name": "relation", "map": [2, 4, 4]}, set()),
    "relation of maps, batch norm": ({"name": "relation", "map": [2, 4, 4], "normalisation": "batch"}, set()),
    "r2d2": ({"name": "r2d2"}, set()),
    "r2d2, logistic": ({"name": "r2d2", "solver": "logistic"}, set()),
    "quadratic_probe": ({"name": "quadratic_probe"}, set()),
    "quadratic_probe, discriminant": ({"name": "quadratic_probe", "log_determinant": True, "steps": 0}, set()),
    "centroid": ({"name": "centroid", "centre": True}, set()),
    "zero_shot": ({"name": "zero_shot"}, set()),
    "zero_shot, cosine": ({"name": "zero_shot", "distance": "cosine"}, set()),
    "zero_shot, encoder of its own": (
        {"name": "zero_shot", "task_backbone": {"name": "tests.toy:Net", "width": 4}},
        set(),
    ),
    "gp": ({"name": "gp"}, {NUMBERS}),
    "gp without prior": ({"name": "gp", "prior": False}, set()),
    "in_context": ({"name": "in_context", "width": 8, "heads": 2}, {NUMBERS}),
    "in_context without prior": ({"name": "in_context", "width": 8, "heads": 2, "prior": False}, set()),
    "known_assays": ({"name": "known_assays"}, {NUMBERS}),
    "adkf": ({"name": "adkf"}, set()),
    "adkf, not implicit": ({"name": "adkf", "implicit": False, "kernel": "rbf"}, set()),
    "dkt": ({"name": "dkt"}, set()),
    "maml": ({"name": "maml", **_STEPS}, {ENCODING}),
    "maml, first order": ({"name": "maml", "first_order": True, **_STEPS}, {ENCODING}),
    "maml, fixed head": ({"name": "maml", **_FIXED, **_STEPS}, {ENCODING, NUMBERS, WAYS}),
    "maml++": ({"name": "maml", "learn_rates": True, "multi_step": 5, **_STEPS}, {ENCODING}),
    "maml, inner momentum": ({"name": "maml", "optimiser": "momentum", **_STEPS}, {ENCODING}),
    "maml, inner adam": ({"name": "maml", "optimiser": "adam", "inner_lr": 0.05, "inner_steps": 2}, {ENCODING}),
    "maml, biases": ({"name": "maml", "adapt": "head, *.bias", **_STEPS}, {ENCODING}),
    "anil": ({"name": "anil", **_STEPS}, set()),
    "anil, fixed head": ({"name": "anil", **_FIXED, **_STEPS}, {NUMBERS, WAYS}),
    "meta_sgd": ({"name": "meta_sgd", **_STEPS}, {ENCODING}),
    "reptile": ({"name": "reptile", **_STEPS}, {ENCODING}),
    "finetune": ({"name": "finetune", "heads": 64, **_FEW}, set()),
    "finetune, all": ({"name": "finetune", "heads": 64, "adapt": "all", **_FEW}, {ENCODING}),
    "scratch": ({"name": "scratch", **_FEW}, {ENCODING}),
    "logistic": ({"name": "logistic"}, set()),
    "random_forest": ({"name": "random_forest", "trees": 10}, {ORDER}),
    "gradient_boosting": ({"name": "gradient_boosting", "trees": 10}, {ORDER, NUMBERS}),
    "sklearn": (
        {"name": "sklearn", "estimator": "sklearn.linear_model:SGDClassifier", "params": _SGD},
        {ORDER, NUMBERS},
    ),
    "tabpfn": ({"name": "tabpfn"}, {ORDER, NUMBERS}),
    "knn": ({"name": "knn"}, set()),
    "similarity": ({"name": "similarity"}, set()),
    "tanimoto_gp": ({"name": "tanimoto_gp"}, set()),
}
# What batch norm in the backbone costs, by the policy of a method whose inner loop runs it.
_BATCH_NORM: dict[str, tuple[Tables, set[str]]] = {
    f"{name}, {policy}": ({"name": name, "normalisation": policy, **_STEPS}, broken)
    for name, policy, broken in (
        ("maml", "batch", {ENCODING, ALONE}),
        ("maml", "frozen", {ENCODING}),
        ("maml", "per_step", {ENCODING}),
        ("anil", "batch", {ENCODING, ALONE}),
        ("anil", "frozen", set()),
        ("anil", "per_step", {ENCODING}),
    )
}
ALL = {**_METHODS, **_BATCH_NORM}

_GNN = {"width": 5, "hidden": 8, "layers": 1}
_MLP = {"width": 5, "hidden": 8}
_CONV4 = {"name": "conv4", "size": 8, "hidden": 4, "pools": 2}
_JOINT = {"name": "joint", "width": 6, "gnn": _GNN, "fingerprint": _MLP}
_PLAIN = {"name": "tests.toy:Net", "width": 5}
BACKBONES: dict[str, Tables] = {
    "counts": {"name": "counts"},
    "fingerprint": {"name": "fingerprint", **_MLP},
    "gnn": {"name": "gnn", **_GNN},
    "joint": _JOINT,
    "joint, two views": {**_JOINT, "keep_counts": True},
    "conv4": {**_CONV4, "normalisation": "group"},
    "conv4, batch norm": _CONV4,
    "mlp": {"name": "mlp", "inputs": 2, "hidden": [8]},
    "text_bag": {"name": "text_bag", "buckets": 64, "embedding": 4},
    "wordllama": {"name": "wordllama"},
    "wordllama, projection": {"name": "wordllama", "weights": False},
    "profiles": {"name": "profiles", "width": 4},
    "plain": _PLAIN,
    "maps": {**_PLAIN, "width": 32},
    "plain, batch norm": {**_PLAIN, "batch_norm": True},
}
_OF_ALL_WEIGHTS = ("maml", "meta_sgd", "reptile", "scratch")  # their inner loop moves the backbone
DOMAINS = ("fingerprint", "gnn", "conv4", "conv4, batch norm", "mlp", "text_bag", "wordllama")


def on(method: str, domain: str) -> str:
    """The backbone of a domain: inner steps of 0.3 are too long for wordllama's weights of tokens, in units of 1/30."""
    return "wordllama, projection" if domain == "wordllama" and method in _OF_ALL_WEIGHTS else domain


# One of each family on every domain; what else there is of it, on the plain network.
_EVERYWHERE = ("protonet", "matching", "relation", "r2d2", "centroid", "zero_shot", "gp", "adkf", "dkt")
_EVERYWHERE += ("quadratic_probe", "in_context")
_EVERYWHERE += ("maml", "anil", "meta_sgd", "reptile", "finetune", "scratch", "logistic")
_OF_COUNTS = ("logistic", "random_forest", "gradient_boosting", "sklearn", "tabpfn", "knn", "similarity", "tanimoto_gp")
_OF_MAPS = ("relation of maps", "relation of maps, batch norm")
PAIRS = (
    *((m, on(m, b)) for m in _EVERYWHERE for b in DOMAINS),
    *((m, "plain") for m in _METHODS if m not in {*_OF_COUNTS, *_OF_MAPS, "known_assays"}),
    ("known_assays", "profiles"),
    *((m, "counts") for m in ("centroid", *_OF_COUNTS)),
    *((m, "maps") for m in _OF_MAPS),
    *((m, "plain, batch norm") for m in _BATCH_NORM),
    *((m, "joint") for m in ("protonet, mahalanobis", "gp", "anil")),
    *((m, "mlp") for m in ("random_forest", "gradient_boosting", "sklearn", "tabpfn")),
    ("gp", "joint, two views"),
)
CASES = {f"{m} on {b}": (m, b) for m, b in PAIRS}


def broken_laws(method: str, backbone: str) -> set[str]:
    """What the table says of a method; those that steps move through batch norm see the other queries."""
    broken = set(ALL[method][1])
    if backbone == "conv4, batch norm" and method in ("anil", *_OF_ALL_WEIGHTS):
        broken |= {ENCODING, ALONE}
    return broken
