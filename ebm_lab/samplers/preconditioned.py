"""Unadjusted Langevin whose step has a size of its own in every coordinate."""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.draws import normal_like
from ebm_lab.energies.energy import energy_and_gradient
from ebm_lab.samplers.kernel import Info, Kernel, State, check_temperature
from ebm_lab.samplers.langevin import Langevin
from ebm_lab.samplers.schedules import Schedule, as_schedule, check_positive, scaled


class PreconditionedLangevin(Kernel):
    """Langevin dynamics with a diagonal preconditioner G, fixed or running after the gradients (pSGLD).

        x' = x - h G ∇E(x) + √(2 h T G) z,   z ~ N(0, I)
        fixed: G as given;   RMSprop: V ← β V + (1 - β) ∇E(x)²,  G = 1 / (δ + √V), element by element

    With a fixed G it is `Langevin` in the coordinates x / √G: it aims at exp(-E/T), and on E = λx²/2 the
    stationary variance is T / (λ (1 - hGλ/2)). Give it the squared width of every coordinate, and one step
    suits narrow and wide coordinates alike.

    With RMSprop the law is not exp(-E/T), not even as h → 0, and `temperature` is None. A preconditioner
    that depends on x needs the further drift h T Γ, Γ_i = ∂G_i/∂x_i, which costs the diagonal of the Hessian
    and is left out, as the paper leaves it out. Where energies are sums over coordinates, small steps then
    sample exp(-E/T) / G(x), which for β = 0 is exp(-E/T) (δ + |∂E/∂x_i|): steep places are too likely. The
    error shrinks as β → 1, when G becomes a constant of the chain.

    Args:
        step_size: h, positive, or a schedule of it.
        preconditioner: G, positive: one number, or numbers that broadcast to an event; None for RMSprop.
        decay: β of RMSprop, in [0, 1); the paper's α = 0.99.
        damping: δ of RMSprop, positive, in units of the gradient; the paper's λ = 1e-5.
        temperature: T, positive.

    Raises:
        ValueError: a number outside of its range.
    Cost: one energy and one input gradient per step, none at the start.
    Notes: (1) h is half of the paper's ε. (2) Every event has its own V. (3) V starts at the first squared
    gradient; from the paper's V = 0 the first steps are 1/√(1 - β) times too long. (4) V starts anew in every
    run of chains.
    Reference: Li, Chen, Carlson & Carin, Preconditioned stochastic gradient Langevin dynamics for deep neural
    networks, AAAI 2016, arXiv:1512.07666, Algorithm 1 and §4 (the omission of Γ).
    """

    evaluations_per_step = 1
    keeps_memory = True

    def __init__(
        self,
        step_size: float | Schedule,
        preconditioner: float | Sequence[float] | Tensor | None = None,
        decay: float = 0.99,
        damping: float = 1e-5,
        temperature: float = 1.0,
    ) -> None:
        self.step_size = as_schedule(step_size)
        self.preconditioner = None if preconditioner is None else _positive_tensor(preconditioner)
        if isinstance(decay, bool) or not isinstance(decay, int | float) or not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {decay!r}")
        self.decay = decay
        self.damping = check_positive("damping", damping)
        self.noise_temperature = check_temperature(temperature)

    @property
    def temperature(self) -> float | None:
        """T with a fixed preconditioner, None with RMSprop."""
        return None if self.preconditioner is None else self.noise_temperature

    def describe(self) -> str:
        """Names the preconditioner that runs after the gradients."""
        return "" if self.preconditioner is not None else "RMSprop preconditioner without its drift Γ"

    def gaussian_precision(self, variance: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """λ of `Langevin` with the step hG, for a G of one number.

        Raises:
            ValueError: with RMSprop or a G of several numbers, with a changing step, or where no λ is stable.
        """
        if self.preconditioner is None or self.preconditioner.numel() != 1:
            raise ValueError("the stationary variance is known for a fixed preconditioner of one number only")
        overdamped = Langevin(scaled(self.step_size, self.preconditioner.item()), self.noise_temperature)
        return overdamped.gaussian_precision(variance)

    def at_scale(self, factor: float) -> "PreconditionedLangevin":
        """Steps h · factor² with a fixed G; with RMSprop, whose G follows, h · factor and δ / factor."""
        running = self.preconditioner is None
        step_size = scaled(self.step_size, factor if running else factor**2)
        damping = self.damping / factor if running else self.damping
        return PreconditionedLangevin(
            step_size, self.preconditioner, self.decay, damping, self.noise_temperature
        )

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
        z = draw if draw is not None else normal_like(x, generator)
        energies, gradient = energy_and_gradient(energy, x)
        G, V = self._preconditioner(gradient, state.memory)
        moved = x - h * G * gradient + math.sqrt(2 * h * T) * G.sqrt() * z
        return State(moved, None, None, state.step + 1, V), Info(energies, gradient, None, None)

    def _preconditioner(self, gradient: Tensor, V: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """G at this step, and the V that it leaves."""
        if self.preconditioner is not None:
            return self.preconditioner.to(gradient), None
        squares = gradient.square()
        V = squares if V is None else self.decay * V + (1 - self.decay) * squares
        return 1 / (self.damping + V.sqrt()), V


def _positive_tensor(preconditioner: float | Sequence[float] | Tensor) -> Tensor:
    numbers = torch.as_tensor(preconditioner, dtype=torch.float64)
    if not ((numbers > 0) & numbers.isfinite()).all():
        raise ValueError(f"preconditioner must be positive and finite, got {preconditioner}")
    return numbers
