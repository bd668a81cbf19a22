import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from ebm_lab.data import Gaussian, GaussianMixture, IsotropicMixture
from ebm_lab.data.point_sets import random_gaussian
from ebm_lab.data.seeding import seeded_generator

MEANS = [[-1.0, 0.0, 2.0], [1.0, 1.0, 0.0]]
SCALES = [0.5, 1.5]


def points(dim, num=30, spread=3.0):
    return spread * torch.randn(num, dim, generator=seeded_generator(0), dtype=torch.float64)


def test_gaussian_agrees_with_torch():
    density = random_gaussian(10, seed=4)
    reference = MultivariateNormal(density.mean, density.covariance)
    x = points(10)
    torch.testing.assert_close(density.log_prob(x), reference.log_prob(x))
    assert density.entropy() == pytest.approx(float(reference.entropy()), rel=1e-12)


def test_entropy_of_the_standard_gaussian():
    assert Gaussian([0.0], [[1.0]]).entropy() == pytest.approx(0.5 * math.log(2 * math.pi * math.e))


def test_gaussian_draws_have_its_covariance():
    density = Gaussian([1.0, -2.0], [[2.0, 0.6], [0.6, 0.5]])
    x = density.sample(40_000, seeded_generator(1), torch.float64)
    variance = density.covariance.diagonal()
    of_mean = (variance / len(x)).sqrt()
    of_covariance = ((variance.outer(variance) + density.covariance**2) / len(x)).sqrt()
    assert ((x.mean(0) - density.mean).abs() < 4 * of_mean).all()
    assert ((x.T.cov() - density.covariance).abs() < 4 * of_covariance).all()


def test_mixtures_agree_with_torch_and_with_each_other():
    weights = torch.tensor([3.0, 1.0], dtype=torch.float64)
    covariances = torch.stack([s**2 * torch.eye(3, dtype=torch.float64) for s in SCALES])
    components = MultivariateNormal(torch.tensor(MEANS, dtype=torch.float64), covariances)
    reference = MixtureSameFamily(Categorical(weights), components)
    full, round_ = GaussianMixture(weights, MEANS, covariances), IsotropicMixture(weights, MEANS, SCALES)
    x = points(3)
    torch.testing.assert_close(full.log_prob(x), reference.log_prob(x))
    torch.testing.assert_close(round_.log_prob(x), reference.log_prob(x))
    torch.testing.assert_close(round_.score(x), full.score(x))
    torch.testing.assert_close(round_.noised(0.7).score(x), full.noised(0.7).score(x))
    assert round_.bounds == pytest.approx(full.bounds)


def test_far_away_the_score_is_that_of_the_nearest_component():
    density = IsotropicMixture([1, 1], [[-1.0, 0.0], [1.0, 0.0]], [0.1, 0.1])
    x = torch.tensor([[1000.0, 500.0]])
    torch.testing.assert_close(density.score(x), torch.tensor([[-99_900.0, -50_000.0]]))


def test_large_evaluations_in_chunks_change_nothing():
    density = IsotropicMixture(torch.ones(500), points(2, 500), torch.full((500,), 0.3))
    x = points(2, 9000)  # 9 million numbers: three chunks
    chosen = torch.tensor([0, 4193, 4194, 8999])
    torch.testing.assert_close(density.log_prob(x)[chosen], density.log_prob(x[chosen]))
    torch.testing.assert_close(density.score(x)[chosen], density.score(x[chosen]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gaussian([0.0, 0.0], [[1.0]]), r"covariance must be symmetric, of shape \(2, 2\)"),
        (lambda: Gaussian([0.0, 0.0], [[1.0, 0.5], [0.0, 1.0]]), "covariance must be symmetric"),
        (
            lambda: Gaussian([0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]]),
            "positive definite, got eigenvalues down to -1",
        ),
        (lambda: GaussianMixture([1.0], MEANS, torch.eye(3).expand(2, 3, 3)), "weights must be 2 positive"),
        (lambda: IsotropicMixture([1.0, 0.0], MEANS, SCALES), "weights must be 2 positive"),
        (lambda: IsotropicMixture([1.0, 1.0], MEANS, [1.0]), "scales must be 2 positive"),
        (lambda: IsotropicMixture([1.0, 1.0], [[math.nan, 0.0], [0.0, 0.0]], SCALES), "means must be finite"),
    ],
)
def test_parameters_that_make_no_density_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
