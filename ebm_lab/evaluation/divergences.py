"""How far a model lies from a density or from data: likelihood, KL, Fisher divergence, MMD."""

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.energies.derivatives import implicit_losses
from ebm_lab.energies.energy import Energy, ScoreNetwork, frozen
from ebm_lab.evaluation.energies import evaluate_in_chunks
from ebm_lab.evaluation.measurement import mean_and_error
from ebm_lab.evaluation.quadrature import Grid

MAX_MASS_ERROR = 1e-3  # a density whose integral misses 1 by more than this is not one on its grid


@runtime_checkable
class HasScore(Protocol):
    """A density with a known score ∇log p(x)."""

    def score(self, x: Tensor) -> Tensor:
        """∇log p(x), shape of x."""


def grid_entropy(log_p: Float[Tensor, " size"], grid: Grid) -> tuple[float, float]:
    """Entropy H(p) = -∫ p log p in nats, and its error bar.

    The error bar is |change from half the resolution| + |log ∫p|, the mass that the grid misses.

    Args:
        log_p: normalised log density at `grid.points`.

    Raises:
        ValueError: when ∫p differs from 1 by more than 1e-3.
    """
    value, change = grid.integrate(-_p_times(log_p, log_p))
    return value, change + _mass_error("log_p", log_p, grid)


def grid_kl(log_p: Float[Tensor, " size"], log_q: Float[Tensor, " size"], grid: Grid) -> tuple[float, float]:
    """KL(p‖q) = ∫ p (log p - log q) in nats, and its error bar; swap the densities for the other way.

    KL(data‖model) punishes modes that the model misses, KL(model‖data) mass that the model invents. The error
    bar is |change from half the resolution| + |log ∫p| + |log ∫q|: an error in log Z moves KL by as much.
    Infinite where q vanishes and p does not.

    Args:
        log_p: normalised log density at `grid.points`, on a grid that holds the mass of both.
        log_q: likewise.

    Raises:
        ValueError: when ∫p or ∫q differs from 1 by more than 1e-3.
    """
    value, change = grid.integrate(_p_times(log_p, log_p.double() - log_q.double()))
    return value, change + _mass_error("log_p", log_p, grid) + _mass_error("log_q", log_q, grid)


def grid_fisher_divergence(
    model_score: Float[Tensor, "size dim"],
    true_score: Float[Tensor, "size dim"],
    log_p: Float[Tensor, " size"],
    grid: Grid,
) -> tuple[float, float]:
    """½ ∫ p ‖s_θ - s‖², and its error bar, |change from half the resolution| + |log ∫p|.

    Unlike an average over samples it sees what happens in regions that p visits with probability 1e-8.

    Args:
        model_score: s_θ at `grid.points`.
        true_score: s = ∇log p at `grid.points`.
        log_p: normalised log density at `grid.points`.

    Raises:
        ValueError: when ∫p differs from 1 by more than 1e-3.
    """
    value, change = grid.integrate(_p_times(log_p, _half_squared_distance(model_score, true_score)))
    return value, change + _mass_error("log_p", log_p, grid)


def fisher_divergence(
    model_score: Callable[[Tensor], Tensor], density: HasScore, x: Float[Tensor, "batch *shape"]
) -> tuple[float, float]:
    """½ E‖s_θ(x) - s(x)‖² over x ~ density, and its standard error; unbiased.

    Blind to the weights of separated modes: s depends on them only where p is tiny. For ½N(-6,1)+½N(6,1)
    against the weights (.1, .9) it is 3.8e-8, while KL = .51.

    Args:
        model_score: x ↦ s_θ(x); of an energy, `functools.partial(score, energy)`.
        density: what x was drawn from.
        x: independent draws, held out from training.
    """
    return mean_and_error(_half_squared_distance(model_score(x), density.score(x)))


def score_matching_loss(
    model: Energy | ScoreNetwork, x: Float[Tensor, "batch *shape"], chunk_size: int = 256
) -> tuple[float, float]:
    """E[tr ∇s_θ + ½‖s_θ‖²] over held-out events, exactly, and its standard error.

    By parts it is ½ E‖s_θ - s‖² - ½ E‖s‖²: a Fisher divergence for data whose own score s is not known, up to
    a number that is the same for every model. As blind to the weights of separated modes. The model must be
    twice differentiable: where its score jumps, the jumps' part of tr ∇s is missed.

    Args:
        chunk_size: events at a time.

    Cost: as many second derivatives an event as it has numbers.
    Reference: Hyvärinen 2005, JMLR 6, theorem 1.
    """
    with frozen(model):
        losses = [implicit_losses(model, events).detach() for events in x.split(chunk_size)]
    return mean_and_error(torch.cat(losses))


def negative_log_likelihood(
    energy: Energy, log_z: float, x: Float[Tensor, "batch *shape"], log_z_error: float = 0.0
) -> tuple[float, float]:
    """Mean of E(x) + log Z over held-out data in nats, and its error bar.

    The error bar is the standard error of the mean over x plus `log_z_error`. The bias is log Z's:
    an estimate that is too low (annealed importance sampling) makes the likelihood look too high.
    """
    mean_energy, standard_error = mean_and_error(evaluate_in_chunks(energy, x, chunk_size=1024))
    return mean_energy + log_z, standard_error + log_z_error


