"""Independence proposals: the ratio by hand, invariance, and modes that a local kernel cannot bridge."""

import math

import pytest
import torch

from ebm_lab.noise import StandardGaussian
from ebm_lab.samplers import Independence, run_chains


def gaussian(x):
    """N(0, 1/2) as an energy: λ = 2."""
    return x.flatten(1).square().sum(1)


def test_the_ratio_by_hand():
    # E = x², q = N(0, 4): from 0 to 1, log α = -1 + 1/8
    kernel = Independence(StandardGaussian((1,), scale=2.0).double())
    x, y = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    u = torch.tensor([0.4], dtype=torch.float64)
    state, info = kernel.step(gaussian, kernel.init(gaussian, x), None, draw=(y, u))
    assert info.acceptance.item() == pytest.approx(math.exp(-7 / 8), abs=1e-12)
    assert state.x.item() == 1.0  # 0.4 < exp(-7/8) = 0.417
    assert state.energy.item() == 1.0
    stayed, _ = kernel.step(gaussian, kernel.init(gaussian, x), None, draw=(y, u + 0.02))
    assert stayed.x.item() == 0.0


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_target_is_invariant(temperature, generator):
    n, variance = 40_000, 0.5 * temperature
    x = math.sqrt(variance) * torch.randn(n, 1, generator=generator, dtype=torch.float64)
    kernel = Independence(StandardGaussian((1,), scale=1.5).double(), temperature)
    after = run_chains(kernel, gaussian, x, 3, generator).x
    # The variance of a sample variance of n normals is 2 v²/n: 4 standard errors.
    assert abs(after.var().item() - variance) < 4 * variance * math.sqrt(2 / n)
    assert (after != x).float().mean() > 0.5


def test_modes_get_their_weights_though_no_path_joins_them(generator):
    # ½·exp(-E) has weights 0.9 at -6 and 0.1 at 6; every chain starts at the light one.
    def energy(x):
        logits = torch.stack(
            [math.log(0.9) - 0.5 * (x[:, 0] + 6) ** 2, math.log(0.1) - 0.5 * (x[:, 0] - 6) ** 2]
        )
        return -torch.logsumexp(logits, 0)

    n = 4000
    kernel = Independence(StandardGaussian((1,), scale=6.0).double())
    x = run_chains(kernel, energy, torch.full((n, 1), 6.0, dtype=torch.float64), 100, generator).x
    heavy = (x < 0).double().mean().item()
    assert abs(heavy - 0.9) < 4 * math.sqrt(0.09 / n)  # a binomial's standard error


def test_many_dimensions_reject_and_lose_nothing(generator):
    x = 0.7 * torch.randn(50, 200, generator=generator, dtype=torch.float64)
    kernel = Independence(StandardGaussian((200,), scale=2.0).double())
    chains = run_chains(kernel, gaussian, x, 2, generator)
    assert torch.equal(chains.x, x)
    assert chains.acceptance.item() < 1e-6
