"""Contrasts of data and noise: Bregman's family, the exponential loss, the self-normalised likelihood."""

import math

import pytest
import torch
from closed_forms import Scaled, normal_grid
from scipy.optimize import minimize_scalar
from torch.optim import SGD

from ebm_lab.data import Batch
from ebm_lab.noise import StandardGaussian, UniformBox
from ebm_lab.objectives import (
    BregmanContrast,
    ExponentialNCE,
    NoiseContrastiveEstimation,
    NormalisedGradientDescent,
    Optimization,
    Parts,
    SelfNormalisedLikelihood,
)
from ebm_lab.objectives.ence import log_exponential_loss
from ebm_lab.objectives.nce import nce_loss
from ebm_lab.objectives.noise_contrast import CONTRASTS, contrast_loss, log_ratio
from ebm_lab.objectives.self_normalised import self_normalised_loss
from ebm_lab.samplers import Langevin

F64 = torch.float64
LOG_Z = 0.5 * math.log(2 * math.pi)  # of E = x²/2
DATA, NOISE = (torch.distributions.Normal(torch.zeros((), dtype=F64), s) for s in (1.0, 2.0))


def random_logits():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, generator=generator, dtype=F64) for n in (40, 120)]


def population(name: str, nu: int, precision: torch.Tensor, log_z: torch.Tensor) -> torch.Tensor:
    """The contrast of N(0, 1) against N(0, 4) by the trapezoid rule, exact to rounding."""
    x = torch.linspace(-14, 14, 4001, dtype=F64)
    logits = log_ratio(0.5 * precision * x**2, log_z, NOISE.log_prob(x), nu)
    of_data, of_noise = CONTRASTS[name]
    values = DATA.log_prob(x).exp() * of_data(logits) + nu * NOISE.log_prob(x).exp() * of_noise(logits)
    return values.sum() * (x[1] - x[0])


def truth() -> list[torch.Tensor]:
    return [torch.tensor(v, dtype=F64, requires_grad=True) for v in (1.0, LOG_Z)]


@pytest.mark.parametrize("nu", [1, 4])
@pytest.mark.parametrize("name", CONTRASTS)
def test_every_contrast_is_stationary_at_the_truth_and_least_there(name, nu):
    precision, log_z = truth()
    loss = population(name, nu, precision, log_z)
    gradients = torch.autograd.grad(loss, [precision, log_z])
    assert max(abs(g.item()) for g in gradients) < 1e-9
    for off, shift in ((0.7, 0.0), (1.4, 0.0), (1.0, 0.3), (1.0, -0.3)):
        assert population(name, nu, torch.tensor(off), torch.tensor(LOG_Z + shift)) > loss + 1e-3


@pytest.mark.parametrize("name", CONTRASTS)
def test_the_terms_belong_to_one_convex_function(name):
    """With A = -S'(r) and B = S'(r) r - S(r), dB/dG = -r dA/dG, and A falls: S'' > 0."""
    logits = torch.linspace(-4, 4, 33, dtype=F64, requires_grad=True)
    of_data, of_noise = CONTRASTS[name]
    (falls,) = torch.autograd.grad(of_data(logits).sum(), logits)
    (rises,) = torch.autograd.grad(of_noise(logits).sum(), logits)
    torch.testing.assert_close(rises, -logits.detach().exp() * falls, rtol=1e-12, atol=1e-12)
    assert (falls < 0).all()


def test_the_exponential_contrast_at_the_truth_is_the_overlap_of_data_and_noise():
    # ∫ √(p_data p_n) of N(0, 1) and N(0, 4): √(2·1·2 / (1 + 4)) = √.8
    assert population("exponential", 1, *truth()).item() == pytest.approx(math.sqrt(0.8), abs=1e-9)


def test_nce_is_the_logistic_contrast_of_the_values_of_gutmann_and_hyvarinen():
    assert population("logistic", 1, *truth()).item() == pytest.approx(1.200827598, abs=1e-8)
    assert population("logistic", 10, *truth()).item() == pytest.approx(3.056148561, abs=1e-8)
    data, noise = random_logits()
    assert nce_loss(data, noise, 3) == contrast_loss(data, noise, 3, "logistic")


def test_the_loss_of_ence_is_the_logarithm_of_the_exponential_contrast():
    data, noise = random_logits()
    loss = contrast_loss(data, noise, 1, "exponential")
    assert log_exponential_loss(data, noise).item() == pytest.approx(loss.log().item(), abs=1e-14)
    x, x_noise = normal_grid(2**16), normal_grid(2**16, 2.0)
    ratios = [DATA.log_prob(e[:, 0]) - NOISE.log_prob(e[:, 0]) for e in (x, x_noise)]
    # quantiles miss the tails, of 1e-4 here
    assert log_exponential_loss(*ratios).item() == pytest.approx(0.5 * math.log(0.8), abs=1e-3)


