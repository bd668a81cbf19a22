"""Denoising score matching with less variance, and without a gradient in x."""

import pytest
import torch

from ebm_lab.energies import Energy, Quadratic
from ebm_lab.objectives.dsm import denoising_loss, variance_reduced_denoising_loss
from ebm_lab.objectives.fd_dsm import finite_difference_denoising_loss

F64 = torch.float64
PRECISION = torch.tensor([[2, 0.6], [0.6, 1]], dtype=F64)


def quadratic() -> Quadratic:
    energy = Quadratic((2,)).double()
    energy.set_precision(PRECISION)
    return energy


class DoubleWell(Energy):
    """E(x) = a (x² - 1)²."""

    shape = (1,)

    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Parameter(torch.tensor(1.0, dtype=F64))

    def forward(self, x):
        return self.a * (x.square() - 1).square().sum(1)


def hermite(num: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes and weights of averages over z ~ N(0, 1), exact for polynomials."""
    import numpy as np

    nodes, weights = np.polynomial.hermite_e.hermegauss(num)
    return torch.tensor(nodes)[:, None], torch.tensor(weights / weights.sum())


@pytest.mark.parametrize("sigma", [0.5, 0.05])
def test_control_variate_leaves_the_expectation_and_its_gradient(sigma):
    energy, (z, weights) = DoubleWell(), hermite(12)
    results = []
    for loss in (denoising_loss, variance_reduced_denoising_loss):
        values = torch.stack(
            [loss(energy, torch.full((1, 1), 0.7, dtype=F64), one[None], sigma) for one in z]
        )
        mean = weights @ values
        results.append((mean.item(), torch.autograd.grad(mean, energy.a)[0].item()))
    assert results[1] == pytest.approx(results[0], rel=1e-9)


@pytest.mark.parametrize("sigma", [1.0, 1e-3])
@pytest.mark.parametrize(("v", "curvature"), [((1.0, 1.0), -4.2), ((1.0, -1.0), -1.8)])
def test_control_variate_is_exact_on_a_linear_score(sigma, v, curvature):
    # ½‖s(x + σz)‖² + zᵀ(∇s)z + d/(2σ²) at every σ, with zᵀ(∇s)z = -zᵀPz; as σ → 0 the sliced loss at z
    x, z = torch.tensor([[1.0, -1.0]], dtype=F64), torch.tensor([v], dtype=F64)
    s = -(x + sigma * z) @ PRECISION
    expected = 0.5 * s.square().sum().item() + curvature + 1 / sigma**2
    assert variance_reduced_denoising_loss(quadratic(), x, z, sigma).item() == pytest.approx(
        expected, rel=1e-12
    )


def test_control_variate_bounds_the_variance_of_the_gradient():
    # At x = 0.7, s = -4ax(x² - 1): ∂/∂a of the plain loss varies as (∂s/∂a)²/σ², ∂s/∂a = 1.428, that of the
    # reduced one as Var[(∂²s/∂a∂x) z²] = 2 (4 - 12x²)² = 7.07 as σ → 0. At σ = 0.003 they differ 32053-fold.
    energy, sigma, (nodes, weights) = DoubleWell(), 0.003, hermite(20)
    variances = []
    for loss in (denoising_loss, variance_reduced_denoising_loss):
        x = torch.full((1, 1), 0.7, dtype=F64)
        slopes = torch.stack(
            [torch.autograd.grad(loss(energy, x, z[None], sigma), energy.a)[0] for z in nodes]
        )
        variances.append((weights @ slopes.square() - (weights @ slopes).square()).item())
    assert variances[0] * sigma**2 == pytest.approx(1.428**2, rel=1e-2)
    assert variances[1] == pytest.approx(2 * (4 - 12 * 0.49) ** 2, rel=1e-2)
    assert variances[0] / variances[1] == pytest.approx(32053, rel=1e-2)


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 3.0])
def test_finite_differences_are_exact_on_quadratic_energies(epsilon):
    x, z = (torch.tensor([v, v], dtype=F64) for v in ([1.0, -1.0], [0.3, 0.8]))
    v = torch.tensor([[1, 1], [1, -1]], dtype=F64) / 2**0.5  # d v vᵀ averages to I
    energies = [quadratic(), quadratic()]
    exact = denoising_loss(energies[0], x, z, 0.5)
    found = finite_difference_denoising_loss(energies[1], x, z, v, 0.5, epsilon)
    assert found.item() == pytest.approx(exact.item(), rel=1e-12)
    for a, b in zip(*(energy.parameters() for energy in energies), strict=True):
        slopes = (
            torch.autograd.grad(exact, a, retain_graph=True),
            torch.autograd.grad(found, b, retain_graph=True),
        )
        torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-10, atol=1e-10)


def test_finite_differences_have_a_bias_of_second_order():
    # (E(x - ε) - E(x + ε)) / 2ε = s(x) - ε² E'''(x)/6, and E''' = 24 x: at x̃ = 0.7, z = 0 with s = 1.428
    x, z, v = (torch.full((1, 1), value, dtype=F64) for value in (0.7, 0.0, 1.0))
    for epsilon in (0.1, 0.2):
        found = finite_difference_denoising_loss(DoubleWell(), x, z, v, 0.5, epsilon).item()
        assert found == pytest.approx(0.5 * (1.428 - epsilon**2 * 4 * 0.7) ** 2, rel=1e-12)


def test_finite_differences_sum_over_features(generator):
    # Averaged over directions it is ½ ‖s + z/σ‖², with a relative standard error of √(2/4000)
    dim, num = 1000, 4000
    energy = Quadratic((dim,)).double()
    x, z = (torch.randn(1, dim, generator=generator, dtype=F64).expand(num, dim) for _ in range(2))
    v = torch.nn.functional.normalize(torch.randn(num, dim, generator=generator, dtype=F64), dim=1)
    expected = denoising_loss(energy, x[:1], z[:1], 0.5).item()
    found = finite_difference_denoising_loss(energy, x, z, v, 0.5, 0.1).item()
    assert found == pytest.approx(expected, rel=4 * (2 / num) ** 0.5)
