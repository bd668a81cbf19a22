"""The mixture of low-rank Gaussians against `torch.distributions`, its fit and its draws in closed form."""

import math

import hydra
import pytest
import torch
from hydra.utils import instantiate
from torch.distributions import (
    Categorical,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
)

from ebm_lab import schema
from ebm_lab.cli import CONFIGS
from ebm_lab.errors import UserError
from ebm_lab.noise import LowRankMixture

F64 = torch.float64
SHAPE = (1, 2, 3)


def two_clusters(num=3000):
    """Far apart, so that the clustering is certain: a third around -10, the rest around +10."""
    z = torch.randn(num, 6, generator=torch.Generator().manual_seed(0), dtype=F64)
    mixing = torch.tril(torch.ones(6, 6, dtype=F64))
    side = torch.where(torch.arange(num) < num // 3, -10.0, 10.0).to(F64)
    return (z @ mixing + side[:, None]).view(num, *SHAPE)


@pytest.fixture
def noise():
    mixture = LowRankMixture(SHAPE, num_components=2, rank=2, ridge=0.01).double()
    mixture.fit(two_clusters())
    return mixture


def test_log_prob_is_that_of_torch_distributions(noise):
    components = LowRankMultivariateNormal(noise.means, noise.factors, noise.variances)
    reference = MixtureSameFamily(Categorical(logits=noise.log_weights), components)
    x = two_clusters(30)
    torch.testing.assert_close(noise.log_prob(x), reference.log_prob(x.flatten(1)), rtol=1e-10, atol=1e-10)


def test_it_integrates_to_one_and_its_draws_are_of_it():
    """Midpoint rule in the plane, 3 clusters of rank 1: cells of a fifth of the narrowest width and less."""
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(1500) % 3
    centres = torch.tensor([[-3.0, 0.0], [3.0, 1.0], [0.0, -4.0]], dtype=F64)
    z = torch.randn(1500, 2, generator=generator, dtype=F64) @ torch.tensor([[1.0, 0.5], [0, 0.4]], dtype=F64)
    mixture = LowRankMixture((2,), num_components=3, rank=1, ridge=0.05).double()
    mixture.fit(z + centres[label])
    line, cell = (torch.arange(600, dtype=F64) + 0.5) / 600 * 24 - 12, 0.04**2
    points = torch.cartesian_prod(line, line)
    density = mixture.log_prob(points).exp() * cell
    assert density.sum().item() == pytest.approx(1, abs=1e-9)
    x = mixture.sample(40_000, generator)
    for moment in (lambda e: e, lambda e: e.square(), lambda e: e[:, :1] * e[:, 1:]):
        expected, error = (density[:, None] * moment(points)).sum(0), moment(x).std(0) / math.sqrt(len(x))
        assert ((moment(x).mean(0) - expected).abs() < 4 * error).all()


def test_each_component_has_its_clusters_share_mean_and_variances(noise):
    data = two_clusters()
    order = noise.means[:, 0].argsort()
    for k, cluster in zip(order, data.flatten(1).split([1000, 2000]), strict=True):
        assert noise.log_weights[k].item() == pytest.approx(math.log(len(cluster) / 3000), abs=1e-12)
        torch.testing.assert_close(noise.means[k], cluster.mean(0))
        variances = noise.factors[k].square().sum(1) + noise.variances[k]
        torch.testing.assert_close(variances, cluster.var(0, correction=0) + 0.01)
        # The factor holds the two largest principal directions: W Wᵀ v = λ v.
        values, vectors = torch.linalg.eigh(cluster.T.cov(correction=0))
        for value, vector in zip(values[-2:], vectors.T[-2:], strict=True):
            torch.testing.assert_close(noise.factors[k] @ (noise.factors[k].T @ vector), value * vector)


def test_low_rank_is_one_gaussian_of_the_principal_directions_and_the_rest():
    """Rank 2 of four numbers: Σ has the data's diagonal, and off it that of two principal directions."""
    schema.register()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        chosen = ["noise=low_rank", "noise.rank=2", "noise.ridge=0.01", "noise.shape=[4]", "output_dir=x"]
        cfg = hydra.compose("train", overrides=chosen)
    low_rank = instantiate(cfg.noise, _convert_="all").double()
    x = torch.randn(2000, 4, generator=torch.Generator().manual_seed(0), dtype=F64)
    x = x @ torch.tril(torch.ones(4, 4, dtype=F64)) + 1
    low_rank.fit(x)
    values, vectors = torch.linalg.eigh(x.T.cov(correction=0))
    covariance = (vectors[:, 2:] * values[2:]) @ vectors[:, 2:].T
    covariance.diagonal().copy_(x.var(0, correction=0) + 0.01)
    reference = MultivariateNormal(x.mean(0), covariance)
    torch.testing.assert_close(low_rank.log_prob(x), reference.log_prob(x), rtol=0, atol=1e-6)
    gain = low_rank.log_prob(x).mean() - Normal(x.mean(0), x.std(0, correction=0)).log_prob(x).sum(1).mean()
    assert gain > 0.5  # over independent coordinates


def test_draws_have_the_mixtures_moments(noise):
    num = 200_000
    x = noise.sample(num, torch.Generator().manual_seed(1)).flatten(1)
    weights = noise.log_weights.exp()
    second = noise.factors @ noise.factors.mT + torch.diag_embed(noise.variances)
    second = second + noise.means[:, :, None] * noise.means[:, None, :]
    expected = (weights[:, None, None] * second).sum(0)
    products = x[:, :, None] * x[:, None, :]
    error = products.std(0) / math.sqrt(num)
    # 36 numbers (21 of them different) at one seed: four standard errors
    assert ((products.mean(0) - expected).abs() < 4 * error).all()
    share = (x[:, 0] < 0).double().mean().item()
    assert share == pytest.approx(1 / 3, abs=4 * math.sqrt(2 / 9 / num))


def test_the_same_generator_gives_the_same_draws(noise):
    first, again = (noise.sample(5, torch.Generator().manual_seed(2)) for _ in range(2))
    assert first.shape == (5, *SHAPE)
    assert torch.equal(first, again)


def test_a_copy_from_the_state_dict_is_the_same_density(noise):
    copy = LowRankMixture(SHAPE, num_components=2, rank=2, ridge=0.01).double()
    copy.load_state_dict(noise.state_dict())
    assert torch.equal(copy.log_prob(two_clusters(9)), noise.log_prob(two_clusters(9)))


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"num_components": 0}, "num_components must be at least 1"),
        ({"rank": 6}, r"rank in \[1, 5\]"),
        ({"rank": 2, "ridge": 0}, "ridge must be positive"),
    ],
)
def test_numbers_out_of_range_are_refused(numbers, said):
    with pytest.raises(ValueError, match=said):
        LowRankMixture(SHAPE, **numbers)


