from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_geometric.nn import GINEConv

from molmeta.domains.molecules.messages import GINE, Hop


@pytest.fixture
def graph(float64: None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    bonds = torch.tensor([[0, 1], [1, 2], [2, 0], [3, 4]])
    both = torch.cat([bonds, bonds.flip(1)]).T
    return torch.randn(6, 3, requires_grad=True), both, torch.randn(4, 3, requires_grad=True)


def test_it_is_pytorch_geometric_s_layer(graph: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    nodes, edges, bonds = graph
    ours, theirs = GINE(), GINEConv(nn.Identity(), train_eps=True)
    theirs.load_state_dict(ours.state_dict())
    nn.init.constant_(ours.eps, 0.3)
    nn.init.constant_(theirs.eps, 0.3)
    found, expected = ours(nodes, Hop.along(edges, len(nodes)), bonds), theirs(nodes, edges, bonds.repeat(2, 1))
    torch.testing.assert_close(found, expected)
    for a, b in zip(
        torch.autograd.grad(found.square().sum(), [nodes, bonds, ours.eps]),
        torch.autograd.grad(expected.square().sum(), [nodes, bonds, theirs.eps]),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_its_first_and_second_derivatives_are_finite_differences(
    graph: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    nodes, edges, bonds = graph
    layer, hop = GINE(), Hop.along(edges, len(nodes))
    assert torch.autograd.gradcheck(lambda n, b: layer(n, hop, b), (nodes, bonds))
    assert torch.autograd.gradgradcheck(lambda n, b: layer(n.sin(), hop, b), (nodes, bonds))


def test_groups_of_graphs_have_a_weight_each(graph: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    nodes, edges, bonds = graph
    hop = Hop.along(edges, len(nodes))
    alone = [torch.func.functional_call(GINE(), {"eps": torch.full((1,), e)}, (nodes, hop, bonds)) for e in (0.1, 0.7)]
    twice = torch.stack([edges.view(2, 2, -1), edges.view(2, 2, -1) + len(nodes)], dim=2).reshape(2, -1)
    eps = torch.tensor([[0.1], [0.7]])
    found = torch.func.functional_call(
        GINE(), {"eps": eps}, (nodes.repeat(2, 1), Hop.along(twice, 2 * len(nodes)), bonds.repeat(2, 1))
    )
    torch.testing.assert_close(found, torch.cat(alone))