def median_bandwidth(x: Float[Tensor, "batch *shape"], max_points: int = 2000) -> float:
    """Median distance of two different events of the reference data: ℓ of `mmd`, the same for every model.

    On binary events the squared distance is the number of sites that differ, so that `mmd`'s kernels are
    exponential in the Hamming distance (of one-hot events: in twice it); events that coincide are common
    there, and are left out of the median.

    Args:
        x: the reference data; at most `max_points` of them, evenly spaced in their order, are used.

    Raises:
        ValueError: when all events coincide.
    """
    stride = math.ceil(len(x) / max_points)
    distances = torch.pdist(x[::stride].detach().flatten(1))
    if not (distances > 0).any():
        raise ValueError("all events coincide: give mmd a bandwidth of your own")
    return distances[distances > 0].median().item()


def median_bandwidths(x: Float[Tensor, "batch *shape"]) -> tuple[float, ...]:
    """The median distance times 1/8, 1/4 and 1/3: the scales of the details.

    At the median itself and above, the kernel sees little but mean and covariance, which every fitted
    Gaussian has right.
    """
    median = median_bandwidth(x)
    return tuple(median * factor for factor in (1 / 8, 1 / 4, 1 / 3))


def mmd(
    x: Float[Tensor, "first *shape"], y: Float[Tensor, "second *shape"], *bandwidths: float
) -> tuple[float, float]:
    """Squared maximum mean discrepancy with k(x,y) = mean_ℓ exp(-‖x-y‖²/(2ℓ²)), and its standard error.

        MMD² = E k(x,x') + E k(y,y') - 2 E k(x,y)

    by the U-statistic over distinct pairs: unbiased, and so often below zero where the laws agree. The
    error is the jackknife's (each event of x and of y left out once); where the laws agree it is too large
    by about √2, since the first-order term vanishes there. Draws are taken as independent.

    Reference: Gretton et al. 2012, A kernel two-sample test, JMLR 13, equation 3.

    Args:
        bandwidths: one or several ℓ > 0, from the reference data (`median_bandwidth`); the kernel is the
            mean of the Gaussians of these widths, so that narrow modes and wide shapes both count.

    Raises:
        ValueError: for a bandwidth ≤ 0, or fewer than 3 events on a side.
    """
    if not bandwidths or not all(math.isfinite(width) and width > 0 for width in bandwidths):
        raise ValueError(f"bandwidth must be finite and > 0, got {bandwidths}")
    n, m = len(x), len(y)
    if min(n, m) < 3:
        raise ValueError(f"mmd needs at least 3 events on each side, got {n} and {m}")
    within_x, within_y = _kernel_sums(x, x, bandwidths) - 1, _kernel_sums(y, y, bandwidths) - 1
    x_to_y, y_to_x = _kernel_sums(x, y, bandwidths), _kernel_sums(y, x, bandwidths)
    pairs_x, pairs_y, cross = within_x.sum(), within_y.sum(), x_to_y.sum()

    value = pairs_x / (n * (n - 1)) + pairs_y / (m * (m - 1)) - 2 * cross / (n * m)
    without_x = (pairs_x - 2 * within_x) / ((n - 1) * (n - 2)) - 2 * (cross - x_to_y) / ((n - 1) * m)
    without_y = (pairs_y - 2 * within_y) / ((m - 1) * (m - 2)) - 2 * (cross - y_to_x) / (n * (m - 1))
    variance = _jackknife_variance(without_x) + _jackknife_variance(without_y)
    return value.item(), variance.sqrt().item()


def _kernel_sums(x: Tensor, y: Tensor, bandwidths: tuple[float, ...], chunk_size: int = 1024) -> Tensor:
    """Σ_j k(x_i, y_j) for each i, in float64."""
    x, y = x.detach().flatten(1).double(), y.detach().flatten(1).double()
    sums = []
    for chunk in x.split(chunk_size):
        # the matrix-product shortcut of cdist loses the distances of near neighbours
        squares = torch.cdist(chunk, y, compute_mode="donot_use_mm_for_euclid_dist").square()
        kernels = [squares.mul(-0.5 / width**2).exp().sum(1) for width in bandwidths]
        sums.append(torch.stack(kernels).mean(0))
    return torch.cat(sums)


def _jackknife_variance(leave_one_out: Tensor) -> Tensor:
    """(n-1)/n Σ (θ_(i) - θ̄)²."""
    return (len(leave_one_out) - 1) * leave_one_out.var(correction=0)


def _half_squared_distance(a: Tensor, b: Tensor) -> Tensor:
    return 0.5 * (a - b).detach().double().flatten(1).square().sum(1)


def _p_times(log_p: Tensor, values: Tensor) -> Tensor:
    """p·values with 0·∞ = 0: where p vanishes the integrand does."""
    return torch.where(log_p == -math.inf, 0.0, log_p.double().exp() * values)


def _mass_error(name: str, log_density: Tensor, grid: Grid) -> float:
    """|log ∫p|, refused where p is not normalised on the grid."""
    log_mass, _ = grid.log_integrate(log_density)
    if not abs(log_mass) < MAX_MASS_ERROR:
        raise ValueError(
            f"{name} integrates to {math.exp(log_mass):.4g} on the grid of half-width {grid.half_width:g}, "
            "not 1: subtract log Z from -E, or widen or refine the grid"
        )
    return abs(log_mass)
