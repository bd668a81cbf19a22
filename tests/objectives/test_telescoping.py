"""Bridges that telescope: exact ratios, waymarks, which head sees which waymark."""

import math

import pytest
import torch
from torch.nn.functional import softplus
from torch.optim import SGD

from ebm_lab.data import Batch
from ebm_lab.energies import MLP, QuadraticClassifier
from ebm_lab.errors import UserError
from ebm_lab.noise import GaussianCopula, StandardGaussian, UniformBox
from ebm_lab.objectives import (
    BridgesTruth,
    GaussianTruth,
    Optimization,
    Parts,
    TelescopedEnergy,
    TelescopingRatio,
)
from ebm_lab.objectives.telescoping import telescoping_losses, waymarks
from ebm_lab.samplers import Langevin

F64 = torch.float64


def parts(noise):
    return Parts(MLP((1,)), Langevin(0.1), noise, Optimization(algorithm=SGD, lr=0.1))


ALPHAS = [0.0, 0.3, 0.7, 1.0]


def normal(x, scale):
    return torch.distributions.Normal(0.0, scale).log_prob(x)


def exact_bridges(factor: float = 1.0) -> QuadraticClassifier:
    """Data N(0, 1), noise N(0, 4): the waymarks' variances are (1 - α²) + 4α²."""
    truth, heads = (
        BridgesTruth(GaussianTruth(torch.eye(1, dtype=F64))),
        QuadraticClassifier((1,), num_classes=3),
    )
    variances = [torch.full((1, 1), 1 + 3 * alpha**2, dtype=F64) for alpha in ALPHAS]
    truth.place(heads.double(), truth.between(variances), factor)
    return heads


def test_exact_bridges_telescope_to_the_ratio_of_data_and_noise():
    heads, x = exact_bridges(), torch.tensor([[0.7], [-3.0]], dtype=F64)
    ratio = heads.logits(x).sum(1)
    assert ratio[0].item() == pytest.approx(0.509397181, abs=1e-9)
    energy = TelescopedEnergy(heads, StandardGaussian((1,), 2.0).double())
    torch.testing.assert_close(energy(x), -normal(x[:, 0], 1.0), rtol=1e-12, atol=1e-12)


def test_waymarks_have_the_variances_between():
    generator = torch.Generator().manual_seed(0)
    x, x_noise = (s * torch.randn(40_000, 1, generator=generator, dtype=F64) for s in (1.0, 2.0))
    marks = waymarks(x, x_noise, ALPHAS)
    assert torch.equal(marks[0], x) and torch.equal(marks[-1], x_noise)
    for mark, alpha in zip(marks, ALPHAS, strict=True):
        variance = 1 + 3 * alpha**2
        # the standard error of a variance of n normals is s² √(2/n)
        assert mark.var().item() == pytest.approx(variance, abs=4 * variance * math.sqrt(2 / 40_000))


def test_each_head_tells_its_two_waymarks_apart():
    logits = torch.arange(2 * 3 * 2, dtype=F64).view(3, 2, 2)  # 3 waymarks, 2 events, 2 bridges
    expected = [(softplus(-logits[k, :, k]) + softplus(logits[k + 1, :, k])).mean().item() for k in range(2)]
    assert telescoping_losses(logits).tolist() == pytest.approx(expected, abs=1e-14)


def test_every_bridge_is_least_at_the_truth():
    """The population loss of a bridge by the trapezoid rule, at c times its precision."""
    x = torch.linspace(-25, 25, 4001, dtype=F64)
    scales = [math.sqrt(1 + 3 * alpha**2) for alpha in ALPHAS]

    def population(factor: float) -> torch.Tensor:
        logits = exact_bridges(factor).logits(x[:, None])
        of_data = torch.stack([normal(x, s).exp() for s in scales[:-1]], 1)
        of_noise = torch.stack([normal(x, s).exp() for s in scales[1:]], 1)
        return (of_data * softplus(-logits) + of_noise * softplus(logits)).sum(0) * (x[1] - x[0])

    at_truth, up, down = population(1.0), population(1.0 + 1e-4), population(1.0 - 1e-4)
    assert ((up - down) / 2e-4).abs().max() < 1e-7
    assert (population(0.5) > at_truth + 1e-4).all() and (population(2.0) > at_truth + 1e-4).all()


def test_latent_waymarks_are_laws_between_in_the_noise_s_coordinates():
    """With noise N(0, 4) and data N(0, 1): variances (1 - α²) + 4α² again, as T is linear."""
    objective = TelescopingRatio(parts(StandardGaussian((1,), 2.0)), num_bridges=2, latent=True)
    x = torch.randn(40_000, 1, generator=torch.Generator().manual_seed(3))
    marks = objective.waymarks_of(x)
    assert torch.equal(marks[0], x) and marks.shape == (3, 40_000, 1)
    for mark, alpha in zip(marks, objective.alphas, strict=True):
        variance = 1 + 3 * alpha**2
        assert mark.var().item() == pytest.approx(variance, abs=4 * variance * math.sqrt(2 / 40_000))
    cosine = torch.corrcoef(marks[:2, :, 0])[0, 1].item()
    # of x and √(1 - ¼) x + ½ · 2z: the noise is drawn anew, the data are kept
    assert cosine == pytest.approx(math.sqrt(0.75 / 1.75), abs=4 / 200)


def test_the_normalisation_is_the_mean_ratio_of_data_and_noise_at_the_noise():
    """With exact bridges from N(0, 1) to N(0, 4): 1, of variance E_data[p_data / p_n] - 1 = 4/√7 - 1."""
    objective = TelescopingRatio(parts(StandardGaussian((1,), 2.0)), num_bridges=3).double()
    objective.alphas = ALPHAS
    objective.take(exact_bridges())
    x = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(3), dtype=F64)
    with objective.drawing_from(torch.Generator().manual_seed(4)):
        objective.loss(Batch(x))
    found = objective.metrics["normalisation"].item()
    assert found == pytest.approx(1, abs=4 * math.sqrt((4 / math.sqrt(7) - 1) / len(x)))
    noise = objective.noise.sample(len(x), torch.Generator().manual_seed(4))[:, 0]
    by_hand = (normal(noise, 1.0) - normal(noise, 2.0)).exp().mean()
    assert found == pytest.approx(by_hand.item(), abs=1e-8)  # `normal` takes the log of 2 in float32


def test_latent_waymarks_need_a_map():
    with pytest.raises(UserError, match="UniformBox is not the law of a map"):
        TelescopingRatio(parts(UniformBox((1,), -9.0, 9.0)), latent=True)


def test_second_derivatives_are_those_of_the_noise_too():
    smooth, bent = StandardGaussian((1,)), GaussianCopula((1,))
    heads = exact_bridges()
    assert TelescopedEnergy(heads, smooth).twice_differentiable
    assert not TelescopedEnergy(heads, bent).twice_differentiable
