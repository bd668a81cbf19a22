"""Whether chains agree with each other and with themselves, and how many independent draws they are worth."""

import torch
from jaxtyping import Float
from torch import Tensor


def split_rhat(chains: Float[Tensor, "chains draws"]) -> Float[Tensor, ""]:
    """R̂ = √(V / W) of the halves of all chains: 1 where each tells the same; above 1.01 they do not.

    W is the mean variance within the 2m halves of n draws, B / n the variance of their means, and
    V = (n - 1)/n W + B/n. A last odd draw is left out.

    Raises:
        ValueError: for fewer than 4 draws a chain.
    Reference: Gelman et al., Bayesian Data Analysis, 3rd ed., 2013, section 11.4.
    """
    halves = _halves(chains)
    num = halves.shape[1]
    within, between = halves.var(1).mean(), halves.mean(1).var()
    return ((num - 1) / num + between / within).sqrt()


def rank_normalised_rhat(chains: Float[Tensor, "chains draws"]) -> Float[Tensor, ""]:
    """The larger of the split R̂ of ranks, and of ranks of distances to the median: location and scale.

    Ranks become normal scores Φ⁻¹((rank - 3/8) / (S + 1/4)), so that heavy tails do no harm.

    Reference: Vehtari, Gelman, Simpson, Carpenter & Bürkner 2021, Bayesian Analysis 16, arXiv 1903.08008,
        eq. 14 and section 4.2.
    """
    scores, folded = _normal_scores(chains), _normal_scores((chains - chains.median()).abs())
    return torch.maximum(split_rhat(scores), split_rhat(folded))


def effective_draws(chains: Float[Tensor, "chains draws"]) -> Float[Tensor, ""]:
    """Independent draws with the same error of the mean: m n / (1 + 2 Σ_t ρ_t).

    ρ_t = 1 - (W - mean autocovariance at lag t) / V over the halves of all chains, summed in pairs of lags
    until a pair is negative, no pair larger than the one before (Geyer's initial monotone sequence).

    Raises:
        ValueError: for fewer than 4 draws a chain.
    Reference: Vehtari et al. 2021, section 3.2; Geyer 1992, Practical Markov Chain Monte Carlo.
    """
    halves = _halves(chains.double())
    num = halves.shape[1]
    covariance = _autocovariance(halves)
    within = (covariance[:, 0] * num / (num - 1)).mean()
    total = (num - 1) / num * within + halves.mean(1).var()
    correlation = 1 - (within - covariance.mean(0)) / total
    correlation[0] = 1
    pairs = correlation[: num // 2 * 2].view(-1, 2).sum(1)
    pairs = pairs.cummin(0).values.clamp(min=0)  # monotone, and zero from the first negative pair on
    return (halves.numel() / (2 * pairs.sum() - 1)).to(chains)


def _halves(chains: Tensor) -> Float[Tensor, "halves draws"]:
    half = chains.shape[1] // 2
    if half < 2:
        raise ValueError(f"halves of chains need at least 4 draws a chain, got {chains.shape[1]}")
    return torch.cat([chains[:, :half], chains[:, half : 2 * half]])


def _normal_scores(chains: Tensor) -> Tensor:
    """Equal values share the mean of their ranks."""
    _, group, counts = chains.flatten().unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0)
    rank = (last - (counts - 1) / 2)[group]
    return torch.special.ndtri((rank.double() - 0.375) / (chains.numel() + 0.25)).view_as(chains)


def _autocovariance(chains: Tensor) -> Tensor:
    """Sums over pairs divided by the number of draws, lag by lag; by fast Fourier transform."""
    num = chains.shape[1]
    centred = chains - chains.mean(1, keepdim=True)
    spectrum = torch.fft.rfft(centred, 2 * num).abs().square()
    return torch.fft.irfft(spectrum, 2 * num)[:, :num] / num
