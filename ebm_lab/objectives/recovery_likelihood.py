"""Diffusion recovery likelihood: maximum likelihood of noised data given the same data with more noise."""

import torch
from jaxtyping import Float, Int
from scipy.optimize import brentq
from torch import Tensor

from ebm_lab.data import Batch
from ebm_lab.energies import Energy, NoiseLadder, as_events
from ebm_lab.errors import UserError
from ebm_lab.objectives.known_truth import LadderTruth
from ebm_lab.objectives.ladder_objective import LadderObjective, noised
from ebm_lab.objectives.maximum_likelihood import Phases, likelihood_surrogate
from ebm_lab.objectives.mcmc import chain_metrics
from ebm_lab.objectives.objective import Parts
from ebm_lab.samplers import Chains, ExactKernel, Kernel, Langevin, run_chains


class RecoveryEnergy(Energy):
    """-log p(x_t | x_{t+1}) of x_t = δu, δ the noise between both: u -> E(δu) + ½ w ‖u - x_{t+1}/δ‖².

    In these units the second term's Hessian is I at every level, and one step size fits all.

    Args:
        energy: x -> E(x) of x_t, its level bound.
        above: x_{t+1}.
        unit: δ > 0 of each event.
        coupling: w of each event: 1, or 0 for the marginal law of x_t, which has no level above.
    """

    def __init__(
        self,
        energy: Energy,
        above: Float[Tensor, "batch *shape"],
        unit: Float[Tensor, " batch"],
        coupling: Float[Tensor, " batch"],
    ) -> None:
        super().__init__()
        self.energy = energy
        self.shape = energy.shape
        self.unit = as_events(unit, above)
        self.centre = above / self.unit
        self.coupling = coupling

    def forward(self, u: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """E(δu) + ½ w ‖u - x_{t+1}/δ‖²."""
        pull = 0.5 * (u - self.centre).flatten(1).square().sum(1)
        return self.energy(self.unit * u) + self.coupling * pull


def recovery_loss(
    energy: Energy,
    x: Float[Tensor, "batch *shape"],
    x_model: Float[Tensor, "batch *shape"],
    sigma: Float[Tensor, " batch"],
    weights: Float[Tensor, " batch"],
) -> Phases:
    """mean w (E(x, σ) - E(x_model, σ)), whose gradient is that of -w log p(x | x_{t+1}).

    That holds for x_model ~ p(x_t | x_{t+1}) under the energy itself. The quadratic term of the conditional
    energy is free of parameters and drops out of the gradient.

    Reference: Gao, Song, Poole, Wu & Kingma 2021, arXiv 2012.08125, eq. 10 and algorithm 1.
    """
    both = energy.given(sigma=torch.cat([sigma, sigma]))
    share = weights / len(weights)
    return likelihood_surrogate(both, x, x_model, weights=share, data_weights=share)


class RecoveryLikelihood(LadderObjective):
    """DRL: one energy E(x, σ) learns the law at each level of noise, each given the level above.

        x_t = x + σ_t z,  x_{t+1} = x_t + δ_{t+1} z'
        log p(x_t | x_{t+1}) = -E(x_t, σ_t) - ‖x_{t+1} - x_t‖² / (2 δ²_{t+1}) + c(x_{t+1}, σ_t)

    The loss is the negative mean of these, at one random level an event; the top level has none above it
    and is learned as a marginal law. Where neighbouring levels are close, a conditional law is close to a
    Gaussian of width δ, which K steps from x_{t+1} sample, as they would not the data's. At the optimum
    -E(x, σ_t) = log p_{σ_t}(x) + c: the model is E(·, σ_0), of the data noised by σ_0.

    Samples descend from the top: K steps to each level, started at the level above, and at the end the
    jump to the posterior mean of the clean data.

    Args:
        ladder: the levels σ_0 < ... < σ_T.
        sampler: kernel of the conditional laws, at temperature 1; its steps are in units of δ_{t+1}, at
            the top of σ_T.
        num_steps: K.
        weight_power: p of a level's weight in the loss, σ_t^p, with mean 1 over the levels.

    Raises:
        ValueError: a number outside of its range, or a sampler of another temperature.
    Cost: K forwards and input gradients, and one parameter gradient on two batches; K (T + 1) forwards and
        input gradients for a sample.
    Notes: 1. The paper's ladder shrinks the signal, x_{t+1} = a x_t + √(1 - a²) z. Here all levels are in
        the data's scale, a = 1: the same in other coordinates (`variance_preserving_ladder`).
        2. Chains sample exp(-E), at T = 1. The paper's network f enters its loss as it is and its chains
        as f/ε², with ε² = b²cδ², c = σ_t/σ_0 and steps h = ε²/2, so that there E = -f/ε². A scale of that
        kind is no option here; E has that of its network. The paper's h is 1e-4 cδ², with which 30 steps
        are nearly a descent.
        3. Its weight σ_1/σ_{t+1} of f is one of cσ_{t+1} of E, about p = 2. With p = 1 the outputs of a
        network of `NoiseConditioning` have one weight at all levels.
        4. The top level's chains start at the run's noise, which is fitted to the data, with as much more
        on it as the level has; in the paper at N(0, I).
        5. Where K steps do not forget x_{t+1}, E makes up for it and exp(-E) is off: `recovered_precision`
        says by how much on a Gaussian.
    Reference: Gao, Song, Poole, Wu & Kingma 2021, Learning Energy-Based Models by Diffusion Recovery
    Likelihood, arXiv 2012.08125, sections 3.2 to 3.4 and the authors' code; the conditional laws are Bengio
    et al. 2013, arXiv 1305.6663.
    """

    trains_by_sampling = True
    notes = (
        "Recovery likelihood learns the density of the data under the smallest noise of its ladder; its "
        "samples descend the whole ladder and end with a jump to the clean data.",
    )

    def __init__(
        self,
        parts: Parts,
        *,
        ladder: NoiseLadder,
        sampler: Kernel,
        num_steps: int = 20,
        weight_power: float = 1.0,
    ) -> None:
        super().__init__(parts, ladder=ladder, sampler=sampler, num_steps=num_steps)
        if sampler.temperature not in (None, 1):
            raise ValueError(
                "the noise between levels is what the ladder says at temperature 1 only: set "
                f"sampler.temperature=1, got {sampler.temperature:g}"
            )
        weights = self.sigmas**weight_power
        self.register_buffer("units", torch.tensor([*ladder.steps, ladder.sigmas[-1]]), persistent=False)
        self.register_buffer("weights", weights / weights.mean(), persistent=False)

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The surrogate on the batch, each event at a random level, and on chains from the level above."""
        num, top = len(batch.x), len(self.sigmas) - 1
        levels = self.draw_levels(num)
        x = noised(batch.x, self.sigmas[levels], self.normal_like(batch.x))
        above = noised(x, self.units[levels], self.normal_like(x))
        above = torch.where(as_events(levels == top, x), self.start(num, self.generator).to(x), above)
        chains = self._step_down(self.sampler, above, levels, self.generator)
        phases = recovery_loss(self.energy, x, chains.x, self.sigmas[levels], self.weights[levels])
        self.record(**chain_metrics(phases, chains, self.sampler))
        return phases.loss

    def walk(self, num: int, kernel: Kernel, num_steps: int, generator: torch.Generator) -> Tensor:
        """From the top level down, K steps of the training kernel to each, whatever `kernel` says."""
        x = self.start(num, generator)
        for level in reversed(range(len(self.sigmas))):
            levels = torch.full((num,), level, device=x.device)
            x = self._step_down(self.sampler.freeze(), x, levels, generator).x
        return x

    def _step_down(
        self,
        kernel: Kernel,
        above: Float[Tensor, "num *shape"],
        levels: Int[Tensor, " num"],
        generator: torch.Generator,
    ) -> Chains:
        """K steps from x_{t+1} toward x_t at each event's own level t."""
        unit = self.units[levels]
        coupling = (levels < len(self.sigmas) - 1).to(unit)
        energy = RecoveryEnergy(self.energy.given(sigma=self.sigmas[levels]), above, unit, coupling)
        chains = run_chains(kernel, energy, energy.centre, self.num_steps, generator)
        return chains._replace(x=energy.unit * chains.x)

    def answer(self, truth: LadderTruth) -> Float[Tensor, "levels dim dim"]:
        """P_k, with the bias of the chains: none where the kernel is exact and forgets its start."""
        variances = [float(sigma) ** 2 for sigma in self.sigmas]
        return torch.stack(
            [
                truth.map_eigenvalues(lambda m, k=k, v=v: self._level_precision(k, m + v))
                for k, v in enumerate(variances)
            ]
        )

    def _level_precision(self, level: int, variance: Float[Tensor, ""]) -> Float[Tensor, ""]:
        if isinstance(self.sampler, ExactKernel):
            return 1 / variance
        if not isinstance(self.sampler, Langevin):
            raise UserError("recovery_likelihood has a closed form for Langevin and for exact kernels only")
        unit = float(self.units[level])
        scaled = variance / unit**2
        precision = self.sampler.gaussian_precision(
            scaled
        )  # of the top level, whose start has the law itself
        if level < len(self.sigmas) - 1:
            precision = recovered_precision(float(scaled), self.sampler.step_size(0), self.num_steps).to(
                scaled
            )
        return precision / unit**2


def recovered_precision(variance: float, step_size: float, num_steps: int) -> Tensor:
    """λ at which K steps of Langevin from x_{t+1} = x_t + z end with the variance m of x_t.

    There the loss is stationary. On u -> ½ λ u² + ½ (u - x_{t+1})² the chain ends at
    u_K = (1/Λ + a^K (1 - 1/Λ)) x_{t+1} + √v_K z with Λ = λ + 1, a = 1 - hΛ and
    v_K = 2h (1 - a^{2K}) / (1 - a²). With h -> 0 and K -> ∞ it is λ = 1/m.
    """

    def excess(total: float) -> float:
        decay = 1 - step_size * total
        kept = 1 / total + decay**num_steps * (1 - 1 / total)
        noise = 2 * step_size * (1 - decay ** (2 * num_steps)) / (1 - decay**2)
        return kept**2 * (variance + 1) + noise - variance

    if excess(1e-9) < 0 or excess(1 / step_size) > 0:
        raise UserError(
            f"{num_steps} steps of {step_size:g} bring a variance of {variance + 1:g} to none of "
            f"{variance:g}: take more or larger steps"
        )
    return torch.tensor(brentq(excess, 1e-9, 1 / step_size) - 1, dtype=torch.float64)
