"""What methods share that learn the data at many levels of noise with one model."""

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ebm_lab.data import InMemoryData
from ebm_lab.draws import normal_like
from ebm_lab.energies import Energy, NoiseLadder, ScoreNetwork, as_events
from ebm_lab.errors import UserError
from ebm_lab.noise import Noise
from ebm_lab.objectives.known_truth import KnownTruth, LadderTruth
from ebm_lab.objectives.mcmc import check_chain_length
from ebm_lab.objectives.objective import Objective, Parts
from ebm_lab.samplers import Kernel, Level, anneal


class LadderObjective(Objective):
    """Base of methods whose model is one of x and a noise level, E(x, σ) or s(x, σ), for σ_0 < ... < σ_T.

    What is learned is the law of the data noised by σ_0, the model at that level. Samples start at the
    data's Gaussian noised to σ_T, take `num_steps` of `sampler` at every level from the widest to the
    narrowest, and end with the jump to the posterior mean of the clean data: annealed Langevin dynamics.

    Args:
        ladder: the levels.
        sampler: kernel of the levels, its own step for a level of σ = 1: Langevin takes h_k = h σ_k².
        num_steps: steps at each level.

    Raises:
        ValueError: fewer than one step.
    """

    takes_levels = True
    truth = LadderTruth
    needs_steps: ClassVar[bool] = True  # at a level; else moves between levels may be all that samples take

    def __init__(self, parts: Parts, *, ladder: NoiseLadder, sampler: Kernel, num_steps: int) -> None:
        super().__init__(parts._replace(sampler=sampler))
        if self.needs_steps:
            check_chain_length(num_steps, energy_penalty=0.0)
        self.num_steps = num_steps
        self.sigma = ladder.sigmas[0]
        self.register_buffer("sigmas", torch.tensor(ladder.sigmas), persistent=False)

    def check(self, data: InMemoryData) -> None:
        """The energy must know of noise levels."""
        super().check(data)
        check_noise_conditional(self)

    def draw_levels(self, num: int) -> Int[Tensor, " num"]:
        """A level for each event, all equally likely."""
        top = len(self.sigmas)
        return torch.randint(top, (num,), generator=self.generator, device=self.sigmas.device)

    def model(self) -> Energy | ScoreNetwork:
        """E(·, σ_0), or s(·, σ_0): the law of the data noised by the smallest level."""
        return self.energy.given(sigma=self.sigmas[0])

    def walk(self, num: int, kernel: Kernel, num_steps: int, generator: torch.Generator) -> Tensor:
        """From the top level down with the method's own kernel, whatever `kernel` says."""
        x = self.start(num, generator)
        levels = [Level(self.energy.given(sigma=s), float(s)) for s in self.sigmas.flip(0)]
        return anneal(self.sampler, levels, x, self.num_steps, generator).x

    def start(self, num: int, generator: torch.Generator) -> Float[Tensor, "num *shape"]:
        """Events like those of the top level: the run's noise, which is like x_0, noised to σ_T."""
        return widened(self.noise, float(self.sigmas[0]), float(self.sigmas[-1]), num, generator)

    def answer(self, truth: KnownTruth) -> Tensor:
        """P_k = (Σ + σ_k²I)⁻¹ of a ladder: no bias."""
        if not isinstance(truth, LadderTruth):
            return super().answer(truth)
        variances = [float(sigma) ** 2 for sigma in self.sigmas]
        return torch.stack([truth.map_eigenvalues(lambda m, v=v: 1 / (m + v)) for v in variances])


def check_noise_conditional(objective: Objective) -> None:
    """Refuse an energy that is not one of x and a noise level.

    Raises:
        UserError: one sentence with the choices that work.
    """
    if not objective.energy.noise_conditional:
        raise UserError(
            f"{type(objective).__name__} needs an energy of noise levels, and "
            f"{type(objective.energy).__name__} is none: choose energy=mlp, convnet, resnet, wide_resnet or "
            "unet with conditioning=noise_level, or one of your own with noise_conditional = True and a "
            "forward(x, sigma)"
        )


def noised(
    x: Float[Tensor, "batch *shape"],
    sigma: Float[Tensor, " batch"],
    z: Float[Tensor, "batch *shape"],
) -> Float[Tensor, "batch *shape"]:
    """x + σz, each event with a level of its own."""
    return x + as_events(sigma, x) * z


def widened(
    noise: Noise, low: float, high: float, num: int, generator: torch.Generator
) -> Float[Tensor, "num *shape"]:
    """Draws of a noise that was fitted to data noised by σ = low, with as much more on them as high has."""
    x = noise.sample(num, generator)
    z = normal_like(x, generator)
    return x + (high**2 - low**2) ** 0.5 * z
