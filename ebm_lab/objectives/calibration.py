"""How often a classifier is right, and whether it is right as often as it says."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

NUM_BINS = 15  # as Guo et al. 2017 report it


def accuracy(correct: Bool[Tensor, " num"]) -> tuple[float, float]:
    """Share of the events that are classified right, and its standard error √(a (1 - a) / n)."""
    share = correct.double().mean().item()
    return share, math.sqrt(share * (1 - share) / len(correct))


def expected_calibration_error(
    confidence: Float[Tensor, " num"], correct: Bool[Tensor, " num"], num_bins: int = NUM_BINS
) -> tuple[float, float]:
    """ECE = Σ_b (n_b / n) |accuracy_b - confidence_b|, and its standard error.

    The bins are equally wide: bin b of B holds the confidences in [(b - 1)/B, b/B), the last one also 1.

    ECE is the mean of s_b(i) (correct_i - confidence_i) with s_b the sign of its bin's difference; the error
    is that mean's, with the signs as they were found.

    Args:
        confidence: largest class probability of each event, in [0, 1].
        correct: whether that class is the event's.
        num_bins: B.

    Raises:
        ValueError: for fewer than one bin.
    Notes: biased upwards, by the noise of the bins: n calibrated events have an ECE of order √(B / n), not 0.
    Reference: Guo, Pleiss, Sun & Weinberger 2017, On Calibration of Modern Neural Networks, arXiv 1706.04599,
    eq. 3; there with bins that are open below and closed above.
    """
    if num_bins < 1:
        raise ValueError(f"num_bins must be at least 1, got {num_bins}")
    confidence = confidence.double()
    edges = torch.linspace(0, 1, num_bins + 1, dtype=torch.float64, device=confidence.device)
    bins = torch.bucketize(confidence, edges[1:-1], right=True)
    excess = correct.double() - confidence
    signs = excess.new_zeros(num_bins).index_add(0, bins, excess).sign()
    signed = signs[bins] * excess
    return signed.mean().item(), signed.std(correction=0).item() / math.sqrt(len(signed))
