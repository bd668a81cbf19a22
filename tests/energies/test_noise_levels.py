"""Ladders of noise levels: their steps add up, and shrinking coordinates are the same ladder."""

import math

import pytest
import torch

from ebm_lab.energies import NoiseLadder, geometric_ladder, variance_preserving_ladder


def test_levels_of_a_geometric_ladder_grow_by_one_factor():
    ladder = geometric_ladder(0.01, 10.0, 4)
    assert ladder.sigmas == pytest.approx((0.01, 0.1, 1.0, 10.0))
    assert ladder.steps == pytest.approx((0.01 * math.sqrt(99), 0.1 * math.sqrt(99), math.sqrt(99)))


@pytest.mark.parametrize("ladder", [geometric_ladder(0.1, 4.0, 7), variance_preserving_ladder(6)])
def test_variances_of_the_steps_add_up(ladder):
    total = ladder.sigmas[0] ** 2 + sum(step**2 for step in ladder.steps)
    assert total == pytest.approx(ladder.sigmas[-1] ** 2, rel=1e-12)
    assert len(ladder) == len(ladder.sigmas) == len(ladder.steps) + 1


def test_a_variance_preserving_ladder_in_the_coordinates_of_the_data():
    # x_{k+1} = a x_k + √(1 - a²) z from x_0 = √(1 - β_0) x + √β_0 z, with the variances that this recursion
    # gives by itself: in x_k / ᾱ_k the noise has the ladder's levels, and its steps are √(1 - a²) / ᾱ_{k+1}.
    ladder = variance_preserving_ladder(6)
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    signal, variance, levels = 1.0, 0.0, []
    for i in range(501):
        a = math.sqrt(1 - betas[i])
        signal, variance = a * signal, a**2 * variance + float(betas[i])
        if i % 100 == 0:
            levels.append((signal, variance))
    assert ladder.sigmas == pytest.approx([math.sqrt(v) / s for s, v in levels], rel=1e-12)
    a_s = [after[0] / before[0] for before, after in zip(levels, levels[1:], strict=False)]
    steps = [math.sqrt(1 - a**2) / level[0] for a, level in zip(a_s, levels[1:], strict=True)]
    assert ladder.steps == pytest.approx(steps, rel=1e-9)
    assert ladder.sigmas[0] == pytest.approx(0.0100005, rel=1e-6)  # √(10⁻⁴ / (1 - 10⁻⁴))


@pytest.mark.parametrize(
    "make",
    [
        lambda: NoiseLadder([1.0]),
        lambda: NoiseLadder([1.0, 1.0]),
        lambda: NoiseLadder([0.0, 1.0]),
        lambda: geometric_ladder(2.0, 1.0, 3),
        lambda: geometric_ladder(1.0, 2.0, 1),
        lambda: variance_preserving_ladder(1),
        lambda: variance_preserving_ladder(6, num_steps=8),
    ],
)
def test_what_is_no_ladder_is_refused(make):
    with pytest.raises(ValueError, match="ladder"):
        make()
