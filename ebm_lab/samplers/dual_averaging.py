"""Step-size adaptation by dual averaging: the step at which a target share of the proposals is accepted."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.errors import UserError
from ebm_lab.noise.noise import Noise
from ebm_lab.samplers.kernel import ExactKernel, Info, Kernel, State
from ebm_lab.samplers.schedules import Schedule

# The constants of Hoffman & Gelman 2014, §3.2.1.
SHRINKAGE = 0.05  # γ: how strongly the steps are drawn to TEN_TIMES
OFFSET = 10  # t₀: calms the first steps
DECAY = 0.75  # κ: how fast the mean forgets its early terms
TEN_TIMES = math.log(10)  # μ: steps are drawn to ten times the first one, as long steps are cheap to refuse


class DualAveraging(Kernel):
    """An exact kernel whose step is adapted until proposals are accepted as often as is wanted.

    In its m-th step the kernel runs at e^{s} times its own scale (`Kernel.at_scale`), and after it

        H ← (1 - 1/(m+t₀)) H + (δ - α)/(m+t₀)            α: mean acceptance over the batch, δ: the target
        s ← μ - √m H / γ;    s̄ ← m^{-κ} s + (1 - m^{-κ}) s̄       γ = .05, t₀ = 10, κ = .75, μ = log 10

    `freeze` gives the kernel at e^{s̄}, which adapts no more. There are two ways to use it, and no third:

    - `run_chains` warms it up on the chains that it is given, for `num_adapt` steps from the kernel's own
      step, freezes it and only then counts steps and measures. Nothing is kept from one run to the next.
    - Within `adapting()`, which `Objective` enters for training, it adapts in every step and goes on from one
      iteration to the next, so that it follows an energy that is learned. A checkpoint holds this state.

    Args:
        kernel: MALA, HMC or another kernel with an acceptance test and a step; its own step is the first.
        target_acceptance: δ, in (0, 1): 0.574 for MALA and 0.65 for HMC are best in high dimension.
        num_adapt: steps of the warm-up, at least 1.

    Raises:
        ValueError: a number outside of its range, or a kernel without an acceptance test.
        UserError: a step outside of a warm-up and of `adapting()`.
    Cost: the kernel's; a run costs `num_adapt` steps more.
    Notes: (1) what adapts is one scale for all chains: it multiplies HMC's ε, and MALA's h by its square.
    (2) The first step is given, not searched for by Algorithm 4. (3) HMC keeps its number of leapfrog steps;
    Algorithm 5 keeps the length of the trajectory. (4) While it adapts, a step depends on earlier draws of
    the same chains, and exp(-E/T) is invariant up to an error that vanishes as the adaptation does. (5) A
    mean over few steps errs toward small ones: after 100 steps HMC accepts .05 to .1 more than is asked for.
    (6) On a law of no width, such as a constant energy, all is accepted and the step grows without bound.
    Reference: Hoffman & Gelman, The No-U-Turn sampler, JMLR 2014, arXiv:1111.4246, Eq. 6 and Algorithm 5;
    targets: Roberts & Rosenthal 1998 (MALA), Beskos et al. 2013, arXiv:1001.4460 (HMC, 0.651).
    """

    def __init__(self, kernel: ExactKernel, target_acceptance: float, num_adapt: int = 200) -> None:
        if not isinstance(kernel, ExactKernel) or kernel.step_size is None:
            raise ValueError(
                f"{type(kernel).__name__} has no acceptance that a step could be adapted to: take MALA or HMC"
            )
        if isinstance(target_acceptance, bool) or not 0 < target_acceptance < 1:
            raise ValueError(f"target_acceptance must lie in (0, 1), got {target_acceptance!r}")
        if isinstance(num_adapt, bool) or not isinstance(num_adapt, int) or num_adapt < 1:
            raise ValueError(f"num_adapt must be an integer, at least 1, got {num_adapt!r}")
        self.kernel = kernel
        self.target_acceptance = target_acceptance
        self.num_adapt = num_adapt
        self.evaluations_per_step = kernel.evaluations_per_step
        self._adapting = False
        self._num_steps, self._log_scale, self._mean_log_scale, self._mean_shortfall = 0, 0.0, 0.0, 0.0

    @property
    def temperature(self) -> float | None:
        """The kernel's."""
        return self.kernel.temperature

    @property
    def step_size(self) -> Schedule:
        """Of the kernel as it stands now, in the middle of its adaptation."""
        return self._now().step_size

    def describe(self) -> str:
        """The kernel's."""
        return self.kernel.describe()

    def gaussian_precision(self, variance: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """The kernel's: an exact law does not depend on the step."""
        return self.kernel.gaussian_precision(variance)

    def at_scale(self, factor: float) -> "DualAveraging":
        """The same adaptation of the scaled kernel, as far as it has come."""
        return self._of(self.kernel.at_scale(factor))

    def _of(self, kernel: ExactKernel) -> "DualAveraging":
        other = DualAveraging(kernel, self.target_acceptance, self.num_adapt)
        other.load_state_dict(self.state_dict())
        return other

    def on(self, noise: Noise) -> "DualAveraging":
        """The same adaptation of the kernel on this noise, as far as it has come."""
        return self._of(self.kernel.on(noise))

    def freeze(self) -> Kernel:
        """The kernel at the mean of the steps so far, or at its own step before the first."""
        return self.kernel.at_scale(math.exp(self._mean_log_scale))

    def warmed_up(
        self,
        energy: Callable[[Tensor], Tensor],
        x: Float[Tensor, "batch *shape"],
        generator: torch.Generator | None,
    ) -> tuple[Kernel, Float[Tensor, "batch *shape"]]:
        """The kernel frozen after `num_adapt` steps from x, begun anew; in training itself, as it is."""
        if self._adapting:
            return self, x
        fresh = DualAveraging(self.kernel, self.target_acceptance, self.num_adapt)
        with fresh.adapting():
            state = fresh.init(energy, x)
            for _ in range(self.num_adapt):
                state, _ = fresh.step(energy, state, generator)
        return fresh.freeze(), state.x

    @contextmanager
    def adapting(self) -> Iterator[None]:
        """Inside, every step adapts."""
        before, self._adapting = self._adapting, True
        try:
            yield
        finally:
            self._adapting = before

    def init(self, energy: Callable[[Tensor], Tensor], x: Float[Tensor, "batch *shape"]) -> State:
        """Chains at x, as the kernel starts them."""
        return self.kernel.init(energy, x)

    def step(
        self,
        energy: Callable[[Tensor], Tensor],
        state: State,
        generator: torch.Generator | None,
        draw: Any = None,
    ) -> tuple[State, Info]:
        """One transition of the kernel, from which its step learns; `draw` is the kernel's."""
        if not self._adapting:
            raise UserError(
                "this kernel still adapts its step, and what is measured with it would follow no law: freeze "
                "it first, kernel.freeze(), or run it through run_chains, which does"
            )
        state, info = self._now().step(energy, state, generator, draw)
        self._learn(float(info.acceptance.mean()))
        return state, info

    def _now(self) -> Kernel:
        return self.kernel.at_scale(math.exp(self._log_scale))

    def _learn(self, acceptance: float) -> None:
        self._num_steps += 1
        m = self._num_steps
        shortfall = self.target_acceptance - acceptance
        self._mean_shortfall += (shortfall - self._mean_shortfall) / (m + OFFSET)
        self._log_scale = TEN_TIMES - math.sqrt(m) / SHRINKAGE * self._mean_shortfall
        self._mean_log_scale += m**-DECAY * (self._log_scale - self._mean_log_scale)

    def state_dict(self) -> dict[str, Any]:
        """How far the adaptation has come."""
        return {
            "num_steps": self._num_steps,
            "log_scale": self._log_scale,
            "mean_log_scale": self._mean_log_scale,
            "mean_shortfall": self._mean_shortfall,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Adapt on from there."""
        self._num_steps, self._log_scale = state["num_steps"], state["log_scale"]
        self._mean_log_scale, self._mean_shortfall = state["mean_log_scale"], state["mean_shortfall"]
