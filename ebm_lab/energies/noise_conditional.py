"""What makes a network's energy depend on a noise level: an embedding inside of it, a scale outside."""

import math
from collections.abc import Callable
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_lab.energies.composition import plus_base
from ebm_lab.energies.energy import Energy
from ebm_lab.energies.noise_levels import as_events, need_level

LOWEST, HIGHEST = 0.25, 4.0  # frequencies of the sinusoids, in radians per factor e of σ


class NoisedDensity(Protocol):
    """A Gaussian fitted to data, known at every level of noise on them; `ebm_lab.noise.NoisedGaussian`."""

    mean: Tensor
    scale: Tensor

    def log_prob(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log (q * N(0, σ²I))(x), (batch,)."""

    def score(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Its gradient in x, of x's shape."""


class NoiseConditioning(nn.Module):
    """E(x, σ) of a network N(u, embedding), so that E(x, σ) = -log p_σ(x) + c(σ) is easy to learn.

        E(x, σ) = E₀(x, σ) + (s/σ) N((x - μ) / √(σ² + s²), e(log σ))
        E₀(x, σ) = -log N(x; μ, Σ + σ²I),    s² = tr Σ / d

    The network sees inputs of one size at every level and corrects the Gaussian of the noised data, from
    which the law at large σ hardly differs. The factor is that at which its slope has one size: with
    u = (x - μ) / √(σ² + s²) the score is ∇ log N(x; μ, Σ + σ²I) - s / (σ √(σ² + s²)) ∇_u N, the form of a
    preconditioned denoiser x + σ² score, whose part from the network is s σ / √(σ² + s²) times -∇_u N.

    e is a linear map and a SiLU of sines and cosines of log σ; each hidden layer h of the network becomes
    (1 + γ) h + β with γ and β linear in e. Smooth in σ as in x.

    Args:
        base: the Gaussian N(μ, Σ), fitted to the data before the first step.
        num_features: size of the embedding, even.

    Raises:
        ValueError: for an odd or too small num_features.
    Cost: little beside the network's, and d² operations per event for E₀.
    Notes: 1. The network's own base term is left out: E₀ is in its place, and widens with σ. 2. An
        additive function of σ is free, as it is of every energy here: E(x, σ) is normalised where N = 0 only.
    Reference: Karras, Aittala, Aila & Laine 2022, arXiv 2206.00364, eq. 7 and table 1, for the scales; Perez
    et al. 2018, FiLM, arXiv 1709.07871, for γ and β.
    """

    def __init__(self, base: NoisedDensity, *, num_features: int = 64) -> None:
        super().__init__()
        if num_features < 4 or num_features % 2:
            raise ValueError(f"num_features must be even and at least 4, got {num_features}")
        self.base = base
        self.num_features = num_features
        octaves = torch.linspace(math.log(LOWEST), math.log(HIGHEST), num_features // 2)
        self.register_buffer("frequencies", octaves.exp(), persistent=False)
        self.network = nn.Sequential(nn.Linear(num_features, num_features), nn.SiLU())

    def embed(self, sigma: Float[Tensor, " batch"]) -> Float[Tensor, "batch features"]:
        """e(log σ)."""
        phases = sigma.log()[:, None] * self.frequencies
        return self.network(torch.cat([phases.sin(), phases.cos()], 1))

    def forward(
        self,
        network: Callable[[Tensor, Tensor], Tensor],
        x: Float[Tensor, "batch *shape"],
        sigma: Float[Tensor, "..."],
    ) -> Float[Tensor, " batch"]:
        """E(x, σ), with one level for all events or one for each."""
        sigma, size, scale = self._sizes(x, sigma)
        shrunk = (x - self.base.mean) / as_events(size, x)
        return scale / sigma * network(shrunk, self.embed(sigma)) - self.base.log_prob(x, sigma)

    def score(
        self,
        network: Callable[[Tensor, Tensor], Tensor],
        x: Float[Tensor, "batch *shape"],
        sigma: Float[Tensor, "..."],
    ) -> Float[Tensor, "batch *shape"]:
        """∇ log N(x; μ, Σ + σ²I) + s / (σ √(σ² + s²)) N(u, e): the same of a network with values like x.

        Where N = -∇_u of a scalar network it is the score of that one's energy.
        """
        sigma, size, scale = self._sizes(x, sigma)
        correction = network((x - self.base.mean) / as_events(size, x), self.embed(sigma))
        return self.base.score(x, sigma) + as_events(scale / (sigma * size), x) * correction

    def _sizes(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """σ and √(σ² + s²) of each event, and s."""
        sigma = torch.as_tensor(sigma).to(x).expand(len(x))
        scale = self.base.scale.to(x)
        return sigma, (sigma.square() + scale.square()).sqrt(), scale


class Modulation(nn.Module):
    """h -> (1 + γ) h + β, channel by channel, with γ and β linear in the embedding."""

    takes_embedding = True

    def __init__(self, num_features: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(num_features, 2 * channels)

    def forward(
        self, h: Float[Tensor, "batch channels *positions"], embedding: Float[Tensor, "batch features"]
    ) -> Float[Tensor, "batch channels *positions"]:
        """(1 + γ) h + β."""
        gamma, beta = self.linear(embedding).chunk(2, 1)
        return (1 + as_events(gamma, h)) * h + as_events(beta, h)


class Embedded(nn.Sequential):
    """Layers one after the other; those with a true `takes_embedding` receive it beside their input.

    With none of them it is torch's Sequential.
    """

    takes_embedding = True

    def forward(self, h: Tensor, embedding: Tensor | None = None) -> Tensor:
        """The last layer's output."""
        for layer in self:
            h = layer(h, embedding) if getattr(layer, "takes_embedding", False) else layer(h)
        return h


def modulation(num_features: int, channels: int) -> list[nn.Module]:
    """What stands behind a hidden layer of so many channels: nothing where there is no embedding."""
    return [Modulation(num_features, channels)] if num_features else []


def num_features(conditioning: NoiseConditioning | None) -> int:
    """Size of the embedding, 0 without one."""
    return 0 if conditioning is None else conditioning.num_features


def network_energy(
    network: Callable[..., Tensor],
    x: Float[Tensor, "batch *shape"],
    sigma: Float[Tensor, "..."] | None,
    conditioning: NoiseConditioning | None,
    base: Energy | None,
) -> Float[Tensor, " batch"]:
    """network(x) + E₀(x), or what the conditioning makes of the network at noise level σ.

    Raises:
        ValueError: for a network that is conditioned and no level, or a level and none that is.
    """
    check_level(sigma, conditioning)
    if conditioning is None:
        return plus_base(network(x), base, x)
    return conditioning(network, x, sigma)


def check_level(sigma: Float[Tensor, "..."] | None, conditioning: NoiseConditioning | None) -> None:
    """Raise a ValueError for a network that is conditioned and no level, or a level and none that is."""
    if conditioning is not None:
        need_level(sigma)
    elif sigma is not None:
        raise ValueError("this energy is not conditioned on a noise level: choose conditioning=noise_level")
