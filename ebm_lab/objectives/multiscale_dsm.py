"""Denoising score matching at many noise levels at once, on one energy that does not know of them."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.data.batch import Batch
from ebm_lab.draws import uniform
from ebm_lab.energies import Energy, Tempered, as_events, geometric_ladder, score
from ebm_lab.objectives.known_truth import GaussianTruth
from ebm_lab.objectives.ladder_objective import noised, widened
from ebm_lab.objectives.mcmc import check_chain_length
from ebm_lab.objectives.objective import Objective, Parts
from ebm_lab.samplers import Kernel, Level, anneal


def multiscale_denoising_loss(
    energy: Energy,
    x: Float[Tensor, "batch *shape"],
    z: Float[Tensor, "batch *shape"],
    sigma: Float[Tensor, " batch"],
    target_sigma: float,
) -> Float[Tensor, ""]:
    """mean ½ ‖x - x̃ + σ₀²∇E(x̃)‖² / σ², x̃ = x + σz: with target x̃ - x over one σ₀² at every level σ.

    Cost: that of `denoising_loss`.
    Reference: Li, Chen & Sommer 2019, Learning Energy-Based Models in High-Dimensional Spaces with
    Multi-scale Denoising Score Matching, arXiv 1910.07762, eq. 5 with its weight 1/σ², and ½.
    """
    slope = -score(energy, noised(x, sigma, z), create_graph=True)
    residual = as_events(target_sigma**2 / sigma, x) * slope - z
    return 0.5 * residual.flatten(1).square().sum(1).mean()


class MultiscaleDenoisingScoreMatching(Objective):
    """MDSM: one unconditional energy points from noised events of any level back to the data.

        J = E_σ E ½ ‖x - x̃ + σ₀²∇E(x̃)‖² / σ²,  x̃ = x + σz,  ∇E(x̃) → Ê[x̃ - x | x̃] / σ₀²

    At a distance from the data that noise of σ is likely to reach, ∇E is the score of p_σ times -σ²/σ₀², as
    if E had the temperature σ²/σ₀² there. exp(-E) is no density that was trained, and no likelihood is
    claimed.

    Samples start at the data's Gaussian noised to `largest` and take `num_steps` of `sampler` on E/T at each
    of `num_levels` temperatures T = (σ/σ₀)², σ from `largest` down to σ₀; one jump x - σ₀²∇E(x) ends them.

    Args:
        sigma: σ₀ of the target and of the jump, in the data's units.
        smallest: the least σ in training.
        largest: the greatest.
        spacing: σ is uniform on the range (linear), or its logarithm is (geometric).
        sampler: kernel of the levels, its own step for a level of σ = 1: Langevin takes h = step σ².
        num_levels: temperatures in sampling.
        num_steps: steps at each.

    Raises:
        ValueError: a number out of its range.
    Cost: about 9 forwards.
    Notes: 1. σ is drawn anew for each event; the paper's code has a fixed grid of them in each batch.
        2. The loss has the ½ of every score matching loss here.
    Reference: Li, Chen & Sommer 2019, arXiv 1910.07762, sections 2.2 to 2.4.
    """

    needs_second_derivatives = True
    has_held_out_loss = True
    monitor = "val/loss"
    truth_overrides = ("objective.sigma=1.0", "objective.smallest=0.5", "objective.largest=2.0")
    notes = (
        "Multi-scale denoising score matching leaves an energy whose temperature grows with the distance "
        "from the data: exp(-E) is not a density of anything. The Fisher divergence below is a distance from "
        "the data noised by sigma, which E resembles near the data only. Judge the samples.",
    )

    def __init__(
        self,
        parts: Parts,
        *,
        sampler: Kernel,
        sigma: float = 0.1,
        smallest: float = 0.05,
        largest: float = 3.0,
        spacing: Literal["geometric", "linear"] = "geometric",
        num_levels: int = 12,
        num_steps: int = 50,
    ) -> None:
        super().__init__(parts._replace(sampler=sampler))
        if not 0 < smallest < largest or not 0 < sigma < largest:
            raise ValueError(
                "smallest and sigma must be positive and less than largest, got "
                f"smallest={smallest}, sigma={sigma} and largest={largest}"
            )
        if spacing not in ("geometric", "linear"):
            raise ValueError(f"spacing must be geometric or linear, got {spacing!r}")
        check_chain_length(num_steps, energy_penalty=0.0)
        self.sigma = sigma
        self.smallest = smallest
        self.largest = largest
        self.spacing = spacing
        self.num_steps = num_steps
        self.ladder = geometric_ladder(sigma, largest, num_levels)

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The loss with a fresh level and fresh noise for every event."""
        x = batch.x
        u = uniform(x.shape[:1], x, self.generator)
        return multiscale_denoising_loss(self.energy, x, self.normal_like(x), self.sigma_at(u), self.sigma)

    def sigma_at(self, u: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """The level under which a share u of all draws lies."""
        if self.spacing == "linear":
            return self.smallest + (self.largest - self.smallest) * u
        return self.smallest * (self.largest / self.smallest) ** u

    def claims_likelihood(self) -> bool:
        """Never: exp(-E) is not the law that was trained."""
        return False

    def walk(self, num: int, kernel: Kernel, num_steps: int, generator: torch.Generator) -> Tensor:
        """Down the temperatures with the method's own kernel, whatever `kernel` says."""
        x = widened(self.noise, self.sigma, self.largest, num, generator)
        levels = [
            Level(Tempered(self.energy, (sigma / self.sigma) ** 2), sigma)
            for sigma in reversed(self.ladder.sigmas)
        ]
        return anneal(self.sampler, levels, x, self.num_steps, generator).x

    def true_precision(self, truth: GaussianTruth) -> Float[Tensor, "dim dim"]:
        """(I + Σ E[1/σ²])⁻¹ / σ₀², where the quadratic energy is stationary: 1/σ₀² far from narrow data."""
        return truth.map_eigenvalues(lambda m: 1 / (self.sigma**2 * (1 + m * self._mean_inverse_square())))

    def _mean_inverse_square(self) -> float:
        """E[1/σ²] over the levels."""
        low, high = self.smallest, self.largest
        if self.spacing == "linear":
            return 1 / (low * high)
        return (low**-2 - high**-2) / (2 * math.log(high / low))
