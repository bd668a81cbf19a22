"""How samples of images compare with data: in features, in classes, and by their nearest training image."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Tensor

from ebm_lab.evaluation.plots import image_grid

JACKKNIFE_GROUPS = 10
COVERED = 0.2  # of an even share: with ten classes, 2 % of the samples


def frechet_distance(
    mean_1: Float[Tensor, " dim"],
    covariance_1: Float[Tensor, "dim dim"],
    mean_2: Float[Tensor, " dim"],
    covariance_2: Float[Tensor, "dim dim"],
) -> float:
    """‖μ₁-μ₂‖² + tr(Σ₁ + Σ₂ - 2(Σ₁Σ₂)^½), the squared Wasserstein-2 distance of two Gaussians.

    The trace of the root is taken from the symmetric √Σ₁ Σ₂ √Σ₁, whose eigenvalues are those of Σ₁Σ₂:
    singular covariances are as good as others.

    Reference: Dowson & Landau, The Fréchet distance between multivariate normal distributions, J.
    Multivariate Analysis 1982; Heusel et al., GANs trained by a two time-scale update rule, arXiv:1706.08500.
    """
    root = _square_root(covariance_1)
    # below 0 by rounding only: the product is positive semidefinite
    roots = torch.linalg.eigvalsh(root @ covariance_2 @ root).clamp_min(0).sqrt()
    squared = (mean_1 - mean_2).square().sum() + covariance_1.trace() + covariance_2.trace()
    return float(squared - 2 * roots.sum())


def frechet_between(x: Float[Tensor, "first dim"], y: Float[Tensor, "second dim"]) -> tuple[float, float]:
    """Fréchet distance between the Gaussians of two sets of features, and its jackknife error.

    Biased upwards by a number that falls with the size of the sets and grows with the dimension: only sets of
    the same size compare. The error leaves out one tenth of each set after another, and covers no bias.

    Raises:
        ValueError: for fewer than 20 events on a side.
    """
    if min(len(x), len(y)) < 2 * JACKKNIFE_GROUPS:
        raise ValueError(
            f"frechet_between needs at least {2 * JACKKNIFE_GROUPS} events a side, got {len(x)} and {len(y)}"
        )
    parts = [(_without(x, group), _without(y, group)) for group in range(JACKKNIFE_GROUPS)]
    left_out = torch.tensor(
        [frechet_distance(*_moments(a), *_moments(b)) for a, b in parts], dtype=torch.float64
    )
    error = math.sqrt((JACKKNIFE_GROUPS - 1) * float(left_out.var(correction=0)))
    return frechet_distance(*_moments(x), *_moments(y)), error


def class_frequencies(classes: Int[Tensor, " num"], num_classes: int) -> Float[Tensor, " classes"]:
    """Share of every class, in float64."""
    return torch.bincount(classes, minlength=num_classes).double() / len(classes)


def num_covered(frequencies: Float[Tensor, " classes"]) -> int:
    """Number of classes with more than a fifth of an even share: with ten classes, more than 2 %."""
    return int((frequencies > COVERED / len(frequencies)).sum())


def share_error(share: float, num: int) -> float:
    """Standard error of a share of `num` independent events, with half an event added to both sides.

    So that none, or all, of a few events does not pass for certainty.
    """
    smoothed = (share * num + 0.5) / (num + 1)
    return math.sqrt(smoothed * (1 - smoothed) / (num + 1))


class Neighbours(NamedTuple):
    """The nearest of a set to each event.

    Attributes:
        distance: Euclidean, in pixels of [-1, 1].
        index: row of the nearest in the set.
    """

    distance: Float[Tensor, " num"]
    index: Int[Tensor, " num"]


def nearest_neighbours(
    x: Float[Tensor, "num *shape"], among: Float[Tensor, "set *shape"], chunk_size: int = 256
) -> Neighbours:
    """For each event of x the nearest of `among`, and its distance in float64.

    Candidates come from matrix products in the precision of x, so that of neighbours that are equally far to
    rounding either may be named; the distance is that of the one named, without the products' rounding.
    """
    flat, among = x.flatten(1), among.flatten(1)
    squares = among.square().sum(1)
    index = torch.cat([(squares - 2 * chunk @ among.T).argmin(1) for chunk in flat.split(chunk_size)])
    return Neighbours((flat.double() - among[index].double()).norm(dim=1), index)


def nearer_than_held_out(
    samples: Float[Tensor, " num"], held_out: Float[Tensor, " other"], quantile: float = 0.01
) -> tuple[float, float]:
    """Share of the samples nearer to training data than all but `quantile` of held-out data, and its error.

    In expectation `quantile` where the samples follow the data's law; near 1 for a model that repeats its
    training data. The error is that of `share_error`, of the samples alone.
    """
    share = float((samples < held_out.quantile(quantile)).double().mean())
    return share, share_error(share, len(samples))


def paired_picture(
    above: Float[Tensor, "num channels height width"],
    below: Float[Tensor, "num channels height width"],
    num_columns: int = 12,
) -> Figure:
    """Rows of images, and under each row their partners (samples over their nearest training images).

    What does not fill a row is left out; with fewer images than columns there is one row of them all.
    """
    num_columns = min(num_columns, len(above))
    whole = len(above) // num_columns * num_columns
    rows = zip(above[:whole].split(num_columns), below[:whole].split(num_columns), strict=True)
    return image_grid(torch.cat([image for pair in rows for image in pair]), num_columns)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.double()
    return x.mean(0), torch.atleast_2d(torch.cov(x.T))


def _square_root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T


def _without(x: Tensor, group: int) -> Tensor:
    return x[torch.arange(len(x)) % JACKKNIFE_GROUPS != group]
