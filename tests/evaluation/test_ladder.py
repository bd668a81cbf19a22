import math

import pytest
import torch

from ebm_lab.evaluation.ladder import Ladder, linear, sigmoid
from ebm_lab.samplers import MALA


def test_schedules_run_from_zero_to_one():
    assert linear(4) == (0, 0.25, 0.5, 0.75, 1)
    betas = sigmoid(4)
    s = [1 / (1 + math.exp(-4 * t)) for t in (-1, -0.5, 0, 0.5, 1)]
    assert betas == pytest.approx([(v - s[0]) / (s[4] - s[0]) for v in s], abs=1e-12)
    assert betas[2] == pytest.approx(0.5) and betas[0] == 0 and betas[-1] == 1


def test_refining_keeps_the_density_of_levels_and_their_step_sizes():
    ladder = Ladder((0.0, 0.1, 1.0), (1.0, 1.0, 0.01)).refined(4)
    assert ladder.betas == pytest.approx((0, 0.05, 0.1, 0.55, 1))
    assert ladder.step_sizes == pytest.approx((1, 1, 1, 0.1, 0.01))
    assert Ladder((0.0, 1.0)).refined(2) == Ladder((0.0, 0.5, 1.0), None)


def test_jitter_shortens_steps_by_up_to_a_half():
    ladder = Ladder(linear(999), (2.0,) * 1000)
    found = ladder.jittered(torch.Generator().manual_seed(0))
    factors = torch.tensor(found.step_sizes) / 2
    assert found.betas == ladder.betas
    assert 0.5 <= factors.min() < 0.51 and 0.99 < factors.max() <= 1
    assert factors.mean().item() == pytest.approx(0.75, abs=4 * 0.5 / math.sqrt(12 * 1000))
    assert Ladder(linear(3)).jittered(torch.Generator()) == Ladder(linear(3))


def test_a_kernel_steps_by_level():
    kernel = MALA(3.0)
    assert [Ladder((0.0, 1.0), (0.5, 0.25)).stepping(kernel).step_size(level) for level in (0, 1)] == [
        0.5,
        0.25,
    ]
    assert kernel.step_size(0) == 3.0
    assert Ladder((0.0, 1.0)).stepping(kernel) is kernel


@pytest.mark.parametrize("number", [0, 2.0, True])
def test_levels_are_counted(number):
    with pytest.raises(ValueError, match="num_temperatures must be an integer"):
        linear(number)
