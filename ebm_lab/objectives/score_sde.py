"""Score-based models of a diffusion: the score at every time, reverse diffusion, likelihood by its flow."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.data import Batch
from ebm_lab.draws import normal_like, uniform
from ebm_lab.energies import Diffusion, Energy, NoiseLadder, ScoreNetwork, score
from ebm_lab.noise import NoisedGaussian
from ebm_lab.objectives.flow_ladder import FlowLadder
from ebm_lab.objectives.known_truth import NoisedTruth
from ebm_lab.objectives.ncsn import conditional_denoising_loss
from ebm_lab.objectives.objective import Parts
from ebm_lab.samplers import Kernel, Level, anneal


def diffusion_loss(
    model: Energy | ScoreNetwork,
    x: Float[Tensor, "batch *shape"],
    z: Float[Tensor, "batch *shape"],
    t: Float[Tensor, " batch"],
    diffusion: Diffusion,
    weighting: Literal["variance", "likelihood"] = "variance",
) -> Float[Tensor, ""]:
    """mean λ(t) ½ ‖s_t(x_t) + z/std(t)‖², x_t = α(t) x + std(t) z, λ = std² (variance) or g² (likelihood).

    In the data's coordinates: std s_t(x_t) = σ s(x + σz, σ), σ = std/α.

    Cost: that of `denoising_loss`.
    Reference: Song et al. 2021, arXiv 2011.13456, eq. 7, with ½; for g² Song, Durkan, Murray & Ermon 2021,
    Maximum Likelihood Training of Score-Based Diffusion Models, arXiv 2101.09258, theorem 1.
    """
    weights = None if weighting == "variance" else (diffusion.diffusion(t) / diffusion.std(t)).square()
    return conditional_denoising_loss(model, x, z, diffusion.sigma(t), weights)


def predicted(
    model: Energy | ScoreNetwork,
    x: Float[Tensor, "batch *shape"],
    z: Float[Tensor, "batch *shape"],
    wide: float,
    narrow: float,
) -> Float[Tensor, "batch *shape"]:
    """One step of reverse diffusion: x + (σ² - σ'²) s(x, σ) + √(σ² - σ'²) z, from σ = wide to σ' = narrow.

    Reference: Song et al. 2021, arXiv 2011.13456, appendix D (reverse diffusion sampling), eq. 47 for VE.
    """
    variance = wide**2 - narrow**2
    return x + variance * score(model.given(sigma=wide), x) + math.sqrt(variance) * z


class ScoreSDE(FlowLadder):
    """Score matching along a diffusion from the data to noise, dx = f x dt + g dw.

        J = E_t λ(t) E ½ ‖s_t(α x + std z) + z/std‖²,  t uniform on [smallest_time, 1]

    The model is one of x and σ, an energy or a score network; `sde` says which σ(t) = std/α it meets when,
    and all diffusions share networks, samplers and likelihood (`Diffusion`).

    Samples start at the prior of t = 1 and go back on a grid of times: to each by one step of reverse
    diffusion (the predictor), there corrector_steps of the kernel `sampler`; or along the probability flow.
    One jump to the clean data ends them. The likelihood is that of the flow (`FlowLadder`).

    Args:
        sde: the diffusion.
        prior: the Gaussian N(μ, Σ), fitted to the data; with the noise of t = 1 on it samples start there,
            and the flow's likelihood ends there.
        sampler: the corrector, its own step for a level of σ = 1. Langevin's h is 2r² of the signal-to-noise
            ratio r of the paper.
        weighting: λ = std² (variance) or g² (likelihood).
        smallest_time: where training, samples and flow end.
        num_times: steps of the predictor.
        corrector_steps: of the sampler at each time; 0 is the predictor alone.
        samples_by: reverse_diffusion (predictor and corrector), or flow: the probability flow backwards.
        num_likelihood: test events whose likelihood the flow gives.
        divergence: of the score in the likelihood: exact, probed (Hutchinson, one probe an event), or auto,
            which is exact up to 16 numbers an event.
        tolerance: relative and absolute, of the flow's solver.

    Raises:
        ValueError: a number out of its range.
    Cost: about 9 forwards with an energy, 3 with a score network; (1 + corrector_steps) num_times scores for
        a sample; some 100 scores and as many vector-Jacobian products for a likelihood.
    Notes: 1. The predictor steps in u = x/α, where every diffusion is a widening Gaussian. 2. The corrector's
        step is 2r²σ², which the paper's 2 (r‖z‖/‖s‖)² is where ‖s‖ = ‖z‖/σ; so events do not see each other.
        3. The prior has the data's mean and covariance beside the noise; N(0, σ²I), as published, is off in
        the likelihood by the data's own width. 4. Times below smallest_time are not trained or sampled; the
        paper has 1e-5 in training and 1e-3 or 1e-5 in sampling.
    Reference: Song, Sohl-Dickstein, Kingma, Kumar, Ermon & Poole 2021, arXiv 2011.13456.
    """

    takes_scores = True
    needs_second_derivatives = True
    has_held_out_loss = True
    monitor = "val/loss"
    needs_steps = False
    truth = NoisedTruth
    truth_overrides = ("objective.sde.smallest=0.3", "objective.sde.largest=3.0")
    notes = (
        "The model learns the score of the data under the noise of the smallest time; its likelihood is that "
        "of its probability flow (nll_flow), and its samples are those of reverse diffusion.",
    )

    def __init__(
        self,
        parts: Parts,
        *,
        sde: Diffusion,
        prior: NoisedGaussian,
        sampler: Kernel,
        weighting: Literal["variance", "likelihood"] = "variance",
        smallest_time: float = 1e-3,
        num_times: int = 100,
        corrector_steps: int = 1,
        samples_by: Literal["reverse_diffusion", "flow"] = "reverse_diffusion",
        num_likelihood: int = 200,
        divergence: Literal["auto", "exact", "probed"] = "auto",
        tolerance: float = 1e-5,
    ) -> None:
        if not 0 < smallest_time < 1 or num_times < 1:
            raise ValueError(
                "smallest_time must lie between 0 and 1 and num_times be at least 1, got "
                f"{smallest_time} and {num_times}"
            )
        if corrector_steps < 0:
            raise ValueError(f"corrector_steps must not be negative, got {corrector_steps}")
        times = torch.linspace(smallest_time, 1, num_times + 1, dtype=torch.float64)
        super().__init__(
            parts,
            ladder=NoiseLadder(sde.sigma(times).tolist()),
            prior=prior,
            sampler=sampler,
            num_steps=corrector_steps,
            num_likelihood=num_likelihood,
            divergence=divergence,
            tolerance=tolerance,
        )
        self.sde = sde
        self.weighting = weighting
        self.smallest_time = smallest_time
        self.samples_by = samples_by

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The loss at a fresh time and with fresh noise for every event."""
        x = batch.x
        u = uniform(x.shape[:1], x, self.generator)
        t = self.smallest_time + (1 - self.smallest_time) * u
        return diffusion_loss(self.energy, x, self.normal_like(x), t, self.sde, self.weighting)

    def walk(self, num: int, kernel: Kernel, num_steps: int, generator: torch.Generator) -> Tensor:
        """Reverse diffusion with the method's own corrector, or the flow, whatever `kernel` says."""
        if self.samples_by == "flow":
            return self.flow_down(num, generator)
        sigmas = self.ladder.sigmas[::-1]

        def predict(k: int, x: Tensor) -> Tensor:
            if k == 0:
                return x
            z = normal_like(x, generator)
            return predicted(self.energy, x, z, sigmas[k - 1], sigmas[k]).detach()

        levels = [Level(self.energy.given(sigma=sigma), sigma) for sigma in sigmas]
        x = self.start(num, generator)
        return anneal(self.sampler, levels, x, self.num_steps, generator, on_arrival=predict).x
