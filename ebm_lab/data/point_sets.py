"""The named densities on the plane, a random Gaussian and overlapping classes of any dimension.

Sets of points: modes on a circle or a grid. Sets of curves (rings, spirals, moons, ...): the uniform law on
the curve convolved with N(0, scale² I), written as a mixture of round Gaussians whose centres lie 0.8 scale
apart along the curve. Between its centres such a sum ripples by a factor 1 ± 2 exp(-2π²/0.8²) = 1 ± 8e-14.
The mixture itself is the density: data are drawn from it and log p is exact, whatever the spacing.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float

from ebm_lab.data.checks import check_integer, check_positive
from ebm_lab.data.gaussians import Gaussian, IsotropicMixture
from ebm_lab.data.seeding import seeded_generator

SPACING = 0.8  # of neighbouring centres on a curve, in standard deviations

Points = Float[np.ndarray, "points 2"]


def eight_gaussians(scale: float = 0.3, radius: float = 3.0) -> IsotropicMixture:
    """Eight round modes of deviation `scale` on a circle."""
    angles = 2 * math.pi * np.arange(8) / 8
    return _round_modes(check_positive("radius", radius) * _on_circle(angles), scale)


def twenty_five_gaussians(scale: float = 0.2, spacing: float = 1.5) -> IsotropicMixture:
    """A 5 × 5 grid of round modes of deviation `scale`."""
    ticks = check_positive("spacing", spacing) * np.arange(-2, 3)
    return _round_modes(np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2), scale)


def rings(scale: float = 0.15, radii: Sequence[float] = (1.2, 2.4, 3.6)) -> IsotropicMixture:
    """Concentric circles of equal mass, each blurred by `scale`."""
    circles = [_circle(check_positive("every radius", radius), scale) for radius in radii]
    weights = np.concatenate([np.full(len(c), 1 / len(c)) for c in circles])
    return _blurred(np.concatenate(circles), scale, weights)


def two_spirals(scale: float = 0.15, radius: float = 3.6, turns: float = 1.5) -> IsotropicMixture:
    """Two Archimedean spirals, one the other turned by 180°, uniform in length, blurred by `scale`."""
    check_positive("radius", radius)
    end = 2 * math.pi * check_positive("turns", turns)
    arm = _along(lambda t: (radius * t / end)[:, None] * _on_circle(t), 0.1 * end, end, scale)
    return _blurred(np.concatenate([arm, -arm]), scale)


def moons(scale: float = 0.2, radius: float = 2.0) -> IsotropicMixture:
    """Two interleaved half circles, shifted against each other by (radius, radius/2), blurred by `scale`."""
    check_positive("radius", radius)
    upper = _along(lambda t: radius * (_on_circle(t) + [-0.5, -0.25]), 0.0, math.pi, scale)
    return _blurred(np.concatenate([upper, -upper]), scale)


def pinwheel(scale: float = 0.15, arms: int = 5, twist: float = 0.25) -> IsotropicMixture:
    """Bent arms: radius 2ρ at the angle twist · exp(ρ), with weight N(ρ; 1, 0.3²) on [0.1, 1.9].

    Blurred by `scale`. After Johnson et al., Composing graphical models with neural networks for structured
    representations and fast inference, NeurIPS 2016, whose arms are blurred across their length only.
    """

    def arm(rho: np.ndarray) -> Points:
        return 2 * rho[:, None] * _on_circle(twist * np.exp(rho))

    first = _along(arm, 0.1, 1.9, scale)
    weights = np.exp(-0.5 * ((np.linalg.norm(first, axis=1) / 2 - 1) / 0.3) ** 2)
    turns = 2 * math.pi * np.arange(check_integer("arms", arms, at_least=1)) / arms
    return _blurred(np.concatenate([_turned(first, t) for t in turns]), scale, np.tile(weights, arms))


def swiss_roll(scale: float = 0.2, radius: float = 3.6) -> IsotropicMixture:
    """One spiral, r ∝ θ for θ in [1.5π, 4.5π], uniform in length, blurred by `scale`."""
    pitch = check_positive("radius", radius) / (4.5 * math.pi)
    roll = _along(lambda t: (pitch * t)[:, None] * _on_circle(t), 1.5 * math.pi, 4.5 * math.pi, scale)
    return _blurred(roll, scale)


def random_gaussian(dim: int, smallest: float = 0.5, largest: float = 2.0, seed: int = 0) -> Gaussian:
    """N(0, Σ) with a random full covariance of known eigenvalues.

    Σ = Q diag(λ) Qᵀ with λ spaced evenly on a log scale and Q from the QR decomposition of a matrix of normal
    draws, so that the condition number is largest/smallest in every dimension.

    Args:
        dim: number of coordinates, at least 1.
        smallest, largest: ends of the spectrum of Σ, positive.
        seed: of Q, at least 0; another seed is another density.

    Raises:
        ValueError: a number outside of its range.
    """
    check_integer("dim", dim, at_least=1)
    check_integer("seed", seed, at_least=0)
    if check_positive("smallest", smallest) > check_positive("largest", largest):
        raise ValueError(f"smallest must not exceed largest, got {smallest} > {largest}")
    eigenvalues = torch.linspace(math.log(smallest), math.log(largest), dim, dtype=torch.float64).exp()
    normal = torch.randn(dim, dim, generator=seeded_generator(seed), dtype=torch.float64)
    q = torch.linalg.qr(normal).Q
    covariance = (q * eigenvalues) @ q.T
    return Gaussian(torch.zeros(dim, dtype=torch.float64), (covariance + covariance.T) / 2)


def gaussian_classes(dim: int, radius: float = 1.2) -> IsotropicMixture:
    """Three overlapping classes: round Gaussians of weights .5, .3, .2 and deviations .6, .8, 1.

    Their means lie on a circle in the first two coordinates. Weights, means and deviations all differ, so
    that log p(y | x) = log w_y + log N(x; μ_y, s_y² I) + const is not linear in x.

    Args:
        dim: number of coordinates, at least 2.
        radius: of the circle, positive.

    Raises:
        ValueError: a number outside of its range.
    """
    check_integer("dim", dim, at_least=2)
    means = np.zeros((3, dim))
    means[:, :2] = check_positive("radius", radius) * _on_circle(2 * math.pi * np.arange(3) / 3)
    return IsotropicMixture([0.5, 0.3, 0.2], torch.from_numpy(means), [0.6, 0.8, 1.0])


def _round_modes(means: Points, scale: float) -> IsotropicMixture:
    return _blurred(means, check_positive("scale", scale))


def _blurred(centres: Points, scale: float, weights: np.ndarray | None = None) -> IsotropicMixture:
    ones = torch.ones(len(centres), dtype=torch.float64)
    return IsotropicMixture(
        ones if weights is None else torch.from_numpy(weights), torch.from_numpy(centres), scale * ones
    )


def _on_circle(angles: np.ndarray) -> Points:
    return np.stack([np.cos(angles), np.sin(angles)], -1)


def _turned(points: Points, angle: float) -> Points:
    c, s = math.cos(angle), math.sin(angle)
    return points @ np.array([[c, s], [-s, c]])


def _circle(radius: float, scale: float) -> Points:
    num = math.ceil(2 * math.pi * radius / (SPACING * check_positive("scale", scale)))
    return radius * _on_circle(2 * math.pi * np.arange(num) / num)


def _along(curve: Callable[[np.ndarray], Points], start: float, end: float, scale: float) -> Points:
    """Points of curve(t), t in [start, end], equally far apart along it: SPACING · scale or less."""
    t = np.linspace(start, end, 20_001)
    steps = np.linalg.norm(np.diff(curve(t), axis=0), axis=1)
    length = np.concatenate([[0.0], steps.cumsum()])
    num = math.ceil(length[-1] / (SPACING * check_positive("scale", scale))) + 1
    return curve(np.interp(np.linspace(0, length[-1], num), length, t))
