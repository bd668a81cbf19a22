"""log Z by importance sampling, for any dimension where the noise covers the model."""

import torch

from ebm_lab.energies import Energy
from ebm_lab.evaluation.energies import evaluate_in_chunks
from ebm_lab.evaluation.partition import LogPartition, from_log_weights
from ebm_lab.noise import Noise


def importance_log_partition(
    energy: Energy, noise: Noise, num: int, generator: torch.Generator
) -> LogPartition:
    """log Z ≈ log (1/n) Σ w_i, w_i = exp(-E(x_i)) / p_n(x_i), x_i ~ p_n.

    The mean is unbiased for Z, so its logarithm errs low (a likelihood looks too high); error bar and
    effective samples are those of `from_log_weights`. Where the noise has lighter tails than the model the
    variance of w is infinite, and no finite sample tells.

    Reference: `log Z` by simple importance sampling, e.g. Neal 2001, arXiv physics/9803008, section 1.
    """
    x = noise.sample(num, generator)
    log_weights = -evaluate_in_chunks(energy, x, 4096) - evaluate_in_chunks(noise.log_prob, x, 4096)
    return from_log_weights(log_weights, f"importance sampling from the noise, {num} draws")
