"""Ladders: both published steps of annealed Langevin, importance weights, levels that depend on arrivals."""

import math

import pytest
import torch

from ebm_lab.energies import Energy
from ebm_lab.errors import UserError
from ebm_lab.noise import StandardGaussian
from ebm_lab.samplers import (
    HMC,
    MALA,
    DualAveraging,
    Independence,
    Langevin,
    Level,
    anneal,
    noise_levels,
    run_chains,
    temperature_levels,
)

F64 = torch.float64


class Noised(Energy):
    """E(x | σ) = ‖x‖² / (2σ²)."""

    shape = (2,)

    def forward(self, x, sigma=1.0):
        return 0.5 * x.flatten(1).square().sum(1) / sigma**2


CONVENTIONS = {"paper": (0.5, 1 / 0.95), "code": (1.0, 1 / 0.9)}  # step over ε; inflation 1.0526, 1.1111


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_one_step_of_annealed_langevin_is_the_published_one(convention):
    sigmas, epsilon = (4.0, 1.0, 0.5), 0.05
    share, _ = CONVENTIONS[convention]
    for level, sigma in zip(noise_levels(Noised(), sigmas), sigmas, strict=True):
        x, z = torch.tensor([[1.0, -2.0]], dtype=F64), torch.tensor([[0.5, 1.5]], dtype=F64)
        kernel, alpha, score = (
            Langevin(share * epsilon).at_scale(level.scale),
            epsilon * (sigma / 0.5) ** 2,
            -x / sigma**2,
        )
        after, _ = kernel.step(level.energy, kernel.init(level.energy, x), None, draw=z)
        published = {
            "paper": x + alpha / 2 * score + math.sqrt(alpha) * z,
            "code": x + alpha * score + math.sqrt(2 * alpha) * z,
        }
        torch.testing.assert_close(after.x, published[convention], rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_both_conventions_inflate_the_variance_as_known_at_every_level(convention, generator):
    """ε/σ_L² = 0.2: 1.0526 and 1.1111. Gaussian events have a relative standard error of √(2/n)."""
    sigmas, n, seen = (2.0, 1.0, 0.5), 20_000, []
    share, inflation = CONVENTIONS[convention]

    def look(k, x):
        seen.append(x)
        return x

    start = torch.zeros(n // 2, 2, dtype=F64)
    kernel = Langevin(share * 0.2 * 0.5**2)
    end = anneal(kernel, noise_levels(Noised(), sigmas), start, 100, generator, on_arrival=look)
    for sigma, x in zip(sigmas, [*seen[1:], end.x], strict=True):
        assert abs(x.square().mean().item() / (inflation * sigma**2) - 1) < 4 * math.sqrt(2 / n)
    assert end.acceptance is None and start.eq(0).all()


def test_temperatures_are_a_ladder_too(generator):
    # Started at T = 9 and cooled: the last level's law, with the acceptance of one scaled problem at each.
    n = 10_000
    x = 3 * torch.randn(n, 2, generator=generator, dtype=F64)
    end = anneal(
        MALA(0.5), temperature_levels(Noised(), [9.0, 9 ** (2 / 3), 9 ** (1 / 3), 1.0]), x, 30, generator
    )
    assert abs(end.x.square().mean().item() - 1) < 4 * math.sqrt(2 / (2 * n))
    assert end.acceptance.shape == (4,) and (end.acceptance[1:] - end.acceptance[0]).abs().max() < 0.01


def test_annealed_importance_weights_are_unbiased(generator):
    """From E₀ = x²/8 to E₁ = x²/2: E[w] = Z₁/Z₀ = 1/2, whatever an exact kernel does in between."""

    class Between(Energy):
        shape = (1,)

        def __init__(self, beta):
            super().__init__()
            self.precision = (1 - beta) / 4 + beta

        def forward(self, x):
            return 0.5 * self.precision * x.flatten(1).square().sum(1)

    energies = [Between(k / 5) for k in range(6)]
    x = 2 * torch.randn(20_000, 1, generator=generator, dtype=F64)
    log_w = torch.zeros(len(x), dtype=F64)

    def weigh(k, x):
        log_w.add_(energies[k](x) - energies[k + 1](x))
        return x

    anneal(HMC(1.0, 1), [Level(e) for e in energies[1:]], x, 1, generator, on_arrival=weigh)
    w = log_w.exp()
    assert abs(w.mean().item() - 0.5) < 4 * w.std().item() / math.sqrt(len(w))


def test_a_level_may_depend_on_where_the_chains_arrive():
    # One step of descent with h = 1 on ½‖y - 2x‖² goes to 2x: twice from x = 3 is 12.
    def pulled(x):
        return Level(lambda y: 0.5 * (y - 2 * x).flatten(1).square().sum(1))

    x = torch.full((1, 1), 3.0, dtype=F64)
    assert anneal(Langevin(1.0, 0.0), [pulled, pulled], x, 1, None).x.item() == 12.0


def test_one_level_is_a_run_of_chains_and_arrivals_may_move():
    x, energy = torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=F64), Noised()
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    end = anneal(MALA(0.1), [Level(energy)], x, 3, generators[0], on_arrival=lambda k, x: 2 * x + k)
    assert torch.equal(end.x, run_chains(MALA(0.1), energy, 2 * x, 3, generators[1]).x)


def test_a_kernel_that_adapts_does_so_at_every_level(generator):
    x = torch.randn(50, 2, generator=generator, dtype=F64)
    kernel = DualAveraging(MALA(1e-4), 0.574, num_adapt=100)
    end = anneal(kernel, [Level(Noised().given(sigma=s)) for s in (1.0, 30.0)], x, 50, generator)
    assert (end.acceptance - 0.574).abs().max() < 0.15  # 100 steps from so small a start; 0.999 unadapted


def test_what_cannot_be_annealed_is_refused():
    x = torch.zeros(1, 2, dtype=F64)
    with pytest.raises(UserError, match="at least one level"):
        anneal(Langevin(0.1), [], x, 1, None)
    with pytest.raises(UserError, match="Independence has no step that could be scaled"):
        anneal(Independence(StandardGaussian((2,))), noise_levels(Noised(), (2.0, 1.0)), x, 1, None)
