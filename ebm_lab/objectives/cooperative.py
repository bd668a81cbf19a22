"""Cooperative training: a generator proposes, chains refine, and both networks learn from the refined."""

from collections import deque
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_lab.data import Batch, InMemoryData
from ebm_lab.draws import normal_like
from ebm_lab.errors import UserError
from ebm_lab.generators import GeneratorNetwork, LatentPosterior
from ebm_lab.objectives.known_truth import GaussianTruth
from ebm_lab.objectives.maximum_likelihood import likelihood_surrogate
from ebm_lab.objectives.mcmc import chain_metrics, check_chain_length
from ebm_lab.objectives.objective import Objective, Parts, Player
from ebm_lab.objectives.optimization import Optimization
from ebm_lab.objectives.short_run import short_run_precision
from ebm_lab.samplers import MALA, Chains, Kernel, Langevin, run_chains


def reconstruction_loss(
    proposed: Float[Tensor, "batch *shape"], refined: Float[Tensor, "batch *shape"]
) -> Float[Tensor, ""]:
    """mean over the batch of ‖x̂ - g(z)‖², summed over features, x̂ held constant.

    Reference: Xie, Lu, Gao, Zhu & Wu 2018, arXiv 1609.09408, there with the factor 1/(2σ²).
    """
    return (refined.detach() - proposed).flatten(1).square().sum(1).mean()


class Refined(NamedTuple):
    """What the players of one iteration share: latents and the events that chains made of their proposals."""

    z: Float[Tensor, "batch latent_dim"]
    x: Float[Tensor, "batch *shape"]


