"""Maximum likelihood with walkers that carry the weights of Jarzynski's identity."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.data import Batch, InMemoryData
from ebm_lab.energies.energy import energy_and_gradient, frozen
from ebm_lab.errors import UserError
from ebm_lab.objectives.known_truth import GaussianTruth
from ebm_lab.objectives.maximum_likelihood import likelihood_surrogate
from ebm_lab.objectives.objective import Objective, Parts
from ebm_lab.samplers import Constant, Langevin
from ebm_lab.samplers.weights import effective_share, log_mean_exp, systematic

ENOUGH = 0.5  # effective share of the walkers below which they are resampled


def path_energy(
    x: Float[Tensor, "num *shape"],
    y: Float[Tensor, "num *shape"],
    energies: Float[Tensor, " num"],
    gradient: Float[Tensor, "num *shape"],
    step_size: float,
) -> Float[Tensor, " num"]:
    """α(x, y) = E(x) + ½ (y - x)·∇E(x) + (h/4) ‖∇E(x)‖² of a Langevin step from x to y, E and ∇E taken at x.

    It is -log of exp(-E(x)) q(y | x) without ‖y - x‖² / 4h, which is the same on the way back; so
    α(x, y) - α(y, x) under one energy is the log acceptance ratio of MALA.

    Reference: Carbone, Hua, Coste & Vanden-Eijnden 2023, arXiv 2305.19414, proposition 1.
    """
    work = 0.5 * ((y - x) * gradient).flatten(1).sum(1)
    return energies + work + step_size / 4 * gradient.flatten(1).square().sum(1)


class Walkers(NamedTuple):
    """Where walkers stand after a step whose weights wait for the parameters that come next.

    Attributes:
        x: X_{k+1}.
        origin: X_k, from which the step was taken under E_k.
        carried: A_k + α_k(X_k, X_{k+1}).
        taken: the part of log Z that resampling took out of the weights.
    """

    x: Float[Tensor, "num *shape"]
    origin: Float[Tensor, "num *shape"]
    carried: Float[Tensor, " num"]
    taken: Float[Tensor, ""]


class Weighed(NamedTuple):
    """Walkers with their log weights A_k, and E_k and ∇E_k where they stand."""

    x: Float[Tensor, "num *shape"]
    log_weights: Float[Tensor, " num"]
    energies: Float[Tensor, " num"]
    gradient: Float[Tensor, "num *shape"]
    taken: Float[Tensor, ""]

    @property
    def log_z(self) -> Float[Tensor, ""]:
        """log Z_k - log Z_0 = log E[exp(A_k)], with what resampling took out."""
        return self.taken + log_mean_exp(self.log_weights)


def at_rest(energy: Callable[[Tensor], Tensor], x: Float[Tensor, "num *shape"]) -> Weighed:
    """Draws of exp(-E) / Z_0, all of one weight."""
    return Weighed(x, x.new_zeros(len(x)), *energy_and_gradient(energy, x), x.new_zeros(()))


def weigh(energy: Callable[[Tensor], Tensor], walkers: Walkers, step_size: float) -> Weighed:
    """A_{k+1} = A_k + α_k(X_k, X_{k+1}) - α_{k+1}(X_{k+1}, X_k), whatever E_{k+1} is.

    For every k and every h: E[φ(X_k) exp(A_k)] = E_{p_k}[φ] Z_k / Z_0.
    """
    x, origin, carried, taken = walkers
    energies, gradient = energy_and_gradient(energy, x)
    log_weights = carried - path_energy(x, origin, energies, gradient, step_size)
    return Weighed(x, log_weights, energies, gradient, taken)


def move(weighed: Weighed, z: Float[Tensor, "num *shape"], step_size: float) -> Walkers:
    """X_{k+1} = X_k - h ∇E_k(X_k) + √(2h) z."""
    x, log_weights, energies, gradient, taken = weighed
    y = x - step_size * gradient + math.sqrt(2 * step_size) * z
    return Walkers(y, x, log_weights + path_energy(x, y, energies, gradient, step_size), taken)


def resampled(weighed: Weighed, u: Float[Tensor, ""]) -> Weighed:
    """As many walkers, each as often as its weight says, and A = 0; log Z takes up log mean exp(A)."""
    index = systematic(weighed.log_weights, u)
    x, log_weights, energies, gradient, _ = weighed
    return Weighed(x[index], torch.zeros_like(log_weights), energies[index], gradient[index], weighed.log_z)


class JarzynskiLikelihood(Objective):
    """Maximum likelihood whose negatives are weighted walkers, with the running log Z as a by-product.

    Gradient ∇ E_data[E] - Σ_i w_i ∇E(X_i), w = softmax(A). Walkers take unadjusted Langevin steps while the
    parameters move; A corrects both that they lag behind and that the step is finite,

        A_{k+1} = A_k + α_k(X_k, X_{k+1}) - α_{k+1}(X_{k+1}, X_k),
        Z_k = Z_0 E[exp(A_k)],    E_{p_k}[φ] = E[φ(X_k) exp(A_k)] / E[exp(A_k)],

    exactly at every step size. A step's weights wait for the parameters that the optimizer makes of it, so
    `log_z` holds for whatever parameters are in place, averaged ones too. Walkers start as draws from the
    noise and are carried to the first model by the same identity, along (1 - t)(-log q) + t E: log Z_0 = 0.

    Args:
        num_walkers: N; all of them are the negatives of every iteration.
        num_witnesses: further walkers from which nothing is learned, on which log Z is read.
        num_steps: Langevin steps of every walker per iteration.
        annealing_steps: steps from the noise to the first model, once.

    Raises:
        ValueError: for a number below 1, or a sampler that is not Langevin of constant step at a temperature.
    Cost: per iteration num_steps forwards and input gradients on all walkers, and one parameter gradient on
        batch + N.
    Notes: 1. The identity is about parameters that move of their own accord. Those that learn from a walker
        raise its energy: on the negatives, as in the paper, log Z errs low (by 1.5 nats on a Gaussian in 10
        dimensions after 800 iterations of Adam with N = 1000), on witnesses by half its variance only.
        2. Weights collapse when parameters move fast: watch `train/ess`, the effective share of the
        negatives, and lower lr. 3. Below ½ walkers are resampled (systematic; the paper's threshold).
        4. The paper takes one step per iteration. 5. At T ≠ 1 all of this is about E/T with step hT, the
        same chain. 6. On several processes each has walkers of its own.
    Reference: Carbone, Hua, Coste & Vanden-Eijnden 2023, arXiv 2305.19414, proposition 1 and algorithm 1.
    """

    trains_by_sampling = True
    has_held_out_loss = True
    monitor = "val/loss"
    truth_overrides = ("objective.num_steps=10",)  # so that iterations are nearly independent

    def __init__(
        self,
        parts: Parts,
        *,
        num_walkers: int = 1000,
        num_witnesses: int = 1000,
        num_steps: int = 1,
        annealing_steps: int = 100,
    ) -> None:
        super().__init__(parts)
        counts = {
            "num_walkers": num_walkers,
            "num_witnesses": num_witnesses,
            "num_steps": num_steps,
            "annealing_steps": annealing_steps,
        }
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f"{name} must be at least 1, got {count}")
        kernel = parts.sampler
        langevin = isinstance(kernel, Langevin) and isinstance(kernel.step_size, Constant)
        if not langevin or kernel.temperature is None:
            raise ValueError(
                "the weights belong to Langevin of constant step, without clip or clamp: choose "
                "sampler=langevin"
            )
        self.num_walkers = num_walkers
        self.num_witnesses = num_witnesses
        self.num_steps = num_steps
        self.annealing_steps = annealing_steps
        self.step_size = kernel.step_size(0) * kernel.temperature
        self._populations: list[Walkers] = []  # negatives and witnesses, from the first iteration on

    def check(self, data: InMemoryData) -> None:
        """The walkers leave every box."""
        super().check(data)
        if not self.noise.has_full_support:
            raise UserError(
                f"the walkers start in the noise and walk out of {type(self.noise).__name__}, which has an "
                "edge: choose noise=gaussian"
            )

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The surrogate on the batch and the weighted negatives; leaves all walkers one step ahead."""
        ahead = [self._walk(walkers) for walkers in self.populations]
        self._populations = [walkers for _, walkers in ahead]
        negatives, witnesses = (weighed for weighed, _ in ahead)
        weights = negatives.log_weights.softmax(0)
        phases = likelihood_surrogate(self.energy, batch.x, negatives.x, weights=weights)
        energy_data, energy_model = phases.energy_data.mean(), weights @ phases.energy_model
        self.record(
            energy_data=energy_data,
            energy_model=energy_model,
            energy_gap=energy_data - energy_model,
            sampler_gradient_norm=negatives.gradient.flatten(1).norm(dim=1).mean(),
            ess=effective_share(negatives.log_weights),
            log_z=witnesses.log_z,
            log_likelihood=-energy_data / self.sampler.temperature - witnesses.log_z,
        )
        return phases.loss

    def _walk(self, walkers: Walkers) -> tuple[Weighed, Walkers]:
        """An iteration's steps: the walkers as the current parameters weigh them, and one step ahead."""
        for _ in range(self.num_steps):
            weighed = self._weigh(self._tempered, walkers)
            walkers = move(weighed, self.normal_like(weighed.x), self.step_size)
        return weighed, walkers

    def _weigh(self, energy: Callable[[Tensor], Tensor], walkers: Walkers) -> Weighed:
        """Weighed, and resampled where few of them carry the weight."""
        weighed = weigh(energy, walkers, self.step_size)
        if effective_share(weighed.log_weights) >= ENOUGH:
            return weighed
        return resampled(weighed, torch.rand((), generator=self.generator, device=weighed.x.device))

    def _tempered(self, x: Tensor) -> Tensor:
        """E(x) / T, the walkers' own energy."""
        with frozen(self.energy):
            return self.energy(x) / self.sampler.temperature

    @property
    def populations(self) -> list[Walkers]:
        """Negatives and witnesses, started at the first use, when the device is known."""
        if not self._populations:
            self._populations = [self._started(num) for num in (self.num_walkers, self.num_witnesses)]
        if self._populations[0].x.device != self.device:
            moved = [[part.to(self.device) for part in walkers] for walkers in self._populations]
            self._populations = [Walkers(*parts) for parts in moved]
        return self._populations

    def _started(self, num: int) -> Walkers:
        """Draws of the noise, carried from t = 0 to one step before the model at t = 1."""
        weighed = at_rest(self._between(0.0), self.noise.sample(num, self.generator))
        for step in range(1, self.annealing_steps):
            walkers = move(weighed, self.normal_like(weighed.x), self.step_size)
            weighed = self._weigh(self._between(step / self.annealing_steps), walkers)
        return move(weighed, self.normal_like(weighed.x), self.step_size)

    def _between(self, t: float) -> Callable[[Tensor], Tensor]:
        """x -> (1 - t)(-log q(x)) + t E(x) / T."""
        return lambda x: (t - 1) * self.noise.log_prob(x) + (t * self._tempered(x) if t else 0.0)

    def log_z(self) -> float | None:
        """log Z of `model` with the parameters that are in place; None before the first iteration."""
        if not self._populations:
            return None
        return float(weigh(self._tempered, self.populations[1], self.step_size).log_z)

    def on_validation_epoch_start(self) -> None:
        """log Z of the weights that are in place for this validation, once."""
        super().on_validation_epoch_start()
        with self.uncounted():
            self._held_out_log_z = self.log_z()

    def held_out_loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The negative log-likelihood, mean E(x) / T + log Z."""
        return self._tempered(batch.x).mean() + self._held_out_log_z

    def known_truth(self, truth: GaussianTruth) -> dict[str, Float[Tensor, ""]]:
        """Σ⁻¹ and its log Z: finite steps leave no bias."""
        precision = self.true_precision(truth)
        return truth.expected(precision) | {"log Z": truth.log_partition(precision)}

    def learned(self, truth: GaussianTruth) -> dict[str, Float[Tensor, ""]]:
        """Precision and running log Z."""
        log_z = weigh(self._tempered, self.populations[1], self.step_size).log_z
        return super().learned(truth) | {"log Z": log_z.double()}

    def chain_state(self) -> dict[str, Any]:
        """Walkers, what their weights carry, and the log Z that resampling took out."""
        return {"populations": [walkers._asdict() for walkers in self._populations]}

    def load_chain_state(self, state: dict[str, Any]) -> None:
        """Take them back."""
        self._populations = [Walkers(**walkers) for walkers in state.get("populations", [])]
