"""Couplings: two draws, each of its own law, that are equal as often as their laws allow."""

import math
from typing import NamedTuple, Protocol, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ebm_lab.draws import normal_like, uniform


class Law(Protocol):
    """The laws of a batch of events, one an event, each normalised: what a coupling needs of them."""

    def sample(self, generator: torch.Generator | None) -> Tensor:
        """One draw an event."""

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) of each event, (batch,)."""

    def rows(self, index: Tensor) -> Self:
        """The laws of some of the events."""


class Normal(NamedTuple):
    """N(mean, scale² I) of each event: a Langevin proposal.

    Attributes:
        mean: (batch, *shape).
        scale: standard deviation of every coordinate, positive.
    """

    mean: Float[Tensor, "batch *shape"]
    scale: float

    def sample(self, generator: torch.Generator | None) -> Float[Tensor, "batch *shape"]:
        """mean + scale z."""
        return self.mean + self.scale * normal_like(self.mean, generator)

    def log_prob(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """-‖x - mean‖² / (2 scale²) - d log scale - (d/2) log 2π."""
        z = ((x - self.mean) / self.scale).flatten(1)
        return -0.5 * z.square().sum(1) - z.shape[1] * (math.log(self.scale) + 0.5 * math.log(2 * math.pi))

    def rows(self, index: Int[Tensor, " num"]) -> "Normal":
        """The laws of some of the events."""
        return Normal(self.mean[index], self.scale)


class Bernoulli(NamedTuple):
    """Independent coordinates in {0, 1}: the conditional of a layer, as a Gibbs step draws it.

    Attributes:
        probabilities: of a 1, (batch, *shape).
    """

    probabilities: Float[Tensor, "batch *shape"]

    def sample(self, generator: torch.Generator | None) -> Float[Tensor, "batch *shape"]:
        """1 where a uniform falls below the probability."""
        return self.drawn(uniform(self.probabilities.shape, self.probabilities, generator))

    def drawn(self, u: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """1 where u falls below the probability; one u for two laws couples each coordinate maximally."""
        return (u < self.probabilities).to(self.probabilities.dtype)

    def log_prob(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """Σ_i log p_i where x_i = 1, log (1 - p_i) where x_i = 0."""
        p = self.probabilities
        return torch.where(x == 1, p.log(), torch.log1p(-p)).flatten(1).sum(1)

    def rows(self, index: Int[Tensor, " num"]) -> "Bernoulli":
        """The laws of some of the events."""
        return Bernoulli(self.probabilities[index])


class Categorical(NamedTuple):
    """Independent one-hot sites: the conditional of categorical data, or a row of a transition matrix.

    Attributes:
        probabilities: of each class, summing to 1 along the last axis, (batch, *sites, classes).
    """

    probabilities: Float[Tensor, "batch *sites classes"]

    def sample(self, generator: torch.Generator | None) -> Float[Tensor, "batch *sites classes"]:
        """The first class whose cumulative probability exceeds a uniform, one-hot."""
        p = self.probabilities
        u = uniform((*p.shape[:-1], 1), p, generator)
        classes = (p.cumsum(-1)[..., :-1] <= u).sum(-1)
        return torch.nn.functional.one_hot(classes, p.shape[-1]).to(p.dtype)

    def log_prob(self, x: Float[Tensor, "batch *sites classes"]) -> Float[Tensor, " batch"]:
        """Σ over sites of the log-probability of the class that is set."""
        return torch.xlogy(x, self.probabilities).flatten(1).sum(1)

    def rows(self, index: Int[Tensor, " num"]) -> "Categorical":
        """The laws of some of the events."""
        return Categorical(self.probabilities[index])


def maximal_coupling(p: Law, q: Law, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """x ~ p and y ~ q with P(x = y) = 1 - TV(p, q), the most that any coupling reaches.

        x ~ p;  y = x  where u p(x) <= q(x);  elsewhere  y ~ q  until  u' q(y) > p(y)

    Laws that are equal give equal draws, always. Of a law of many coordinates the whole event is coupled at
    once: coordinate by coordinate, events are equal with Π (1 - TV_i), which is less.

    Returns:
        (x, y), equal to the last bit in the events that meet.

    Cost: two draws of each event in the mean, whatever p and q; the nearer p is to q the rarer and the longer
        the loop, which lasts as long as its slowest event. It waits for the device in every round.
    Reference: Thorisson 2000, Coupling, Stationarity, and Regeneration; Jacob, O'Leary & Atchadé 2020, arXiv
        1708.03625, section 4.1.
    """
    x = p.sample(generator)
    y = x.clone()
    u = uniform(x.shape[:1], x, generator)
    apart = _rejected(p, q, x, u).nonzero().squeeze(1)
    while len(apart):
        p_apart, q_apart = p.rows(apart), q.rows(apart)
        proposed = q_apart.sample(generator)
        taken = _rejected(q_apart, p_apart, proposed, uniform(apart.shape, u, generator))
        y[apart[taken]] = proposed[taken]
        apart = apart[~taken]
    return x, y


def layer_coupling(p: Bernoulli, q: Bernoulli, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """x ~ p and y ~ q with P(x = y) = 1 - TV(p, q), that differ in few coordinates where they differ.

        x ~ p;  y = x  where u p(x) <= q(x);  elsewhere, from uniforms U₁, U₂, ... that both read,
        x = first {U_t < p} with u_t p(x) > q(x),  y = first {U_t < q} with u_t q(y) > p(y)

    `maximal_coupling` draws y by itself where the layers do not meet, and forgets how near they were. Here
    both rejections read one stream: where p and q have little in common both take its first draw, which
    differs in Σ_i |p_i - q_i| coordinates in the mean. So layers of many units approach each other as under
    common uniforms, and meet as often as their laws allow: Π_i (1 - |p_i - q_i|) <= 1 - TV(p, q).

    Returns:
        (x, y), equal to the last bit in the events that meet.

    Cost: as `maximal_coupling`, with two draws a round.
    Reference: Qiu, Zhang & Wang 2020, ICLR, algorithm 2 and the authors' code, there with at most ten rounds.
    """
    x = p.sample(generator)
    y = x.clone()
    apart = _rejected(p, q, x, uniform(x.shape[:1], x, generator)).nonzero().squeeze(1)
    wanted = torch.ones(2, len(apart), dtype=torch.bool, device=x.device)  # of x and of y
    while len(apart):
        laws = p.rows(apart), q.rows(apart)
        u = uniform(laws[0].probabilities.shape, x, generator)
        u_taken = uniform(apart.shape, x, generator)
        for to, (law, other), open_ in zip((x, y), (laws, laws[::-1]), wanted, strict=True):
            proposed = law.drawn(u)
            taken = open_ & _rejected(law, other, proposed, u_taken)
            to[apart[taken]] = proposed[taken]
            open_ &= ~taken
        left = wanted.any(0)
        apart, wanted = apart[left], wanted[:, left]
    return x, y


def _rejected(law: Law, other: Law, x: Tensor, u: Float[Tensor, " batch"]) -> Bool[Tensor, " batch"]:
    """Where u law(x) > other(x): a draw of `law` there has the density (law - other)₊ / TV."""
    return u.log() + law.log_prob(x) > other.log_prob(x)


def reflection_coupling(p: Normal, q: Normal, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """x ~ N(μ, s²I) and y ~ N(ν, s²I) with P(x = y) = 1 - TV = 2 Φ(-‖μ - ν‖ / (2s)); mirrored elsewhere.

        z ~ N(0, I), Δ = (μ - ν) / s;  x = μ + s z;  y = x  where  log u <= ½ ‖z‖² - ½ ‖z + Δ‖²,
        elsewhere  y = ν + s (z - 2 e eᵀz),  e = Δ / ‖Δ‖

    As maximal as `maximal_coupling`, in one draw; events that do not meet keep the noise across Δ in common
    and take it mirrored along Δ, so that their distance is a random walk that can reach 0.

    Returns:
        (x, y), equal to the last bit in the events that meet.

    Reference: Lindvall & Rogers 1986; Bou-Rabee, Eberle & Zimmer 2020, arXiv 1805.00452; as here Jacob,
        O'Leary & Atchadé 2020, arXiv 1708.03625, section 4.1.
    """
    shape, s = p.mean.shape, p.scale
    z = normal_like(p.mean, generator).flatten(1)
    u = uniform(shape[:1], p.mean, generator)
    delta = ((p.mean - q.mean) / s).flatten(1)
    meets = u.log() <= -((z * delta).sum(1) + 0.5 * delta.square().sum(1))
    e = torch.nn.functional.normalize(delta, dim=1)
    mirrored = z - 2 * e * (e * z).sum(1, keepdim=True)
    x = p.mean + s * z.view(shape)
    y = q.mean + s * mirrored.view(shape)
    return x, torch.where(meets.view(-1, *[1] * (len(shape) - 1)), x, y)