class CooperativeTraining(Objective):
    """CoopNets: negatives are K kernel steps from a generator's events, and the generator learns from them.

        z ~ N(0, I);  x₀ = g(z) + σ ε;  x̂ = K kernel steps from x₀
        energy:     ∇ E_data[E] - ∇ E_x̂[E]
        generator:  min ‖x̂ - g(z')‖²,  z' = z kept, or inferred: steps on ½‖z‖² + ‖x̂ - g(z)‖²/(2σ²) from z

    With the latents inferred the generator follows the likelihood of the refined events. The joint fixed
    point is the law that the kernel leaves as it is: the generator's own with its noise, and the data's.
    With the latents kept g regresses to E[x̂ | z], which has forgotten what the chains drew. Where chains
    forget their start g shrinks to a point and the energy learns to be a short run from there; where they
    are too short for that the energy flattens, and g carries all. exp(-E) is the density of the data in
    neither, as in short-run MCMC. With little noise in the chains, as on images, kept latents lose little.

    Args:
        generator: g.
        generator_optimizer: of g.
        num_steps: K, kernel steps from the generator's events, in training and in generation.
        generator_noise: σ, in the data's units; 0 adds none, and then no latent can be inferred.
        inference_steps: MALA steps on the latents before g learns; 0 keeps them.
        inference_step_size: of these, in squared units of z.
        energy_penalty: α of α (mean E(x)² + mean E(x̂)²); 0 is off.

    Raises:
        ValueError: for a number out of range, or inference without noise.
    Cost: K forwards and input gradients of E, one parameter gradient on two batches, one forward of g,
        `inference_steps` forwards and gradients in z of g, and one parameter gradient of g.
    Notes: 1. Inference is by MALA, in the paper by Langevin steps; the published code keeps the latents.
        2. The paper's 1/(2σ²) before the square is left to the learning rate. 3. The refined events are drawn
        once an iteration, in the energy's turn, and kept for the generator's.
    Reference: Xie, Lu, Gao & Wu 2018, Cooperative Learning of Energy-Based Model and Latent Variable Model
        via MCMC Teaching, AAAI; Xie, Lu, Gao, Zhu & Wu 2018, arXiv 1609.09408.
    """

    trains_by_sampling = True
    truth_overrides = (
        "objective.generator.depth=0",  # x = A z + σ ε: every law that is needed is Gaussian
        "objective.generator.latent_dim=${data.dim}",
        "objective.generator_optimizer.lr=0.02",
        "objective.num_steps=5",
        "objective.generator_noise=0.5",
        "objective.inference_steps=20",
        "objective.inference_step_size=0.15",
    )

    def __init__(
        self,
        parts: Parts,
        *,
        generator: GeneratorNetwork,
        generator_optimizer: Optimization,
        num_steps: int = 10,
        generator_noise: float = 0.3,
        inference_steps: int = 10,
        inference_step_size: float = 0.05,
        energy_penalty: float = 0.0,
    ) -> None:
        super().__init__(parts)
        check_chain_length(num_steps, energy_penalty)
        if generator_noise < 0 or inference_steps < 0:
            raise ValueError(
                "generator_noise and inference_steps must not be negative, got "
                f"{generator_noise} and {inference_steps}"
            )
        if inference_steps and not generator_noise:
            raise ValueError(
                "without noise a latent has no posterior: set objective.generator_noise above 0, or keep the "
                "latents with objective.inference_steps=0"
            )
        self.network = generator
        self.generator_optimizer = generator_optimizer
        self.num_steps = num_steps
        self.generator_noise = generator_noise
        self.inference_steps = inference_steps
        self.inference = MALA(inference_step_size)
        self.energy_penalty = energy_penalty
        self._refined: deque[Refined] = deque(maxlen=parts.optimizer.micro_batches)

    def players(self) -> dict[str, Player]:
        """The energy, which draws what both learn from, and the generator."""
        return {
            "energy": Player(self.energy_loss, self.energy, self.optimization),
            "generator": Player(self.generator_loss, self.network, self.generator_optimizer),
        }

    def check(self, data: InMemoryData) -> None:
        """Both players must split a batch alike: they share its refined events."""
        super().check(data)
        mine, other = self.optimization.micro_batches, self.generator_optimizer.micro_batches
        if mine != other:
            raise UserError(
                f"optimizer.micro_batches={mine} and objective.generator_optimizer.micro_batches={other} "
                "must be equal: both players learn from the same refined events"
            )

    def energy_loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The surrogate on the batch and on refined events, which are kept for the generator."""
        z, start = self._propose(len(batch.x), self.generator)
        chains = self._refine(self.sampler, start, self.generator)
        self._refined.append(Refined(z, chains.x))
        phases = likelihood_surrogate(self.energy, batch.x, chains.x, self.energy_penalty)
        moved = (chains.x - start).flatten(1).norm(dim=1).mean()
        self.record(**chain_metrics(phases, chains, self.sampler), refinement=moved)
        return phases.loss

    def generator_loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The distance to the refined events of the energy's turn, oldest part first."""
        z, x = self._refined.popleft()
        if self.inference_steps:
            posterior = LatentPosterior(self.network, x, self.generator_noise)
            chains = run_chains(self.inference, posterior, z, self.inference_steps, self.generator)
            self.record(inference_acceptance=chains.acceptance)
            z = chains.x
        return reconstruction_loss(self.network(z), x)

    @torch.no_grad()
    def _propose(self, num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        z = self.network.latents(num, generator)
        x = self.network(z)
        if self.generator_noise:
            noise = normal_like(x, generator)
            x = x + self.generator_noise * noise
        return z, x

    def _refine(self, kernel: Kernel, x: Tensor, generator: torch.Generator) -> Chains:
        return run_chains(kernel, self.energy, x, self.num_steps, generator)

    def walk(self, num: int, kernel: Kernel, num_steps: int, generator: torch.Generator) -> Tensor:
        """The generator's events and K steps of the training kernel, whatever `kernel` says."""
        _, start = self._propose(num, generator)
        return self._refine(self.sampler.freeze(), start, generator).x

    def claims_likelihood(self) -> bool:
        """Not with kept latents, where chains do not start at their own law at the optimum."""
        return self.inference_steps > 0 and super().claims_likelihood()

    @property
    def notes(self) -> tuple[str, ...]:
        """What kept latents lead to."""
        if self.inference_steps:
            return ()
        return (
            "The generator's latents were kept (objective.inference_steps=0): it learns the mean of what the "
            "chains make of a latent, and exp(-E) makes up for that. Judge the samples; exp(-E) is not the "
            "data's density, whatever the divergences below say.",
        )

    def true_precision(self, truth: GaussianTruth) -> Float[Tensor, "dim dim"]:
        """With inferred latents, of the law that the kernel leaves as it is; with kept ones, of a short run.

        For x = A z + σ ε with kept z, K Langevin steps contract E[x̂ | z] to (1 - hλ)^K A z: A vanishes, and
        λ is that at which K steps from N(0, σ²I) end with the data's variance.
        """
        if self.inference_steps:
            return truth.map_eigenvalues(self.sampler.gaussian_precision)
        if not isinstance(self.sampler, Langevin) or self.sampler.temperature != 1:
            raise UserError("cooperative with kept latents has a closed form for sampler=langevin, T=1 only")
        h, start = self.sampler.step_size(0), self.generator_noise**2
        return truth.map_eigenvalues(lambda m: short_run_precision(float(m), h, self.num_steps, start).to(m))

    def _true_covariance(self, truth: GaussianTruth) -> Float[Tensor, "dim dim"]:
        """Of the generator's events with their noise: the data's, or nothing but the noise."""
        return truth.map_eigenvalues(lambda m: m if self.inference_steps else 0 * m + self.generator_noise**2)

    def known_truth(self, truth: GaussianTruth) -> dict[str, Float[Tensor, ""]]:
        """The energy's precision and the covariance C of the generator's events."""
        return super().known_truth(truth) | _of_generator(truth, self._true_covariance(truth))

    def learned(self, truth: GaussianTruth) -> dict[str, Float[Tensor, ""]]:
        """The same of the trained networks, C = A Aᵀ + σ²I with A read off the affine generator."""
        with torch.no_grad():
            identity = torch.eye(self.network.latent_dim, device=self.device, dtype=self.dtype)
            columns = (self.network(identity) - self.network(0 * identity)).double()
        noise = self.generator_noise**2 * torch.eye(columns.shape[1]).to(columns)
        return super().learned(truth) | _of_generator(truth, columns.T @ columns + noise)

    def place(self, truth: GaussianTruth, factor: float) -> dict[nn.Parameter, Tensor]:
        """As everywhere, with the generator at its own truth."""
        noise = self.generator_noise**2 * torch.eye(len(truth.covariance)).to(truth.covariance)
        without = GaussianTruth(self._true_covariance(truth) - noise)
        self.network.set_map(without.map_eigenvalues(lambda m: m.clamp(min=0).sqrt()))  # 0 up to rounding
        return super().place(truth, factor)


def _of_generator(truth: GaussianTruth, covariance: Float[Tensor, "dim dim"]) -> dict[str, Tensor]:
    return {name.replace("P", "C"): value for name, value in truth.expected(covariance).items()}
