"""Reinforcement learning: reach a goal that rewards alone tell. ``python examples/navigate.py``.

A task is a goal on the unit circle. From the centre the policy tries 40 noisy walks, then takes one step of the policy
gradient (REINFORCE); meta-training finds the policy that this step improves most. The inner loop takes any loss of the
parameters. Controls: the policy before its step, whose best is to stay in the centre, 1.0 from every goal; and the same
step of a policy that was not meta-trained.
"""

import math
from functools import partial

import torch
from torch.func import functional_call

from molmeta.domains.functions.mlp import MLP, MLPConfig
from molmeta.methods import inner_loop

WALKS, STEPS, NOISE, SPEED = 40, 8, 0.5, 0.25


def policy_gradient_loss(params, policy, goal):
    """REINFORCE on noisy walks: -log p(action) times what is still to be won, less its mean over the walks."""
    position, logs, rewards = torch.zeros(WALKS, 2), [], []
    for _ in range(STEPS):
        mean = functional_call(policy, params, (position,))
        action = (mean + NOISE * torch.randn_like(mean)).detach()
        position = position + SPEED * action
        logs.append(-(action - mean).square().sum(1) / (2 * NOISE**2))
        rewards.append(-(position - goal).norm(dim=1))
    to_come = torch.stack(rewards).flip(0).cumsum(0).flip(0)
    return -(torch.stack(logs) * (to_come - to_come.mean(1, keepdim=True))).mean()


def distance(policy, goal, steps):
    """Mean distance to the goal on a walk without noise, after ``steps`` of the policy gradient."""
    loss = partial(policy_gradient_loss, policy=policy, goal=goal)
    params = inner_loop.adapt(dict(policy.named_parameters()), loss, partial(inner_loop.sgd, lr=0.1), steps=steps)
    position, distances = torch.zeros(1, 2), []
    for _ in range(STEPS):
        position = position + SPEED * functional_call(policy, params, (position,))
        distances.append((position - goal).norm())
    return torch.stack(distances).mean()


torch.manual_seed(0)
policy, angles = MLP(MLPConfig(inputs=2, hidden=(32,), width=2)), torch.rand(200) * 2 * math.pi
circle = torch.stack([angles.cos(), angles.sin()], dim=1)
untrained = torch.stack([distance(policy, goal, 1).detach() for goal in circle[:50]]).mean()
optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
for _ in range(60):
    optimizer.zero_grad()
    torch.stack([distance(policy, goal, 1) for goal in circle[50 + torch.randperm(150)[:10]]]).mean().backward()
    torch.nn.utils.clip_grad_norm_(policy.parameters(), 0.3)
    optimizer.step()
before, adapted = (torch.stack([distance(policy, g, steps).detach() for g in circle[:50]]).mean() for steps in (0, 1))
print(f"distance: adapted {adapted:.3f}, before adapting {before:.3f}, adapted but not meta-trained {untrained:.3f}")
assert adapted < 0.75 * min(before, untrained)
