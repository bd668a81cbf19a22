"""One contract for every density on the plane: mass, score, draws and noise belong together."""

import functools
import math

import pytest
import torch

from ebm_lab.data import Checkerboard, GaussianMixture, point_sets
from ebm_lab.data.seeding import seeded_generator

DENSITIES = {
    "eight_gaussians": point_sets.eight_gaussians(),
    "twenty_five_gaussians": point_sets.twenty_five_gaussians(),
    "rings": point_sets.rings(),
    "two_spirals": point_sets.two_spirals(),
    "moons": point_sets.moons(),
    "pinwheel": point_sets.pinwheel(),
    "swiss_roll": point_sets.swiss_roll(),
    "checkerboard": Checkerboard(),
    "random_gaussian": point_sets.random_gaussian(2),
    "mixture": GaussianMixture(
        [2, 1], [[-1.0, 0.5], [1.5, 0.0]], [[[0.5, 0.3], [0.3, 0.4]], [[0.3, -0.1], [-0.1, 0.8]]]
    ),
}
SIGMA = 0.4

every_density = pytest.mark.parametrize("name", DENSITIES)


def midpoints(half_width, spacing=0.06):
    """Cells of [-L, L]² and their area; exact to 1e-20 for features of deviation 0.1 at this spacing."""
    num = math.ceil(2 * half_width / spacing)
    ticks = ((torch.arange(num, dtype=torch.float64) + 0.5) / num * 2 - 1) * half_width
    return torch.cartesian_prod(ticks, ticks), (2 * half_width / num) ** 2


@functools.cache
def on_grid(name):
    """Nodes, masses p dA and log p."""
    nodes, area = midpoints(DENSITIES[name].bounds)
    log_p = DENSITIES[name].log_prob(nodes)
    return nodes, log_p.exp() * area, log_p


def points(name, num=20):
    """Draws, a little spread out, so that gaps and tails are met too."""
    x = DENSITIES[name].sample(num, seeded_generator(3), torch.float64)
    return x + 0.3 * torch.randn(x.shape, generator=seeded_generator(4), dtype=torch.float64)


@every_density
def test_mass_in_the_bounds_is_all_but_1e_6(name):
    mass = on_grid(name)[1].sum()
    assert 1 - 1e-6 <= mass <= 1 + 1e-9


@every_density
def test_noised_density_is_normalised(name):
    noised = DENSITIES[name].noised(SIGMA)
    nodes, area = midpoints(noised.bounds, spacing=0.2)
    assert 1 - 1e-6 <= noised.log_prob(nodes).exp().sum() * area <= 1 + 1e-9


@every_density
def test_noised_density_is_the_convolution(name):
    nodes, masses, _ = on_grid(name)
    x = points(name, 6)
    kernel = torch.exp(-(torch.cdist(x, nodes) ** 2) / (2 * SIGMA**2)) / (2 * math.pi * SIGMA**2)
    torch.testing.assert_close(
        DENSITIES[name].noised(SIGMA).log_prob(x).exp(), kernel @ masses, rtol=1e-5, atol=1e-6
    )


@every_density
def test_score_is_the_gradient_of_log_prob(name):
    x = points(name).requires_grad_(True)
    (gradient,) = torch.autograd.grad(DENSITIES[name].log_prob(x).sum(), x)
    torch.testing.assert_close(DENSITIES[name].score(x.detach()), gradient, rtol=1e-9, atol=1e-9)


@every_density
def test_score_is_the_slope_of_log_prob(name):
    x, h = points(name), 1e-5
    steps = h * torch.eye(2, dtype=torch.float64)
    slope = [
        (DENSITIES[name].log_prob(x + s) - DENSITIES[name].log_prob(x - s)) / (2 * h) for s in steps
    ]  # error h² p'''/6 ~ 1e-10 · 1/0.1³, and rounding 1e-16/h
    torch.testing.assert_close(DENSITIES[name].score(x), torch.stack(slope, 1), rtol=1e-6, atol=1e-6)


@every_density
def test_draws_follow_log_prob(name):
    nodes, masses, log_p = on_grid(name)
    x = DENSITIES[name].sample(20_000, seeded_generator(0), torch.float64)
    values = torch.cat([-DENSITIES[name].log_prob(x)[:, None], x, x * x, x.prod(1, keepdim=True)], 1)
    at_nodes = torch.cat([-log_p[:, None], nodes, nodes**2, nodes.prod(1, keepdim=True)], 1)
    error = values.std(0) / len(x) ** 0.5
    assert ((values.mean(0) - masses @ at_nodes).abs() < 4.5 * error).all()  # 60 numbers in all


