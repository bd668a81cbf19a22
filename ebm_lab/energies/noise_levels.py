"""Ladders of noise levels, which methods that learn the data at many noise levels climb and descend."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


class NoiseLadder:
    """Levels σ_0 < σ_1 < ... < σ_T of noise on the data, in their units: x_k = x + σ_k z, of law p_{σ_k}.

    Neighbours are one step of Gaussian noise apart: x_{k+1} = x_k + δ_{k+1} z, δ²_{k+1} = σ²_{k+1} - σ²_k.
    All levels are on the scale of the data. A ladder that shrinks the signal, x_k = ᾱ_k x + √(1 - ᾱ_k²) z, is
    this one in the coordinates x_k / ᾱ_k: `variance_preserving_ladder` makes it.

    Args:
        sigmas: the levels, positive and increasing; at least two.

    Raises:
        ValueError: for other numbers.
    """

    def __init__(self, sigmas: Sequence[float]) -> None:
        self.sigmas = tuple(float(sigma) for sigma in sigmas)
        pairs = zip((0.0, *self.sigmas), self.sigmas, strict=False)
        if len(self.sigmas) < 2 or not all(low < high < math.inf for low, high in pairs):
            raise ValueError(
                f"a ladder has at least two noise levels, positive and increasing, got {list(sigmas)}"
            )

    def __len__(self) -> int:
        return len(self.sigmas)

    @property
    def steps(self) -> tuple[float, ...]:
        """δ_1, ..., δ_T: standard deviation of the noise between neighbouring levels."""
        pairs = zip(self.sigmas, self.sigmas[1:], strict=False)
        return tuple(math.sqrt(high**2 - low**2) for low, high in pairs)


def geometric_ladder(smallest: float, largest: float, num_levels: int) -> NoiseLadder:
    """σ_k = smallest (largest / smallest)^{k / (num_levels - 1)}: each level is wider by the same factor.

    Args:
        smallest: σ_0, in the data's units, positive.
        largest: σ_T, above it; about the largest distance between events, so that p_{σ_T} has one mode.
        num_levels: T + 1, at least 2.

    Raises:
        ValueError: a number outside of its range.
    Reference: Song & Ermon 2019, arXiv 1907.05600, section 4.1; for its range 2020, arXiv 2006.09011,
    techniques 1 and 2.
    """
    if num_levels < 2 or not 0 < smallest < largest < math.inf:
        raise ValueError(
            "a ladder needs 0 < smallest < largest and num_levels of at least 2, got "
            f"smallest={smallest}, largest={largest} and num_levels={num_levels}"
        )
    ratio = largest / smallest
    return NoiseLadder([smallest * ratio ** (k / (num_levels - 1)) for k in range(num_levels)])


def variance_preserving_ladder(
    num_levels: int, first_beta: float = 1e-4, last_beta: float = 0.02, num_steps: int = 1000
) -> NoiseLadder:
    """Levels at evenly spaced steps of the first half of a linear diffusion, seen as noise on the data.

        β_i linear from first_beta to last_beta in i = 0, ..., num_steps - 1;  ᾱ_k² = Π_{i ≤ i_k} (1 - β_i);
        i_k = k ⌊num_steps / (2 (num_levels - 1))⌋;  σ_k = √(1 - ᾱ_k²) / ᾱ_k

    Its steps in the coordinates that shrink are x_{k+1} = a_{k+1} x_k + √(1 - a²_{k+1}) z, a_{k+1} =
    ᾱ_{k+1} / ᾱ_k; those of the ladder are √(1 - a²_{k+1}) / ᾱ_{k+1}.

    Args:
        num_levels: at least 2.
        first_beta: β_0, in (0, 1).
        last_beta: the last β, in (0, 1).
        num_steps: of the diffusion, at least 2 (num_levels - 1).

    Raises:
        ValueError: a number outside of its range.
    Reference: Ho, Jain & Abbeel 2020, arXiv 2006.11239, section 4, for the β; the choice of six levels is
    that of Gao, Song, Poole, Wu & Kingma 2021, arXiv 2012.08125, section 3.4.
    """
    if num_levels < 2 or num_steps < 2 * (num_levels - 1) or not 0 < first_beta <= last_beta < 1:
        raise ValueError(
            "a variance-preserving ladder needs num_levels of at least 2, twice as many steps less two and "
            f"0 < first_beta <= last_beta < 1, got {num_levels}, {num_steps}, {first_beta} and {last_beta}"
        )
    betas = torch.linspace(first_beta, last_beta, num_steps, dtype=torch.float64)
    kept = (1 - betas).cumprod(0)[:: num_steps // (2 * (num_levels - 1))][:num_levels]
    return NoiseLadder(((1 - kept) / kept).sqrt().tolist())


def as_events(numbers: Tensor, like: Tensor) -> Tensor:
    """Numbers of the leading axes, such as one an event, to be broadcast over the others of `like`."""
    return numbers.view(*numbers.shape, *[1] * (like.dim() - numbers.dim()))


def need_level(sigma: Tensor | float | None) -> None:
    """Raise a ValueError where an energy of x and σ is asked without σ."""
    if sigma is None:
        raise ValueError("this energy is conditioned on a noise level: bind one, energy.given(sigma=...)")
