"""What a loss sees of the weights of two separated modes: population losses by quadrature in one dimension.

Data ½ N(-6, 1) + ½ N(6, 1), models w N(-6, 1) + (1 - w) N(6, 1) with w = 1 / (1 + e^-a): all is right but the
weight. A method learns it by the derivative of its loss in the logit a, and where this is 4e-8 no run does.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

NUM_NODES = 32_001  # of the trapezoid rule
DEVIATIONS = 12.0  # of a mode, as far as the rule goes beyond its mean
CONDITIONAL_NODES = 4001, 401  # of events and of their noise, where both are integrated over
LOG_2PI = math.log(2 * math.pi)


class TwoModes(NamedTuple):
    """w N(-m, v) + (1 - w) N(m, v) in one dimension, w = 1 / (1 + e^-a).

    Attributes:
        logit: a, a float64 number that may require a gradient.
        distance: m of a mode from 0.
        variance: v of each mode.
    """

    logit: Float[Tensor, ""]
    distance: float = 6.0
    variance: float = 1.0

    @classmethod
    def of_weight(cls, weight: float) -> "TwoModes":
        """With the weight w of the left mode."""
        return cls(torch.logit(torch.tensor(weight, dtype=torch.float64)))

    def noised(self, variance: float) -> "TwoModes":
        """The law of x + z with z ~ N(0, variance)."""
        return self._replace(variance=self.variance + variance)

    @property
    def half_width(self) -> float:
        """Of an interval around 0 that holds all but e^-72 of the mass."""
        return self.distance + DEVIATIONS * math.sqrt(self.variance)

    def log_prob(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """log p(x)."""
        left = logsigmoid(self.logit) - (x + self.distance) ** 2 / (2 * self.variance)
        right = logsigmoid(-self.logit) - (x - self.distance) ** 2 / (2 * self.variance)
        return torch.logaddexp(left, right) - (LOG_2PI + math.log(self.variance)) / 2

    def left(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Probability that x came from the left mode: what a turns, since d log p / da = left - w."""
        return torch.sigmoid(self.logit - 2 * self.distance * x / self.variance)

    def score(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """d log p / dx."""
        return (self.distance * (1 - 2 * self.left(x)) - x) / self.variance

    def curvature(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """d² log p / dx²."""
        left = self.left(x)
        return (4 * self.distance**2 / self.variance * left * (1 - left) - 1) / self.variance


Loss = Callable[[TwoModes, TwoModes], Tensor]  # of the data's law and the model


def sensitivity(loss: Loss, weight: float = 0.9, data_weight: float = 0.5) -> float:
    """dL/da of a population loss at the model weight, by autograd through the quadrature."""
    logit = TwoModes.of_weight(weight).logit.requires_grad_(True)
    (slope,) = torch.autograd.grad(loss(TwoModes.of_weight(data_weight), TwoModes(logit)), logit)
    return float(slope)


def kl(data: TwoModes, model: TwoModes) -> Float[Tensor, ""]:
    """KL(data ‖ model): the loss of maximum likelihood, less the entropy of the data."""
    return _mean(data, lambda x: data.log_prob(x) - model.log_prob(x))


def fisher_divergence(data: TwoModes, model: TwoModes) -> Float[Tensor, ""]:
    """½ E (s_model - s_data)²."""
    return _mean(data, lambda x: 0.5 * (model.score(x) - data.score(x)) ** 2)


def score_matching(data: TwoModes, model: TwoModes) -> Float[Tensor, ""]:
    """E [½ s² + s']: also what sliced and finite-difference score matching have as their mean."""
    return _mean(data, lambda x: 0.5 * model.score(x) ** 2 + model.curvature(x))


def denoising(sigma: float) -> Loss:
    """Denoising score matching at σ, of models that are noised too: score matching on p_σ, to a constant."""
    return lambda data, model: score_matching(data.noised(sigma**2), model.noised(sigma**2))


def multi_scale(sigmas: tuple[float, ...]) -> Loss:
    """mean_k σ_k² of the denoising loss at σ_k: noise levels under their usual weight."""
    return lambda data, model: sum(s**2 * denoising(s)(data, model) for s in sigmas) / len(sigmas)


def dual(sigmas: tuple[float, ...]) -> Loss:
    """`dual_score_matching` at these levels, to a constant: multi-scale denoising, and in the level

        mean_k ½ E [½ t (q''/q - p''/p)]²,  t = σ_k²

    since laws under more and more noise obey ∂p/∂t = ½ p'': the slope of log p along log σ is t p''/p.
    """

    def level_term(data: TwoModes, model: TwoModes, t: float) -> Tensor:
        data, model = data.noised(t), model.noised(t)
        return _mean(data, lambda x: 0.5 * (t / 2 * (_bend(model, x) - _bend(data, x))) ** 2)

    def loss(data: TwoModes, model: TwoModes) -> Tensor:
        of_levels = sum(level_term(data, model, sigma**2) for sigma in sigmas) / len(sigmas)
        return multi_scale(sigmas)(data, model) + of_levels

    return loss


def level_classification(sigmas: tuple[float, ...]) -> Loss:
    """The classifier of `diffclf`: -mean_k E log softmax_k of log q_1(x), ... log q_m(x), x of level k."""

    def loss(data: TwoModes, model: TwoModes) -> Tensor:
        def log_prob(x: Tensor) -> Tensor:
            return torch.stack([model.noised(s**2).log_prob(x) for s in sigmas]).log_softmax(0)

        levels = [data.noised(s**2) for s in sigmas]
        found = [_mean(level, lambda x, k=k: -log_prob(x)[k]) for k, level in enumerate(levels)]
        return sum(found) / len(sigmas)

    return loss


def noise_contrastive(variance: float = 37.0) -> Loss:
    """E softplus(-G) + E_noise softplus(G), G = log p_model - log p_noise, noise N(0, variance).

    The data's own variance is 37.
    """

    def loss(data: TwoModes, model: TwoModes) -> Tensor:
        def log_noise(x: Tensor) -> Tensor:
            return -(x**2) / (2 * variance) - (LOG_2PI + math.log(variance)) / 2

        def logits(x: Tensor) -> Tensor:
            return model.log_prob(x) - log_noise(x)

        x, spacing = _nodes(DEVIATIONS * math.sqrt(variance))
        of_noise = (log_noise(x).exp() * softplus(logits(x))).sum() * spacing
        return _mean(data, lambda x: softplus(-logits(x))) + of_noise

    return loss


def conditional_noise_contrastive(sigma: float) -> Loss:
    """2 E softplus(-G), G = log p_model(x) - log p_model(x + σz): which of the two is the event?"""

    def loss(data: TwoModes, model: TwoModes) -> Tensor:
        num_events, num_draws = CONDITIONAL_NODES
        x, spacing = _nodes(data.half_width, num_events)
        z, step = _nodes(8.0, num_draws)
        gap = model.log_prob(x)[:, None] - model.log_prob(x[:, None] + sigma * z)
        normal = (-(z**2) / 2 - LOG_2PI / 2).exp() * step
        return (data.log_prob(x).exp() * spacing) @ (2 * softplus(-gap)) @ normal

    return loss


def energy_discrepancy(time: float) -> Loss:
    """KL(p ‖ q) - KL(p_t ‖ q_t) of both laws after Gaussian noise of variance t."""
    return lambda data, model: kl(data, model) - kl(data.noised(time), model.noised(time))


def _bend(law: TwoModes, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """p''/p."""
    return law.score(x) ** 2 + law.curvature(x)


def _mean(data: TwoModes, function: Callable[[Tensor], Tensor]) -> Float[Tensor, ""]:
    x, spacing = _nodes(data.half_width)
    return (data.log_prob(x).exp() * function(x)).sum() * spacing


def _nodes(half_width: float, num: int = NUM_NODES) -> tuple[Float[Tensor, " num"], float]:
    return torch.linspace(-half_width, half_width, num, dtype=torch.float64), 2 * half_width / (num - 1)
