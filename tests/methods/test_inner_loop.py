from __future__ import annotations

from collections.abc import Callable
from functools import partial

import higher
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from molmeta.methods.inner_loop import Optimiser, Params, adam, adapt, momentum, scheduled, sgd, step

LR = 0.1


def quadratic(matrix: torch.Tensor, centre: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    return (theta - centre) @ matrix @ (theta - centre) / 2


@pytest.fixture
def problem() -> dict[str, torch.Tensor]:
    """Two quadratics (inner A, a; outer B, b) and a start theta, in 4 dimensions."""
    g = torch.Generator().manual_seed(0)
    names = ("A", "B"), ("a", "b", "theta")
    square = {n: torch.randn(4, 4, generator=g, dtype=torch.float64) for n in names[0]}
    vectors = {n: torch.randn(4, generator=g, dtype=torch.float64) for n in names[1]}
    return {n: m @ m.T for n, m in square.items()} | vectors


def meta_gradient(problem: dict[str, torch.Tensor], steps: int, first_order: bool) -> torch.Tensor:
    theta = problem["theta"].clone().requires_grad_()
    adapted = adapt(
        {"theta": theta},
        lambda p: quadratic(problem["A"], problem["a"], p["theta"]),
        partial(sgd, lr=LR),
        steps=steps,
        first_order=first_order,
    )
    quadratic(problem["B"], problem["b"], adapted["theta"]).backward()
    assert theta.grad is not None
    return theta.grad


@pytest.mark.parametrize("steps", [0, 1, 2, 7])
@pytest.mark.parametrize("first_order", [False, True])
def test_the_meta_gradient_on_a_quadratic_is_the_closed_form(
    problem: dict[str, torch.Tensor], steps: int, first_order: bool
) -> None:
    # theta_s = a + (I - lr A)^s (theta - a); first order drops the leading power from the meta-gradient.
    power = torch.linalg.matrix_power(torch.eye(4, dtype=torch.float64) - LR * problem["A"], steps)
    adapted = problem["a"] + power @ (problem["theta"] - problem["a"])
    outer = problem["B"] @ (adapted - problem["b"])
    expected = outer if first_order else power @ outer
    torch.testing.assert_close(meta_gradient(problem, steps, first_order), expected)


def test_first_and_second_order_differ_on_a_quadratic(problem: dict[str, torch.Tensor]) -> None:
    assert not torch.allclose(meta_gradient(problem, 2, False), meta_gradient(problem, 2, True), rtol=0.01)


def test_zero_steps_return_the_parameters_themselves() -> None:
    params = {"theta": torch.ones(2, requires_grad=True)}
    assert adapt(params, lambda p: p["theta"].sum(), partial(sgd, lr=1.0), steps=0) is params


@pytest.mark.parametrize("steps", [1, 3])
def test_the_meta_gradient_of_an_mlp_agrees_with_higher(steps: int) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 2))
    net = net.double()
    x, y = torch.randn(12, 3, dtype=torch.float64), torch.arange(12) % 2

    with higher.innerloop_ctx(net, torch.optim.SGD(net.parameters(), lr=LR), copy_initial_weights=False) as (
        twin,
        sgd_,
    ):
        for _ in range(steps):
            sgd_.step(F.cross_entropy(twin(x[:6]), y[:6]))
        expected = torch.autograd.grad(F.cross_entropy(twin(x[6:]), y[6:]), list(net.parameters()))

    def loss(params: Params) -> torch.Tensor:
        return F.cross_entropy(functional_call(net, params, (x[:6],)), y[:6])

    adapted = adapt(dict(net.named_parameters()), loss, partial(sgd, lr=LR), steps=steps)
    query = F.cross_entropy(functional_call(net, adapted, (x[6:],)), y[6:])
    torch.testing.assert_close(torch.autograd.grad(query, list(net.parameters())), expected)