def test_the_loss_of_ence_does_not_overflow():
    far = torch.tensor([-500.0], requires_grad=True)
    loss = log_exponential_loss(far, -far)
    loss.backward()
    assert loss.item() == pytest.approx(250.0)  # log(½ e²⁵⁰ + ½ e²⁵⁰)
    assert far.grad.item() == pytest.approx(-0.5, abs=1e-5)  # not 0, and not infinite


def test_self_normalised_likelihood_is_least_at_the_logarithm_of_z():
    # Z = 5: b + e^-b 5 - 1 is least at b = log 5, where it is log 5
    weights, energies = torch.full((8,), math.log(5), dtype=F64), torch.zeros(4, dtype=F64)
    found = minimize_scalar(
        lambda b: self_normalised_loss(energies, torch.tensor(b, dtype=F64), weights).item()
    )
    assert found.fun == pytest.approx(math.log(5), abs=1e-12)
    assert found.x == pytest.approx(math.log(5), abs=1e-6)


def test_self_normalised_likelihood_is_a_contrast_and_at_the_truth_the_entropy():
    energy, log_z = Scaled(1.0), torch.tensor(LOG_Z, dtype=F64)
    x, x_noise = normal_grid(2**12), normal_grid(2**12, 2.0)
    log_noise = [NOISE.log_prob(e[:, 0]) for e in (x, x_noise)]
    loss = self_normalised_loss(energy(x), log_z, -energy(x_noise) - log_noise[1])
    logits = [log_ratio(energy(e), log_z, q, 3) for e, q in zip((x, x_noise), log_noise, strict=True)]
    contrast = contrast_loss(*logits, 3, "kullback_leibler")
    assert loss.item() == pytest.approx((contrast - log_noise[0].mean() - math.log(3) - 1).item(), abs=1e-12)
    assert loss.item() == pytest.approx(0.5 * math.log(2 * math.pi * math.e), abs=2e-3)  # the grid's tails


def test_normalised_descent_takes_steps_of_its_length_over_all_groups():
    a, b = torch.zeros(2, requires_grad=True), torch.zeros(1, requires_grad=True)
    descent = NormalisedGradientDescent([{"params": [a], "lr": 0.1}, {"params": [b], "lr": 0.2}])
    (1e-6 * (3 * a[0] + 4 * b[0])).backward()
    descent.step()
    # the gradient's direction is (3, 0, 4)/5, whatever its size
    torch.testing.assert_close(a.detach(), torch.tensor([-0.06, 0.0]))
    torch.testing.assert_close(b.detach(), torch.tensor([-0.16]))
    descent.zero_grad()
    (0 * a.sum() + 0 * b.sum()).backward()
    before = a.detach().clone()
    descent.step()
    assert torch.equal(a.detach(), before)


def test_normalised_descent_reaches_the_optimum_where_the_logistic_loss_is_flat():
    """Mean of the data 10 away from that of the noise, both of unit variance: E = (x - m)²/2, c = log Z.

    NCE's slope in m fades as soon as its classifier is sure, and descent stops half way; eNCE's normalised
    descent is there in a hundred steps of .1.
    """
    noise = normal_grid(2**10)[:, 0]
    data, log_noise = noise + 10, torch.distributions.Normal(0.0, 1.0).log_prob

    def ratios(mean):
        return [-0.5 * (e - mean) ** 2 - LOG_Z - log_noise(e) for e in (data, noise)]

    reached = {}
    for name, loss in (("nce", lambda r: nce_loss(*r, 1)), ("ence", lambda r: log_exponential_loss(*r))):
        mean = torch.zeros((), dtype=F64, requires_grad=True)
        descent = (
            NormalisedGradientDescent([mean], lr=0.1) if name == "ence" else torch.optim.SGD([mean], lr=0.1)
        )
        for _ in range(120):
            descent.zero_grad()
            loss(ratios(mean)).backward()
            descent.step()
        reached[name] = mean.item()
    assert reached["ence"] == pytest.approx(10, abs=0.2)
    assert reached["nce"] < 5, reached


# --- the methods: where c starts, and what they record -----------------------------------------------------


