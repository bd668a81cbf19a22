"""Energies of events and noise levels: their scales, their smoothness in σ, and who is refused."""

import math

import pytest
import torch

from ebm_lab.energies import (
    MLP,
    ConvNet,
    Energy,
    NoiseConditioning,
    Quadratic,
    QuadraticLadder,
    ResNet,
    UNet,
    WideResNet,
    score,
)
from ebm_lab.noise import NoisedGaussian


def conditioning(shape: tuple[int, ...]) -> NoiseConditioning:
    base = NoisedGaussian(shape).double()
    spread = torch.linspace(0.5, 2.0, math.prod(shape)).view(shape)
    base.fit(0.3 + spread * torch.randn(500, *shape, generator=torch.Generator().manual_seed(2)))
    return NoiseConditioning(base, num_features=8)


NETWORKS = {
    "mlp": lambda: MLP((3,), width=8, depth=2, conditioning=conditioning((3,))),
    "convnet": lambda: ConvNet((1, 5, 4), channels=(4, 6), hidden=8, conditioning=conditioning((1, 5, 4))),
    "resnet": lambda: ResNet((1, 5, 4), channels=(4, 6), conditioning=conditioning((1, 5, 4))),
    "wide_resnet": lambda: WideResNet((1, 5, 4), conditioning=conditioning((1, 5, 4))),
    "unet": lambda: UNet((1, 5, 4), channels=(4, 6), conditioning=conditioning((1, 5, 4))),
}
SIGMAS = torch.tensor([0.05, 0.3, 1.0, 7.0], dtype=torch.float64)


@pytest.fixture(params=NETWORKS)
def energy(request) -> Energy:
    torch.manual_seed(0)
    return NETWORKS[request.param]().double()


def events(energy: Energy, num: int = 4) -> torch.Tensor:
    return torch.randn(num, *energy.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_each_event_has_its_own_level(energy):
    x = events(energy)
    alone = torch.cat([energy(x[i : i + 1], sigma=SIGMAS[i]) for i in range(4)])
    torch.testing.assert_close(energy(x, sigma=SIGMAS), alone, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(energy.given(sigma=SIGMAS)(x), alone, rtol=1e-12, atol=1e-12)


def test_the_network_sees_the_level(energy):
    # Without the scales of the conditioning: the same input, another embedding, another number.
    u = events(energy)
    low, high = (energy.conditioning.embed(torch.full((4,), s, dtype=torch.float64)) for s in (0.1, 1.0))
    assert (energy._scalar(u, low) - energy._scalar(u, high)).abs().min() > 1e-6


def test_energy_is_smooth_in_the_level(energy):
    # ∂E/∂σ by autograd is the quotient of central differences: methods that match it in σ need no more.
    x, sigma, h = events(energy), SIGMAS.clone().requires_grad_(True), 1e-6
    (slope,) = torch.autograd.grad(energy(x, sigma=sigma).sum(), sigma)
    quotient = (energy(x, sigma=SIGMAS + h) - energy(x, sigma=SIGMAS - h)) / (2 * h)
    torch.testing.assert_close(slope, quotient.detach(), rtol=1e-5, atol=1e-6)


def test_score_is_that_of_the_noised_gaussian_and_a_scaled_correction(energy):
    # -∇E = ∇ log N(x; μ, Σ + σ²I) - s / (σ √(σ² + s²)) ∇_u N(u), u = (x - μ) / √(σ² + s²)
    x, part = events(energy), energy.conditioning
    shape = (4, *[1] * len(energy.shape))
    size = (SIGMAS**2 + part.base.scale**2).sqrt().view(shape)
    u = ((x - part.base.mean) / size).requires_grad_(True)
    embedding = part.embed(SIGMAS).detach()
    (slope,) = torch.autograd.grad(energy._scalar(u, embedding).sum(), u)
    covariance = part.base.directions @ torch.diag(part.base.variances) @ part.base.directions.T
    noised = covariance + SIGMAS.square()[:, None, None] * torch.eye(len(covariance))
    centred = (x - part.base.mean).flatten(1)
    gaussian = -torch.linalg.solve(noised, centred).view_as(x)
    correction = part.base.scale / (SIGMAS.view(shape) * size) * slope
    torch.testing.assert_close(score(energy, x, sigma=SIGMAS), gaussian - correction, rtol=1e-8, atol=1e-8)


def test_events_do_not_see_each_other_at_any_level(energy):
    x = events(energy).requires_grad_(True)
    (slope,) = torch.autograd.grad(energy(x, sigma=SIGMAS)[0], x)
    assert slope[0].abs().max() > 0 and slope[1:].abs().max() == 0


def test_an_unbound_level_is_refused_and_so_is_one_too_many(energy):
    with pytest.raises(ValueError, match="bind one, energy.given"):
        energy(events(energy))
    with pytest.raises(ValueError, match="not conditioned .* conditioning=noise_level"):
        MLP((3,), width=4, depth=1)(torch.zeros(2, 3), sigma=1.0)
    with pytest.raises(ValueError, match="bind one, energy.given"):
        QuadraticLadder((3,), sigmas=[1, 2])(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="num_features must be even"):
        NoiseConditioning(NoisedGaussian((3,)), num_features=7)


def test_energies_say_whether_they_need_a_level(energy):
    assert energy.noise_conditional
    assert not MLP((3,), width=4, depth=1).noise_conditional and not Quadratic((3,)).noise_conditional


def test_a_ladder_of_quadratics_reads_the_nearest_level():
    energy = QuadraticLadder((1,), sigmas=[0.5, 1.0, 2.0]).double()
    for level, precision in zip(energy.levels, (2.0, 1.0, 0.5), strict=True):
        level.set_precision(torch.tensor([[precision]], dtype=torch.float64))
    x = torch.full((4, 1), 2.0, dtype=torch.float64)
    sigma = torch.tensor([0.5, 1.0, 2.0, 1.5])  # √(1 · 2) < 1.5: nearer to 2
    torch.testing.assert_close(energy(x, sigma=sigma), torch.tensor([4.0, 2.0, 1.0, 1.0]).double())