def test_a_learned_step_size_a_parameter_has_its_analytic_gradient() -> None:
    # L = sum(theta^2) / 2 has gradient theta, so theta_1 = (1 - lr) theta and d sum(theta_1) / d lr = -theta.
    theta = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    rate = torch.tensor([0.1, 0.2, 0.3], requires_grad=True)
    other = torch.tensor(2.0, requires_grad=True)
    rates = {"theta": rate, "other": torch.tensor(0.5)}
    adapted = step(
        {"theta": theta, "other": other},
        lambda p: p["theta"].square().sum() / 2 + p["other"],
        partial(sgd, lr=rates),
        first_order=True,
    )
    torch.testing.assert_close(adapted["other"], torch.tensor(1.5))
    (gradient,) = torch.autograd.grad(adapted["theta"].sum(), rate)
    torch.testing.assert_close(gradient, -theta.detach())


def test_a_parameter_that_the_loss_does_not_use_stays_where_it_is() -> None:
    params = {"used": torch.ones(2, requires_grad=True), "idle": torch.full((3,), 7.0, requires_grad=True)}
    adapted = adapt(params, lambda p: p["used"].sum(), partial(sgd, lr=1.0), steps=2)
    torch.testing.assert_close(adapted["idle"], params["idle"])
    torch.testing.assert_close(adapted["used"], torch.full((2,), -1.0))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (sgd, partial(torch.optim.SGD, lr=0.1)),
        (momentum(0.9), partial(torch.optim.SGD, lr=0.1, momentum=0.9)),
        (adam(0.8, 0.99, eps=1e-3), partial(torch.optim.Adam, lr=0.1, betas=(0.8, 0.99), eps=1e-3)),
    ],
)
def test_the_inner_optimisers_are_those_of_torch(ours: Optimiser, theirs: Callable[..., torch.optim.Optimizer]) -> None:
    start = {"w": torch.tensor([1.0, -3.0]), "b": torch.tensor([0.5]), "idle": torch.ones(1)}
    plain = {name: value.clone().requires_grad_() for name, value in start.items()}
    optimiser = theirs(list(plain.values()))

    def loss(params: Params) -> torch.Tensor:
        return params["w"].pow(4).sum() * 0.1 + params["b"].square().sum() + 0 * params["idle"].sum()

    for _ in range(4):
        optimiser.zero_grad()
        loss(plain).backward()
        optimiser.step()
    adapted = adapt(start, loss, partial(ours, lr=0.1), steps=4, first_order=True)
    torch.testing.assert_close({n: p.detach() for n, p in adapted.items()}, {n: p.detach() for n, p in plain.items()})


def test_a_gradient_of_zero_leaves_adam_differentiable() -> None:
    theta = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    adapted = adapt({"theta": theta}, lambda p: p["theta"].pow(3).sum(), partial(adam(), lr=0.1), steps=3)
    (gradient,) = torch.autograd.grad(adapted["theta"].sum(), theta)
    torch.testing.assert_close(gradient, torch.ones_like(gradient))


def test_a_schedule_gives_each_step_its_rate() -> None:
    # L = theta^2 / 2 shrinks theta by 1 - lr.
    start = {"theta": torch.tensor(1.0, dtype=torch.float64)}
    rates = (0.5, 0.1, 0.2)
    adapted = adapt(start, lambda p: p["theta"].square() / 2, scheduled(sgd, lambda s: rates[s]), steps=3)
    assert float(adapted["theta"].detach()) == pytest.approx(0.5 * 0.9 * 0.8)


def test_the_inner_loss_may_be_a_policy_gradient_that_knows_of_no_labels() -> None:
    logits = {"policy": torch.zeros(3, requires_grad=True)}
    reward = torch.tensor([0.0, 1.0, 0.0])

    def loss(params: Params) -> torch.Tensor:
        actions = torch.arange(3).repeat(10)
        return -(params["policy"].log_softmax(0)[actions] * reward[actions]).mean()

    adapted = adapt(logits, loss, partial(sgd, lr=1.0), steps=5)
    assert int(adapted["policy"].argmax()) == 1
    (gradient,) = torch.autograd.grad(adapted["policy"][1], logits["policy"])
    assert gradient.abs().sum() > 0


def test_adapting_works_under_no_grad_and_leaves_its_arguments_alone() -> None:
    params = {"w": torch.tensor([2.0])}
    with torch.no_grad():
        adapted = adapt(params, lambda p: p["w"].square().sum(), partial(sgd, lr=0.25), steps=1)
    torch.testing.assert_close(adapted["w"].detach(), torch.tensor([1.0]))
    assert not params["w"].requires_grad