def of_one_number(kind, noise=None, **options):
    """A method with E = x²/2 and noise N(0, 4), c not at log Z but .3 above."""
    noise = StandardGaussian((1,), 2.0) if noise is None else noise
    parts = Parts(Scaled(1.0), Langevin(0.1), noise, Optimization(algorithm=SGD, lr=0.1))
    method = kind(parts, **options).double()
    torch.nn.init.constant_(method.log_normaliser, LOG_Z + 0.3)
    return method


def recorded(method, x):
    """What a loss records, and the noise that it meets."""
    with method.drawing_from(torch.Generator().manual_seed(1)):
        loss = method.loss(Batch(x))
    return method.metrics | {"loss": loss}, method.noise.sample(
        method.nu * len(x), torch.Generator().manual_seed(1)
    )


def ratio(x):
    """exp(-E - c) / p_n."""
    return (DATA.log_prob(x[:, 0]) - 0.3 - NOISE.log_prob(x[:, 0])).exp()


@pytest.mark.parametrize("nu", [1, 5])
@pytest.mark.parametrize(
    "kind", [NoiseContrastiveEstimation, BregmanContrast, ExponentialNCE, SelfNormalisedLikelihood]
)
def test_the_normalisation_is_the_mean_of_model_over_noise_whatever_nu(kind, nu):
    found, x_noise = recorded(of_one_number(kind, nu=nu), normal_grid(2000))
    assert found["normalisation"].item() == pytest.approx(ratio(x_noise).mean().item(), abs=1e-12)
    # e^-.3 in expectation, and Var r / e^-.6 = E_data[p_data / p_n] - 1 = 4/√7 - 1
    error = math.exp(-0.3) * math.sqrt((4 / math.sqrt(7) - 1) / len(x_noise))
    assert found["normalisation"].item() == pytest.approx(math.exp(-0.3), abs=4 * error)
    assert found["log_z"].item() == pytest.approx(LOG_Z + 0.3, abs=1e-12)


def test_the_constant_starts_at_the_mean_weight_of_the_noise():
    """log Z of E = x²/2 from 4096 draws, whose weights have the relative variance 4/√7 - 1."""
    method = of_one_number(NoiseContrastiveEstimation)
    with method.drawing_from(torch.Generator().manual_seed(0)):
        method.prepare(normal_grid(50))
    error = math.sqrt((4 / math.sqrt(7) - 1) / 4096)
    assert method.log_normaliser.item() == pytest.approx(LOG_Z, abs=4 * error)
    draws = method.noise.sample(4096, torch.Generator().manual_seed(0))[:, 0]
    weights = (-0.5 * draws**2 - NOISE.log_prob(draws)).exp()
    assert method.log_normaliser.item() == pytest.approx(weights.mean().log().item(), abs=1e-12)


def test_ence_records_the_overlap_of_data_and_noise():
    x = normal_grid(2000)
    found, x_noise = recorded(of_one_number(ExponentialNCE, nu=3), x)
    by_hand = 0.5 * ratio(x).pow(-0.5).mean() + 0.5 * ratio(x_noise).sqrt().mean()
    assert found["bhattacharyya"].item() == pytest.approx(by_hand.item(), abs=1e-12)
    # √.8 cosh(.15) in expectation, as c is .3 off; a root of a ratio at the noise has the variance 1 - .8
    expected = math.sqrt(0.8) * math.cosh(0.15)
    assert found["bhattacharyya"].item() == pytest.approx(expected, abs=2 * math.sqrt(0.2 / 6000) + 1e-3)


def test_the_effective_share_is_that_of_the_noises_weights():
    found, x_noise = recorded(of_one_number(SelfNormalisedLikelihood, nu=10), normal_grid(2000))
    w = ratio(x_noise)
    assert found["ess"].item() == pytest.approx(
        (w.sum() ** 2 / (len(w) * w.square().sum())).item(), abs=1e-12
    )
    # (E w)² / E w² = √7/4; a ratio of two means of 20 000 draws, each known to a hundredth
    assert found["ess"].item() == pytest.approx(math.sqrt(7) / 4, abs=0.02)


def test_the_self_normalised_likelihood_of_an_event_does_not_ask_the_noise():
    """Noise on [-3, 3] and an event at 5, where its density is 0: E + b stays 12.5 + b."""
    method = of_one_number(SelfNormalisedLikelihood, UniformBox((1,), -3.0, 3.0), nu=50)
    x = torch.tensor([[0.0], [5.0]], dtype=F64)
    found, x_noise = recorded(method, x)
    weights = (-0.5 * x_noise[:, 0] ** 2).exp() * 6
    b = LOG_Z + 0.3
    assert found["loss"].item() == pytest.approx(
        12.5 / 2 + b + math.exp(-b) * weights.mean().item() - 1, abs=1e-12
    )
