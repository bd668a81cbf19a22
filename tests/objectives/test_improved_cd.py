"""The neglected term of contrastive divergence: its energy, its entropy, its sign; float64."""

import math

import pytest
import torch
from test_losses import Scaled, column, normal_grid, slope

from ebm_lab.energies import Quadratic
from ebm_lab.objectives.improved_cd import (
    SIGNS,
    energy_of_samples,
    expected_slope,
    log_neighbour_distance,
    nearest_neighbour_entropy,
)
from ebm_lab.objectives.maximum_likelihood import likelihood_surrogate
from ebm_lab.samplers import Langevin

DOUBLE = torch.float64


def one_step(precision: float, step_size: float = 0.1) -> tuple[Scaled, torch.Tensor]:
    """Data ±1 and noise ±1, which make every second moment exact, through one step with its graph."""
    energy = Scaled(precision)
    x, z = column(1, 1, -1, -1), column(1, -1, 1, -1)
    return energy, Langevin(step_size).step_with_graph(energy, x, 0, z)


def gaussian_entropy(x: torch.Tensor) -> torch.Tensor:
    """½ log v of samples that are known to be Gaussian, without its constant."""
    return 0.5 * x.square().mean().log()


def test_the_three_terms_at_precision_2():
    energy, x_model = one_step(2.0)
    plain = slope(likelihood_surrogate(energy, column(1, -1), x_model).loss, energy)
    energy, x_model = one_step(2.0)
    sampled = slope(energy_of_samples(energy, x_model), energy)
    energy, x_model = one_step(2.0)
    entropy = slope(gaussian_entropy(x_model), energy)
    # v = .84 and ∂v = -.16: ½ (1 - v), ½ · 2 ∂v, ½ ∂v / v
    assert plain == pytest.approx(0.08, abs=1e-12)
    assert sampled == pytest.approx(-0.16, abs=1e-12)
    assert entropy == pytest.approx(-0.08 / 0.84, abs=1e-12)
    assert plain + SIGNS["exact"] * (sampled - entropy) == pytest.approx(0.1447619048, abs=1e-9)
    assert plain + SIGNS["published"] * (sampled - entropy) == pytest.approx(0.0152380952, abs=1e-9)


@pytest.mark.parametrize(("kl_sign", "expected"), [("exact", 0.1447619048), ("published", 0.0152380952)])
def test_the_closed_form_of_the_slope(kl_sign, expected):
    assert expected_slope(2.0, 1.0, 1.0, 0.1, 1.0, SIGNS[kl_sign]) == pytest.approx(expected, abs=1e-9)


def test_exact_is_the_derivative_of_contrastive_divergence():
    """By a difference quotient of KL(N(0, 1) ‖ p) - KL(N(0, v) ‖ p), whose log Z cancel."""

    def divergence(precision: float) -> float:
        after = (1 - 0.1 * precision) ** 2 + 0.2
        return 0.5 * precision * (1 - after) + 0.5 * math.log(after)

    quotient = (divergence(2 + 1e-5) - divergence(2 - 1e-5)) / 2e-5
    assert expected_slope(2.0, 1.0, 1.0, 0.1, 1.0, SIGNS["exact"]) == pytest.approx(quotient, abs=1e-8)


def test_the_judging_energy_takes_no_gradient_and_learns_again_afterwards():
    energy = Scaled(2.0)
    energy_of_samples(energy, column(1, 2).requires_grad_(True)).backward()
    assert energy.precision.grad is None and energy.precision.requires_grad


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("clamp", [None, (-0.8, 0.8)])
def test_a_step_with_its_graph_goes_where_the_kernel_goes(clip, clamp, generator):
    energy = Quadratic((3,)).double()
    x, z = torch.randn(2, 20, 3, generator=generator, dtype=DOUBLE)
    kernel = Langevin(0.1, temperature=0.7, gradient_clip=clip, clamp=clamp)
    stepped, _ = kernel.step(energy, kernel.init(energy, x), None, draw=z)
    moved = kernel.step_with_graph(energy, x, 0, z)
    torch.testing.assert_close(moved, stepped.x)
    assert moved.requires_grad


# --- the entropy by nearest neighbours ------------------------------------------------------------------


def test_distances_of_three_points_by_hand():
    # neighbours at 1, 1 and 3; a gradient of both ends: d/dx_0 of ⅓ (log|x_1 - x_0| twice) = -⅔
    x = column(0, 1, 4).requires_grad_(True)
    value = log_neighbour_distance(x)
    assert value.item() == pytest.approx(math.log(3) / 3, abs=1e-12)
    (gradient,) = torch.autograd.grad(value, x)
    assert gradient.flatten().tolist() == pytest.approx([-2 / 3, 2 / 3 - 1 / 9, 1 / 9], abs=1e-12)


def test_a_lone_event_has_no_neighbour():
    with pytest.raises(ValueError, match="rank 1 takes at least 2 events, got 1"):
        log_neighbour_distance(column(1))


def test_the_second_neighbour_by_hand():
    assert log_neighbour_distance(column(0, 1, 4), 2).item() == pytest.approx(math.log(4 * 3 * 4) / 3)


@pytest.mark.parametrize("neighbour", [1, 5])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_entropy_of_a_gaussian_and_of_a_uniform(dim, neighbour, generator):
    """d log ρ of a uniform density has variance π²/6: an error of 1.28 √2 / √n with neighbours shared."""
    num = 4000
    error = 4 * 1.28 * math.sqrt(2) / math.sqrt(num)
    box = torch.rand(num, dim, generator=generator, dtype=DOUBLE) * 3
    edges = 0.05 * (dim - 1) * neighbour ** (1 / dim)  # where neighbours are further away
    assert abs(nearest_neighbour_entropy(box, neighbour).item() - dim * math.log(3)) < error + edges
    normal = 0.5 * torch.randn(num, dim, generator=generator, dtype=DOUBLE)
    exact = dim * (0.5 * math.log(2 * math.pi * math.e) + math.log(0.5))
    assert nearest_neighbour_entropy(normal, neighbour).item() == pytest.approx(exact, abs=error + edges)


def test_its_gradient_is_that_of_the_entropy_of_a_linear_map(generator):
    """x -> Ax: H grows by log det A, so the gradient at A = I is the identity.

    Pairs of neighbours point everywhere alike: d (x_i - x_j)_a (x_i - x_j)_b / ρ² has mean δ_ab and a
    variance below 1; counted twice for shared neighbours, a standard error of √2 / √n.
    """
    num, dim = 4000, 2
    x = torch.randn(num, dim, generator=generator, dtype=DOUBLE)
    matrix = torch.eye(dim, dtype=DOUBLE).requires_grad_(True)
    (gradient,) = torch.autograd.grad(nearest_neighbour_entropy(x @ matrix.T), matrix)
    torch.testing.assert_close(gradient, torch.eye(dim, dtype=DOUBLE), atol=4 * math.sqrt(2 / num), rtol=0)
    assert gradient.trace().item() == pytest.approx(dim, abs=1e-9)  # a scale is exact, event by event


def test_a_grid_is_as_far_apart_as_its_quantiles():
    x = normal_grid(1000)
    gaps = (x[1:] - x[:-1]).flatten()
    nearest = torch.cat([gaps[:1], torch.minimum(gaps[1:], gaps[:-1]), gaps[-1:]])
    assert log_neighbour_distance(x).item() == pytest.approx(nearest.log().mean().item(), abs=1e-12)
