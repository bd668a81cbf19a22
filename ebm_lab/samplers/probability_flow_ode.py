"""The ordinary differential equation whose flow has the laws of the noised data: samples and likelihoods."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.integrate import solve_ivp
from torch import Tensor

from ebm_lab.energies import Energy, ScoreNetwork, frozen, score, score_and_diagonal


class Flowed(NamedTuple):
    """Where the flow leads.

    Attributes:
        x: the events at the last level.
        log_ratio: log p(x there, last level) - log p(x here, first level), along the flow, in float64; None
            where it was not asked for.
        evaluations: of the score, each at every event.
    """

    x: Float[Tensor, "batch *shape"]
    log_ratio: Float[Tensor, " batch"] | None
    evaluations: int


def probability_flow(
    model: Energy | ScoreNetwork,
    x: Float[Tensor, "batch *shape"],
    first: float,
    last: float,
    *,
    probe: Float[Tensor, "batch *shape"] | None = None,
    tolerance: float = 1e-5,
    with_density: bool = True,
) -> Flowed:
    """Carry events from noise level σ = first to σ = last, up or down.

        dx/dσ = -σ s(x, σ),    d log p(x(σ), σ) / dσ = σ ∇·s(x, σ)

    solved in log σ by Runge-Kutta of order 5(4). With x/α in the place of x and σ(t) = std(t)/α(t) it is the
    flow dx = (f x - ½ g² s) dt of every `Diffusion`.

    Args:
        model: of x and σ.
        probe: v with E[vvᵀ] = I, one for the whole flow: the divergence is seen as vᵀ(∇s)v (Hutchinson), with
            one vector-Jacobian product a step in the place of d. None takes all d.
        tolerance: relative and absolute, of the solver's local error, a root mean square over the batch.
        with_density: False carries the events alone, for samples.

    Raises:
        FloatingPointError: when the solver stops before the end.
    Cost: some 50 to 200 scores, each with its d vector-Jacobian products, or one, or none without density.
    Notes: the solver is scipy's and works on the host in float64; the model runs on its own device.
    Reference: Song et al. 2021, Score-Based Generative Modeling through Stochastic Differential Equations,
    arXiv 2011.13456, eqs. 13 and 39 to 41; Karras et al. 2022, arXiv 2206.00364, eq. 1, for σ as the time.
    """
    num, shape = len(x), x.shape

    def slope(log_sigma: float, flat: np.ndarray) -> np.ndarray:
        sigma = math.exp(log_sigma)
        here, at = torch.as_tensor(flat[:size].reshape(shape)).to(x), model.given(sigma=sigma)
        if not with_density:
            return -(sigma**2) * _on_host(score(at, here))
        s, divergence = _score_and_divergence(at, here, probe)
        return sigma**2 * np.concatenate([-_on_host(s), _on_host(divergence)])

    size, ratios = x.numel(), np.zeros(num if with_density else 0)
    start = np.concatenate([_on_host(x), ratios])
    span = (math.log(first), math.log(last))
    with frozen(model):
        solved = solve_ivp(slope, span, start, method="RK45", rtol=tolerance, atol=tolerance, t_eval=span[1:])
    if not solved.success:
        raise FloatingPointError(f"the probability flow was not solved: {solved.message}")
    end = torch.as_tensor(solved.y[:, -1])
    log_ratio = end[size:].to(x.device) if with_density else None
    return Flowed(end[:size].view(shape).to(x), log_ratio, solved.nfev)


def _on_host(x: Tensor) -> np.ndarray:
    return x.detach().double().cpu().numpy().ravel()


def flow_log_prob(
    model: Energy | ScoreNetwork,
    x: Float[Tensor, "batch *shape"],
    first: float,
    last: float,
    log_prior: Callable[[Tensor], Tensor],
    *,
    probe: Float[Tensor, "batch *shape"] | None = None,
    tolerance: float = 1e-5,
) -> Float[Tensor, " batch"]:
    """log p(x) at noise level σ = first under the flow from a known law at σ = last, in nats and float64.

    log p(x) = log prior(x_last) - ∫ σ ∇·s dσ: the exact likelihood of the flow's own law, which is p_first
    where the score is that of the noised data and the prior is p_last.

    Args: as of `probability_flow`, and
        log_prior: log-density at the last level. N(0, σ²I) there is off by the width of the data.
    """
    flowed = probability_flow(model, x, first, last, probe=probe, tolerance=tolerance)
    return log_prior(flowed.x).double() - flowed.log_ratio


def _score_and_divergence(
    model: Energy | ScoreNetwork,
    x: Float[Tensor, "batch *shape"],
    probe: Float[Tensor, "batch *shape"] | None,
) -> tuple[Float[Tensor, "batch *shape"], Float[Tensor, " batch"]]:
    """s and ∇·s, or vᵀ(∇s)v, of every event, detached."""
    if probe is None:
        with torch.no_grad():
            s, diagonal = score_and_diagonal(model, x)
        return s, diagonal.flatten(1).sum(1)
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        s = score(model, x, create_graph=True)
        (along,) = torch.autograd.grad((s * probe).sum(), x)
    return s.detach(), (along * probe).flatten(1).sum(1)