def test_too_few_events_and_use_before_the_fit_are_refused():
    mixture = LowRankMixture(SHAPE, num_components=2, rank=2)
    with pytest.raises(RuntimeError, match="has not been fitted"):
        mixture.log_prob(two_clusters(2).float())
    with pytest.raises(UserError, match="3 events are too few for num_components=2"):
        mixture.fit(two_clusters(3))


# --- a component a class ---------------------------------------------------------------------------------


def three_classes():
    """Events of three classes, 500 of each, at -10, 0 and 10, in turn."""
    label = torch.arange(1500) % 3
    z = torch.randn(1500, 6, generator=torch.Generator().manual_seed(0), dtype=F64)
    return (z + 10.0 * (label - 1)[:, None]).view(-1, *SHAPE), label


def test_classes_are_components_whatever_their_number():
    by_class = LowRankMixture(SHAPE, num_components=None, rank=2, ridge=0.01).double()
    x, label = three_classes()
    by_class.fit_labelled(x, label)
    for k in range(3):
        flat = x[label == k].flatten(1)
        torch.testing.assert_close(by_class.means[k], flat.mean(0))
        variances = by_class.factors[k].square().sum(1) + by_class.variances[k]
        torch.testing.assert_close(variances, flat.var(0, correction=0) + 0.01)
    # log q is that of the same clusters found by k-means, which classes so far apart are
    clustered = LowRankMixture(SHAPE, num_components=3, rank=2, ridge=0.01).double()
    clustered.fit_labelled(x, label)
    torch.testing.assert_close(by_class.log_prob(x), clustered.log_prob(x))


def test_draws_of_a_label_are_of_its_class():
    by_class = LowRankMixture(SHAPE, num_components=None, rank=2, ridge=0.01).double()
    by_class.fit_labelled(*three_classes())
    label = torch.tensor([2, 0, 1, 2] * 500)
    x = by_class.sample_labelled(label, torch.Generator().manual_seed(0)).flatten(1)
    assert torch.equal((x.mean(1) / 10).round() + 1, label.double())
    for k in range(3):
        drawn = x[label == k]
        deviation = (by_class.factors[k].square().sum(1) + by_class.variances[k]).sqrt()
        assert ((drawn.mean(0) - by_class.means[k]).abs() < 4 * deviation / math.sqrt(len(drawn))).all()
    plain = LowRankMixture(SHAPE, num_components=2, rank=2, ridge=0.01).double()
    plain.fit(two_clusters())
    draws = [
        make(torch.Generator().manual_seed(0))
        for make in (lambda g: plain.sample(2000, g), lambda g: plain.sample_labelled(label, g))
    ]
    assert torch.equal(*draws)  # clusters are no classes


def test_classes_without_labels_or_with_too_few_events_are_refused():
    x, label = three_classes()
    with pytest.raises(UserError, match="these data have no labels: choose noise=mixture"):
        LowRankMixture(SHAPE, num_components=None, rank=2).fit_labelled(x, None)
    with pytest.raises(UserError, match="a cluster holds 0 events: choose noise=mixture"):
        LowRankMixture(SHAPE, num_components=None, rank=2).fit_labelled(x, 2 * label)
