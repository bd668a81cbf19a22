"""Unadjusted Langevin: one gradient step and one draw of noise, always accepted."""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.draws import normal_like
from ebm_lab.energies.energy import Energy, energy_and_gradient, score
from ebm_lab.samplers.kernel import Info, Kernel, State, check_temperature
from ebm_lab.samplers.schedules import Constant, Schedule, as_schedule, check_positive, scaled


class Langevin(Kernel):
    """Unadjusted Langevin dynamics (ULA; "SGLD on x" in the literature on energy-based models).

        x' = x - h ∇E(x) + √(2 h T) z,    z ~ N(0, I)

    It aims at exp(-E/T) and samples a law that is off by O(h): on E = λx²/2 the stationary variance is
    T / (λ (1 - hλ/2)), and the chain diverges from hλ = 2 on. Recipes that state a step α and a noise σ
    of its own are h = α, T = σ²/(2α).

    Args:
        step_size: h, positive, or a schedule of it.
        temperature: T, at least 0; 0 is gradient descent on E, which samples no law.
        gradient_clip: bound on |∂E/∂x_i|, each element by itself, positive; None for off.
        clamp: (low, high) to which every coordinate is clamped after the step; None for off.

    Raises:
        ValueError: a number outside of its range.
    Cost: one energy and one input gradient per step, none at the start.
    Notes: (1) with a clip or a clamp the dynamics have no known stationary law: `temperature` is None.
    (2) The gradient is taken at x, before the noise; the clamp comes last.
    Reference: Roberts & Tweedie, Exponential convergence of Langevin distributions and their discrete
    approximations, Bernoulli 1996; Welling & Teh, ICML 2011, Eq. 4; Du & Mordatch, Implicit generation and
    modeling with energy-based models, arXiv:1903.08689 (clip and clamp).
    """

    evaluations_per_step = 1

    def __init__(
        self,
        step_size: float | Schedule,
        temperature: float = 1.0,
        gradient_clip: float | None = None,
        clamp: Sequence[float] | None = None,
    ) -> None:
        self.step_size = as_schedule(step_size)
        self.noise_temperature = check_temperature(temperature, zero_allowed=True)
        self.gradient_clip = None if gradient_clip is None else check_positive("gradient_clip", gradient_clip)
        self.clamp = None if clamp is None else _interval(clamp)
        self._bounded = gradient_clip is not None or clamp is not None

    @property
    def temperature(self) -> float | None:
        """T, or None at T = 0 and with a clip or clamp on."""
        return None if self._bounded or self.noise_temperature == 0 else self.noise_temperature

    def describe(self) -> str:
        """Names a zero temperature, a clip and a clamp."""
        parts = ["temperature 0 (gradient descent)"] if self.noise_temperature == 0 else []
        if self.gradient_clip is not None:
            parts.append(f"gradient clipped to ±{self.gradient_clip:g} per element")
        if self.clamp is not None:
            parts.append(f"state clamped to [{self.clamp[0]:g}, {self.clamp[1]:g}] after each step")
        return "; ".join(parts)

    def gaussian_precision(self, variance: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """λ = (1 - √(1 - 2hT/v)) / h, from the stationary variance v = T / (λ (1 - hλ/2)).

        Raises:
            ValueError: with a clip, a clamp, T = 0 or a changing step, or where h > v / (2T): no λ is stable.
        """
        h = self.step_size(0)
        if self.temperature is None or not isinstance(self.step_size, Constant):
            raise ValueError(
                "the stationary variance is known for a constant step without clip or clamp only"
            )
        root = 1 - 2 * h * self.temperature / variance
        if root < 0:
            raise ValueError(f"no precision gives the variance {variance:g} with step_size={h:g}")
        return (1 - root.sqrt()) / h

    def at_scale(self, factor: float) -> "Langevin":
        """Steps h · factor², a clip of gradients that are 1/factor as large; a clamp stays where it is."""
        clip = None if self.gradient_clip is None else self.gradient_clip / factor
        return Langevin(scaled(self.step_size, factor**2), self.noise_temperature, clip, self.clamp)

    def init(self, energy: Callable[[Tensor], Tensor], x: Float[Tensor, "batch *shape"]) -> State:
        """Chains at x; nothing is evaluated."""
        return State(x.detach(), None, None, 0)

    def step(
        self,
        energy: Callable[[Tensor], Tensor],
        state: State,
        generator: torch.Generator | None,
        draw: Float[Tensor, "batch *shape"] | None = None,
    ) -> tuple[State, Info]:
        """One transition; `draw` is z."""
        x, h, T = state.x, self.step_size(state.step), self.noise_temperature
        energies, gradient = energy_and_gradient(energy, x)
        clip = self.gradient_clip
        drift = gradient if clip is None else gradient.clamp(-clip, clip)
        moved = x.sub(drift, alpha=h)
        if T > 0:
            z = draw if draw is not None else normal_like(x, generator)
            moved.add_(z, alpha=math.sqrt(2 * h * T))
        kept = moved if self.clamp is None else moved.clamp(*self.clamp)
        clipped = _fraction((drift != gradient) | (kept != moved), x.dtype) if self._bounded else None
        return State(kept, None, None, state.step + 1), Info(energies, gradient, None, clipped)

    def step_with_graph(
        self,
        energy: Energy,
        x: Float[Tensor, "batch *shape"],
        step: int,
        draw: Float[Tensor, "batch *shape"],
    ) -> Float[Tensor, "batch *shape"]:
        """The event to which step number `step` takes x, as a function of the energy's parameters.

        The same numbers as `step` gives, with the graph of ∇E(x) kept; x and the draw are constants.
        """
        h, T, clip = self.step_size(step), self.noise_temperature, self.gradient_clip
        drift = -score(energy, x.detach(), create_graph=True)
        drift = drift if clip is None else drift.clamp(-clip, clip)
        moved = x.detach() - h * drift + math.sqrt(2 * h * T) * draw
        return moved if self.clamp is None else moved.clamp(*self.clamp)


def _fraction(mask: Tensor, dtype: torch.dtype) -> Tensor:
    return mask.flatten(1).to(dtype).mean(1)


def _interval(clamp: Sequence[float]) -> tuple[float, float]:
    numbers = isinstance(clamp, Sequence) and all(isinstance(bound, int | float) for bound in clamp)
    if not numbers or len(clamp) != 2 or not -math.inf < clamp[0] < clamp[1] < math.inf:
        raise ValueError(f"clamp must be two finite numbers, low < high, got {clamp!r}")
    return float(clamp[0]), float(clamp[1])
