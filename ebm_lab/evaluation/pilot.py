"""A first climb that finds step sizes, and levels where none are given; its weights are thrown away."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ebm_lab.energies import AnnealingPath, Energy, frozen
from ebm_lab.errors import UserError
from ebm_lab.evaluation.ladder import Ladder, check_exact, with_step_size
from ebm_lab.samplers import Constant, Kernel, State
from ebm_lab.samplers.weights import effective_share, systematic

FIRST_ROUNDS, ROUNDS = 40, 5  # adapted steps at the first level, and at each of the others
GAIN = 1.0  # of log h in the acceptance, each step
GROWTH = 4.0  # at most, from one gap between levels to the next
BISECTIONS = 12  # of a gap, on a log scale
SMALLEST_GAP = 1e-9


def pilot(
    path: AnnealingPath,
    kernel: Kernel,
    num_chains: int,
    generator: torch.Generator | None,
    *,
    betas: tuple[float, ...] | None = None,
    share: float = 0.9,
    target_acceptance: float = 0.65,
) -> Ladder:
    """A ladder for the measured climb, from a climb of its own in which everything adapts.

        log h += gain (acceptance - target)  after each of some steps at a level, the level's h their mean
        β_{k+1}: the largest with CESS(β_k, β_{k+1}) = N (Σ W w)² / Σ W w² ≥ share · N, by bisection

    where w = exp(E_{β_k} - E_{β_{k+1}}) and W = 1/N, as chains are resampled at every level. The measured
    climb uses the ladder frozen, with draws of its own: adapted in the same pass, weights would be biased.

    Args:
        path, kernel, num_chains: as of `climb`; step sizes start from the kernel's first.
        betas: levels; None finds them.
        share: of CESS, in (0, 1), where the levels are to be found.
        target_acceptance: mean acceptance that step sizes are adapted to, in (0, 1): .574 is best for MALA
            and .651 for HMC in high dimension. Kernels without a step size stay as they are.

    Raises:
        UserError: where the path cannot be climbed: a gap below 1e-9 would still lose too many chains.
    Reference: Zhou, Johansen & Aston, Toward automatic model comparison, JCGS 2016, arXiv:1303.3123, section
        3.4 (CESS); Atchadé & Rosenthal 2005, On adaptive MCMC algorithms, Bernoulli 11 (acceptance).
    """
    check_exact(kernel)
    levels, sizes = [0.0], []
    with torch.no_grad(), frozen(path(0.0), path(1.0)):
        x = path.sample(num_chains, generator)
        step_size = None if kernel.step_size is None else kernel.step_size(0)
        gap = 1e-3
        while levels[-1] < 1:
            weigh = path.weigh(x, levels[-1])
            following = _next(weigh, levels[-1], gap, share) if betas is None else betas[len(levels)]
            gap = following - levels[-1]
            u = torch.rand((), generator=generator, dtype=torch.float64, device=x.device)
            x = x[systematic(weigh(following), u)]
            rounds = ROUNDS if sizes else FIRST_ROUNDS
            x, step_size = _adapted(
                kernel, path(following), x, step_size, target_acceptance, rounds, generator
            )
            levels.append(following)
            sizes.append(step_size)
    return Ladder(tuple(levels), None if step_size is None else (sizes[0], *sizes))


def _next(weigh: Callable[[float], Tensor], beta: float, gap: float, share: float) -> float:
    """The next level by bisection of the gap on a log scale, from at most `GROWTH` times the last gap."""
    high = min(GROWTH * gap, 1 - beta)
    if effective_share(weigh(beta + high)) >= share:
        return 1.0 if high == 1 - beta else beta + high
    low = high
    while effective_share(weigh(beta + low)) < share:
        high, low = low, low / GROWTH
        if low < SMALLEST_GAP:
            raise UserError(
                "no path of temperatures leads from the noise to this model: from one level to a next as "
                f"near as {SMALLEST_GAP:g} more than {1 - share:.0%} of the chains are lost; choose a noise "
                "that covers the model, such as noise=gaussian"
            )
    for _ in range(BISECTIONS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if effective_share(weigh(beta + middle)) >= share else (low, middle)
    return beta + low


def _adapted(
    kernel: Kernel,
    energy: Energy,
    x: Tensor,
    step_size: float | None,
    target: float,
    rounds: int,
    generator: torch.Generator | None,
) -> tuple[Tensor, float | None]:
    """Some steps at one level; the geometric mean of the step sizes in their second half."""
    state, logs = State(x, None, None, 0), []
    for number in range(rounds):
        moving = kernel if step_size is None else with_step_size(kernel, Constant(step_size))
        state = moving.init(energy, x) if number == 0 else state
        state, info = moving.step(energy, state, generator)
        if step_size is not None and info.acceptance is not None:
            step_size *= math.exp(GAIN * (info.acceptance.mean().item() - target))
            logs.append(math.log(step_size))
    settled = logs[len(logs) // 2 :]
    return state.x, math.exp(sum(settled) / len(settled)) if settled else step_size
