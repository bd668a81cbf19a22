"""The temperatures that annealing climbs, and the step size of the kernel at each."""

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from ebm_lab.samplers import ExactKernel, Kernel
from ebm_lab.samplers.schedules import Listed

SHARPNESS = 4.0  # δ of the sigmoid schedule
JITTER = 0.5  # smallest factor of a step size


class Ladder(NamedTuple):
    """Levels β_0 = 0 < β_1 < ... < β_K = 1, and the kernel's step size at each.

    Attributes:
        betas: the levels.
        step_sizes: at each level; None leaves the kernel its own, which sees the level as its step.
    """

    betas: tuple[float, ...]
    step_sizes: tuple[float, ...] | None = None

    @property
    def num_levels(self) -> int:
        """K, levels that are climbed to."""
        return len(self.betas) - 1

    def stepping(self, kernel: Kernel) -> Kernel:
        """The kernel with these step sizes, read by level; itself where there are none."""
        return kernel if self.step_sizes is None else with_step_size(kernel, Listed(self.step_sizes))

    def refined(self, num_levels: int) -> "Ladder":
        """As many levels as asked for, as dense as these: β is linear between neighbours, and log h in β."""
        places = np.linspace(0, self.num_levels, num_levels + 1)
        betas = np.interp(places, np.arange(len(self.betas)), self.betas)
        return Ladder(tuple(betas.tolist()), self.step_sizes_at(betas))

    def jittered(self, generator: torch.Generator) -> "Ladder":
        """The step size of each level times a factor drawn once, uniformly from [½, 1].

        Trajectories of one length resonate with some width of the model and then hardly move in it; of
        lengths that change from level to level, none does so for long. The factors are drawn before the
        climb, so that it stays exact.

        Reference: Neal, MCMC using Hamiltonian dynamics, 2011, arXiv:1206.1901, section 3.2.
        """
        if self.step_sizes is None:
            return self
        draws = torch.rand(len(self.betas), generator=generator, device=generator.device).tolist()
        factors = (JITTER + (1 - JITTER) * u for u in draws)
        return Ladder(self.betas, tuple(h * f for h, f in zip(self.step_sizes, factors, strict=True)))

    def step_sizes_at(self, betas: Sequence[float]) -> tuple[float, ...] | None:
        """Step sizes at other levels: log h is linear in β between these."""
        if self.step_sizes is None:
            return None
        return tuple(np.exp(np.interp(betas, self.betas, np.log(self.step_sizes))).tolist())


def linear(num_levels: int) -> tuple[float, ...]:
    """β_k = k / K."""
    num = check_levels(num_levels)
    return tuple(k / num for k in range(num + 1))


def sigmoid(num_levels: int) -> tuple[float, ...]:
    """β_k = (s_k - s_0) / (s_K - s_0), s_k = σ(δ (2k/K - 1)), δ = 4: dense at both ends.

    Reference: Grosse, Ghahramani & Adams, Sandwiching the marginal likelihood using bidirectional Monte
    Carlo, 2015, arXiv:1511.02543.
    """
    num = check_levels(num_levels)
    places = [1 / (1 + math.exp(-SHARPNESS * (2 * k / num - 1))) for k in range(num + 1)]
    low, high = places[0], places[-1]
    return (0.0, *((s - low) / (high - low) for s in places[1:-1]), 1.0)


SCHEDULES = {"linear": linear, "sigmoid": sigmoid}


def check_levels(num_levels: int) -> int:
    """The number of levels, or a ValueError with one sentence."""
    if isinstance(num_levels, bool) or not isinstance(num_levels, int) or num_levels < 1:
        raise ValueError(f"num_temperatures must be an integer, at least 1, got {num_levels!r}")
    return num_levels


def with_step_size(kernel: Kernel, step_size: object) -> Kernel:
    """A copy of the kernel with another schedule of its step size."""
    changed = copy.copy(kernel)
    changed.step_size = step_size
    return changed


def check_exact(kernel: Kernel) -> Kernel:
    """The kernel, or a ValueError where its steps do not leave exp(-E) invariant."""
    name = type(kernel).__name__
    if not isinstance(kernel, ExactKernel):
        raise ValueError(
            f"annealing needs a kernel that leaves exp(-E) exactly invariant, and {name} does not, so its "
            "weights would be of another number than Z: choose mala or hmc"
        )
    if kernel.temperature != 1:
        raise ValueError(f"annealing weighs exp(-E), so its {name} must have temperature 1")
    return kernel
