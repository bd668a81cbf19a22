"""Couplings: marginals are the laws', and draws are equal with 1 - TV, exactly."""

import itertools
import math

import pytest
import torch

from ebm_lab.samplers.coupling import (
    Bernoulli,
    Categorical,
    Normal,
    layer_coupling,
    maximal_coupling,
    reflection_coupling,
)

F64 = torch.float64
NUM = 40_000


def same(x, y):
    return (x == y).flatten(1).all(1)


def assert_frequency(found, p):
    """Within 4 standard errors: one false alarm in 16 000."""
    assert abs(found - p) < 4 * math.sqrt(p * (1 - p) / NUM) + 1e-12, (found, p)


def normals(mean_x, mean_y, scale):
    means = (torch.tensor(m, dtype=F64).expand(NUM, -1) for m in (mean_x, mean_y))
    return [Normal(mean, scale) for mean in means]


@pytest.mark.parametrize("couple", [maximal_coupling, reflection_coupling])
@pytest.mark.parametrize(
    ("mean_x", "mean_y", "scale"), [((0.0,), (1.0,), 1.0), ((0.3, -0.2, 1.0), (0.1, 0.4, 0.2), 0.7)]
)
def test_gaussians_meet_with_one_minus_their_distance(couple, mean_x, mean_y, scale, generator):
    p, q = normals(mean_x, mean_y, scale)
    x, y = couple(p, q, generator)
    overlap = math.erfc(math.dist(mean_x, mean_y) / (2 * scale) / math.sqrt(2))  # 2 Φ(-‖μ-ν‖/2s) = 1 - TV
    assert_frequency(same(x, y).double().mean().item(), overlap)


@pytest.mark.parametrize("couple", [maximal_coupling, reflection_coupling])
def test_each_gaussian_draw_has_its_own_law(couple, generator):
    p, q = normals((0.3, -0.2), (0.9, 0.1), 0.7)
    for draws, law in zip(couple(p, q, generator), (p, q), strict=True):
        z = (draws - law.mean) / law.scale
        assert (z.mean(0).abs() < 4 / math.sqrt(NUM)).all()
        moments = (z.T @ z / NUM - torch.eye(2, dtype=F64)).abs()
        assert (moments < 4 * math.sqrt(2 / NUM)).all()  # var of z² is 2, of z₁z₂ is 1
        u = torch.special.ndtr(z).flatten().sort().values  # Kolmogorov-Smirnov at 1e-4: 2.23
        grid = torch.arange(1, len(u) + 1, dtype=F64) / len(u)
        assert (u - grid).abs().max() * math.sqrt(len(u)) < 2.23


def test_the_reflection_keeps_the_noise_across_and_mirrors_it_along(generator):
    p, q = normals((0.0, 0.0), (3.0, 0.0), 0.5)
    x, y = reflection_coupling(p, q, generator)
    apart = ~same(x, y)
    torch.testing.assert_close(x[apart, 1], y[apart, 1])
    torch.testing.assert_close(x[apart, 0] - 0.0, -(y[apart, 0] - 3.0))


@pytest.mark.parametrize("couple", [maximal_coupling, reflection_coupling])
def test_equal_laws_give_equal_draws(couple, generator):
    p, _ = normals((0.3, -0.2), (0.3, -0.2), 0.7)
    x, y = couple(p, Normal(p.mean.clone(), 0.7), generator)
    assert torch.equal(x, y) and x.std() > 0.5


@pytest.mark.parametrize("couple", [maximal_coupling, layer_coupling])
def test_bernoulli_vectors_are_coupled_as_one_event(couple, generator):
    """Over the 8 outcomes: P(x = y) = Σ min(p, q), more than coordinate by coordinate; marginals exact."""
    p, q = (torch.tensor(v, dtype=F64) for v in ((0.2, 0.5, 0.9), (0.4, 0.6, 0.7)))
    outcomes = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)), dtype=F64)
    laws = [Bernoulli(v.expand(NUM, 3)) for v in (p, q)]
    tables = [Bernoulli(v.expand(8, 3)).log_prob(outcomes).exp() for v in (p, q)]
    torch.testing.assert_close(tables[0], (outcomes * p + (1 - outcomes) * (1 - p)).prod(1))
    x, y = couple(*laws, generator)
    overlap = torch.minimum(*tables).sum().item()
    assert overlap > (1 - (p - q).abs()).prod().item() + 0.02
    assert_frequency(same(x, y).double().mean().item(), overlap)
    for draws, table in zip((x, y), tables, strict=True):
        for outcome, probability in zip(outcomes, table, strict=True):
            assert_frequency(same(draws, outcome.expand_as(draws)).double().mean().item(), probability.item())


def test_layers_that_do_not_meet_keep_their_uniforms_in_common(generator):
    """200 units with p = .3 and .8 hardly ever meet (overlap 6e-13): they differ in half of the units, as
    uniforms in common do, and as independent draws do in .3 · .2 + .7 · .8 = .62 of them."""
    laws = [Bernoulli(torch.full((NUM // 200, 200), p, dtype=F64)) for p in (0.3, 0.8)]
    for couple, share in ((layer_coupling, 0.5), (maximal_coupling, 0.62)):
        x, y = couple(*laws, generator)
        assert_frequency((x != y).double().mean().item(), share)
        assert couple is maximal_coupling or (x <= y).all()


def test_layers_of_one_law_and_of_saturated_units_meet(generator):
    """Equal laws always, also where a probability is 0 or 1; two laws that exclude each other never."""
    p = torch.tensor([0.0, 1.0, 0.4], dtype=F64).expand(1000, 3)
    x, y = layer_coupling(Bernoulli(p), Bernoulli(p.clone()), generator)
    assert torch.equal(x, y) and 0.3 < x[:, 2].mean() < 0.5
    x, y = layer_coupling(Bernoulli(p), Bernoulli(1 - p), generator)
    assert (x[:, :2] == torch.tensor([0.0, 1.0])).all() and (y[:, :2] == torch.tensor([1.0, 0.0])).all()


def test_categorical_sites_are_coupled_as_one_event(generator):
    """Two sites of three classes, one class impossible: nine outcomes."""
    p = torch.tensor([[0.2, 0.5, 0.3], [0.0, 0.9, 0.1]], dtype=F64)
    q = torch.tensor([[0.4, 0.4, 0.2], [0.3, 0.3, 0.4]], dtype=F64)
    outcomes = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    tables = [v[0][outcomes[:, 0]] * v[1][outcomes[:, 1]] for v in (p, q)]
    x, y = maximal_coupling(*(Categorical(v.expand(NUM, 2, 3)) for v in (p, q)), generator)
    assert (x.sum(-1) == 1).all() and (y.sum(-1) == 1).all()
    assert_frequency(same(x, y).double().mean().item(), torch.minimum(*tables).sum().item())
    for draws, table in zip((x, y), tables, strict=True):
        found = draws.argmax(-1)
        for outcome, probability in zip(outcomes, table, strict=True):
            assert_frequency((found == outcome).all(1).double().mean().item(), probability.item())
