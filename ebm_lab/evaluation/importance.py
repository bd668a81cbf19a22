"""log Z by importance sampling, for any dimension where the noise covers the model."""

import math
from typing import NamedTuple

import torch

from ebm_lab.energies import Energy
from ebm_lab.evaluation.energies import evaluate_in_chunks
from ebm_lab.noise import Noise


class ImportanceEstimate(NamedTuple):
    """log Z, its standard error, and the effective number of samples behind it."""

    value: float
    error: float
    effective_samples: float


def importance_log_partition(
    energy: Energy, noise: Noise, num: int, generator: torch.Generator
) -> ImportanceEstimate:
    """log Z ≈ log (1/n) Σ w_i, w_i = exp(-E(x_i)) / p_n(x_i), x_i ~ p_n.

    The mean is unbiased for Z, so its logarithm is too low on average (a likelihood looks too high), by
    about half the squared error. Error bar: standard error of the mean of w over that mean (delta method).
    ESS = (Σw)²/Σw²; below some hundreds neither the value nor the error bar can be trusted.

    Reference: `log Z` by simple importance sampling, e.g. Neal 2001, arXiv physics/9803008, section 1.
    """
    x = noise.sample(num, generator)
    log_weights = -evaluate_in_chunks(energy, x, 4096) - evaluate_in_chunks(noise.log_prob, x, 4096)
    log_sum = torch.logsumexp(log_weights, 0)
    share = (log_weights - log_sum).exp()
    effective = 1 / share.square().sum()
    variance = (1 / effective - 1 / num).clamp(min=0) * num / (num - 1)
    return ImportanceEstimate(float(log_sum) - math.log(num), float(variance.sqrt()), float(effective))
