"""Schedules, parameter groups and the checks of their numbers."""

import functools
import math

import pytest
import torch

from ebm_lab.objectives import Optimization, SoftThresholdAdam

ADAM = functools.partial(torch.optim.Adam)


def test_learning_rate_follows_the_formula():
    # warm-up over 10, cosine over 100 down to a tenth
    recipe = Optimization(algorithm=ADAM, lr=2.0, schedule="cosine", length=100, warmup=10, final=0.1)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer, schedule = recipe.build([{"params": [parameter], "lr_factor": 3.0}])
    for iteration in range(120):
        progress = min(1.0, iteration / 100)
        factor = min(1.0, (iteration + 1) / 10) * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress)))
        assert optimizer.param_groups[0]["lr"] == pytest.approx(2.0 * 3.0 * factor, rel=1e-12)
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(2.0 * 3.0 * 0.1, rel=1e-12)


def test_linear_and_constant():
    assert Optimization(algorithm=ADAM, schedule="linear", length=4).factor(1) == pytest.approx(0.75)
    assert Optimization(algorithm=ADAM, schedule="constant", length=4).factor(3) == 1.0


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        ({"lr": 0.0}, "lr must be positive, got 0"),
        ({"schedule": "cosin"}, "schedule must be one of constant, linear, cosine, got 'cosin'"),
        ({"clip": -1.0}, "clip must be positive"),
        ({"micro_batches": 0}, "micro_batches must be at least 1"),
        ({"final": 2.0}, r"final in \[0, 1\]"),
    ],
)
def test_mistakes_are_told_in_a_sentence(numbers, sentence):
    with pytest.raises(ValueError, match=sentence):
        Optimization(algorithm=ADAM, **numbers)


def test_soft_threshold_is_the_proximal_map_after_adam():
    # Adam's first step is lr · sign(g): from 0.3 with g = 1 to 0.3 - .1, then lr · l1 = .05 nearer to 0.
    parameter = torch.nn.Parameter(torch.tensor([0.3, -0.3, 0.12], dtype=torch.float64))
    optimizer = SoftThresholdAdam([parameter], l1=0.5, lr=0.1, eps=1e-12)
    parameter.grad = torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64)
    optimizer.step()
    expected = torch.tensor([0.15, -0.35, 0.0], dtype=torch.float64)
    torch.testing.assert_close(parameter.detach(), expected, rtol=0, atol=1e-9)
    assert parameter[2] == 0  # exactly
    with pytest.raises(ValueError, match="l1 must be at least 0"):
        SoftThresholdAdam([parameter], l1=-1.0)