@every_density
def test_draws_follow_the_generator_and_the_dtype(name):
    first, again = (DENSITIES[name].sample(5, seeded_generator(1)) for _ in range(2))
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    assert not torch.equal(first, DENSITIES[name].sample(5, seeded_generator(2)))


@every_density
def test_float32_agrees_with_float64(name):
    x = points(name)
    for method in (DENSITIES[name].log_prob, DENSITIES[name].score):
        single = method(x.float())
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), method(x.float().double()), rtol=1e-4, atol=1e-4)


@every_density
def test_entropy_where_it_is_known(name):
    entropy = DENSITIES[name].entropy()
    assert (entropy is not None) == (name == "random_gaussian")
    if entropy is not None:
        _, masses, log_p = on_grid(name)
        assert entropy == pytest.approx(-float(masses @ log_p), abs=3e-5)  # the tails outside of the box


@pytest.mark.parametrize(("name", "num"), [("eight_gaussians", 8), ("twenty_five_gaussians", 25)])
def test_separated_modes(name, num):
    assert len(DENSITIES[name].modes) == num
    assert DENSITIES[name].noised(1.0).modes is None


@pytest.mark.parametrize("name", ["rings", "two_spirals", "moons", "pinwheel", "swiss_roll", "checkerboard"])
def test_curves_and_squares_have_no_modes(name):
    assert DENSITIES[name].modes is None


def test_rings_have_equal_masses():
    nodes, masses, _ = on_grid("rings")
    radius = nodes.norm(dim=1)
    inner, outer = masses[radius < 1.8].sum(), masses[radius > 3.0].sum()  # four deviations from any ring
    torch.testing.assert_close(
        torch.stack([inner, outer]), torch.full((2,), 1 / 3, dtype=torch.float64), rtol=1e-3, atol=0
    )


def test_a_ring_is_round():
    angles = torch.linspace(0, 2 * math.pi, 500, dtype=torch.float64)
    log_p = point_sets.rings(radii=[2.0]).log_prob(2 * torch.stack([angles.cos(), angles.sin()], 1))
    assert log_p.max() - log_p.min() < 1e-10


@pytest.mark.parametrize("name", ["two_spirals", "moons", "swiss_roll"])
def test_centres_of_a_curve_are_closer_than_its_width(name):
    means, scale = DENSITIES[name].means, DENSITIES[name].scales[0]
    gaps = (means[1:] - means[:-1]).norm(dim=1).sort().values[:-1]  # the largest leads from arm to arm
    assert 0.75 * scale < gaps.min() <= gaps.max() <= 0.8001 * scale


@pytest.mark.parametrize("dim", [2, 10, 50])
def test_spectrum_of_the_random_gaussian(dim):
    density = point_sets.random_gaussian(dim, smallest=0.5, largest=2.0, seed=1)
    eigenvalues = torch.linalg.eigvalsh(density.covariance)
    expected = torch.logspace(math.log10(0.5), math.log10(2.0), dim, dtype=torch.float64)
    torch.testing.assert_close(eigenvalues, expected)
    assert not torch.equal(density.covariance, point_sets.random_gaussian(dim, seed=2).covariance)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: point_sets.eight_gaussians(scale=0.0), "scale must be a positive number, got 0.0"),
        (lambda: point_sets.rings(radii=[1.0, -2.0]), "every radius must be a positive number, got -2.0"),
        (lambda: point_sets.pinwheel(arms=0), "arms must be an integer, at least 1, got 0"),
        (lambda: point_sets.random_gaussian(2, smallest=3.0), "smallest must not exceed largest"),
        (lambda: DENSITIES["rings"].noised(0.0), "sigma must be a positive number, got 0.0"),
        (lambda: Checkerboard(cells=1), "cells must be an integer, at least 2, got 1"),
    ],
)
def test_numbers_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@every_density
def test_events_of_another_shape_are_refused(name):
    with pytest.raises(ValueError, match=r"shape \(batch, 2\), got \(4, 1\)"):
        DENSITIES[name].log_prob(torch.zeros(4, 1))
