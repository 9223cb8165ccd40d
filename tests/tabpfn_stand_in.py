"""A module with the interface of the package ``tabpfn``: like it, its answers depend on a random state."""

from __future__ import annotations

from sklearn.neural_network import MLPClassifier, MLPRegressor


class TabPFNClassifier(MLPClassifier):
    def __init__(self, *, n_estimators: int = 8, device: str = "auto", random_state: int | None = 0) -> None:
        super().__init__(hidden_layer_sizes=(4,), batch_size=3, max_iter=30, tol=1.0, random_state=random_state)
        self.n_estimators, self.device = n_estimators, device


class TabPFNRegressor(MLPRegressor):
    def __init__(self, *, n_estimators: int = 8, device: str = "auto", random_state: int | None = 0) -> None:
        super().__init__(hidden_layer_sizes=(4,), batch_size=3, max_iter=30, tol=1.0, random_state=random_state)
        self.n_estimators, self.device = n_estimators, device
