"""Chains that pass through a ladder of energies, the kernel's step fitted to each."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.energies import Energy, ScoreNetwork, Tempered
from ebm_lab.errors import UserError
from ebm_lab.samplers.driver import run_chains
from ebm_lab.samplers.kernel import Kernel


class Level(NamedTuple):
    """One rung of a ladder.

    Attributes:
        energy: x -> E_k(x), or a score network; a module where it has parameters, so that they are frozen
            meanwhile.
        scale: how wide its law is, in units of the law that the kernel's own step is made for.
    """

    energy: Callable[[Tensor], Tensor] | ScoreNetwork
    scale: float = 1.0


class Annealed(NamedTuple):
    """What a pass through a ladder leaves, detached.

    Attributes:
        x: the events after the last level.
        acceptance: mean acceptance at each level; None without an accept step.
    """

    x: Float[Tensor, "batch *shape"]
    acceptance: Float[Tensor, " levels"] | None


def anneal(
    kernel: Kernel,
    levels: Iterable[Level | Callable[[Tensor], Level]],
    x: Float[Tensor, "batch *shape"],
    num_steps: int,
    generator: torch.Generator | None,
    *,
    on_arrival: Callable[[int, Tensor], Tensor] | None = None,
) -> Annealed:
    """Run chains for `num_steps` steps at every level in turn, each from where the one before it ended.

    At a level the kernel is `kernel.at_scale(level.scale)`: Langevin's h is multiplied by scale², HMC's ε by
    scale. A kernel that adapts its step does so anew at every level, within its steps of warm-up; freeze it
    first where transitions must not depend on the chains, as in annealed importance sampling.

    Annealed Langevin (Song & Ermon 2019, Algorithm 1) is `Langevin` with `noise_levels`. Its steps are
    α_k = ε σ_k²/σ_L², and there are two of it: the paper's x + (α/2) s + √α z, which is step_size=ε/2, and
    the released code's x + α s + √(2α) z, which is step_size=ε. On E = x²/(2σ²) they leave a variance of
    σ²/(1 - ε/(4σ_L²)) and σ²/(1 - ε/(2σ_L²)).

    Args:
        kernel: its own step is that of a level of scale 1.
        levels: the ladder, from the first to the last; a level that depends on the events that arrive at it
            (a conditional energy) is a function of them.
        x: where the chains start; left unchanged.
        num_steps: steps at each level, at least 0.
        generator: source of all randomness, on the device of x.
        on_arrival: (k, x) -> x, called before the steps of level k: importance weights, resampling, a jump.

    Raises:
        UserError: a ladder without levels, or a kernel without a step where a scale is not 1.
    Reference: Song & Ermon, Generative modeling by estimating gradients of the data distribution, 2019,
    arXiv:1907.05600; Neal, Annealed importance sampling, 2001, arXiv:physics/9803008.
    """
    acceptances: list[Tensor | None] = []
    for k, level in enumerate(levels):
        if on_arrival is not None:
            x = on_arrival(k, x)
        energy, scale = level(x) if callable(level) else level
        fitted = kernel if scale == 1 else kernel.at_scale(scale)
        chains = run_chains(fitted, energy, x, num_steps, generator)
        x = chains.x
        acceptances.append(chains.acceptance)
    if not acceptances:
        raise UserError("a ladder needs at least one level to anneal through")
    return Annealed(x, None if None in acceptances else torch.stack(acceptances))


def noise_levels(energy: Energy | ScoreNetwork, sigmas: Sequence[float]) -> list[Level]:
    """E(x | sigma=σ_k), as wide as σ_k: the kernel's own step is that of the last level.

    Where that step is in units of the level itself, h_k = h σ_k², the kernel to use is its `at_scale(σ_L)`.
    """
    return [Level(energy.given(sigma=sigma), sigma / sigmas[-1]) for sigma in sigmas]


def temperature_levels(energy: Energy, temperatures: Sequence[float]) -> list[Level]:
    """E(x) / T_k, as wide as √T_k, the width of a Gaussian: the kernel's own step is that of T = 1."""
    return [Level(Tempered(energy, T), T**0.5) for T in temperatures]
