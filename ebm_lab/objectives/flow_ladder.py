"""What methods share that learn the scores of all noise levels: the likelihood of their probability flow."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.data import InMemoryData, bits_per_dim
from ebm_lab.draws import signs_like
from ebm_lab.energies import NoiseLadder
from ebm_lab.evaluation import mean_and_error
from ebm_lab.noise import NoisedGaussian
from ebm_lab.objectives.ladder_objective import LadderObjective, widened
from ebm_lab.objectives.objective import Parts
from ebm_lab.samplers import Kernel, flow_log_prob, probability_flow

EXACT = 16  # dimensions up to which the divergence is summed, not probed


class FlowLadder(LadderObjective):
    """Base of ladder methods whose likelihood is that of the flow from the narrowest level to the widest.

    `nll_flow` and, of integer pixels, `bits_per_dim_flow` stand in the final numbers, whether the model has
    an energy or not: the law is that of the Gaussian N(μ, Σ + σ_T²I) carried by the flow to σ_0.

    Args:
        prior: the Gaussian N(μ, Σ), fitted to the data; with σ_T's noise on it samples start there, and the
            likelihood ends there.
        num_likelihood: test events whose likelihood the flow gives.
        divergence: of the score in the likelihood: exact, probed (Hutchinson, one probe an event), or auto,
            which is exact up to 16 numbers an event.
        tolerance: relative and absolute, of the flow's solver.
        others: as of `LadderObjective`.

    Raises:
        ValueError: a number out of its range.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        ladder: NoiseLadder,
        prior: NoisedGaussian,
        sampler: Kernel,
        num_steps: int,
        num_likelihood: int,
        divergence: Literal["auto", "exact", "probed"],
        tolerance: float,
    ) -> None:
        if num_likelihood < 2:
            raise ValueError(f"num_likelihood must be at least 2, got {num_likelihood}")
        if not tolerance > 0:
            raise ValueError(f"tolerance must be positive, got {tolerance}")
        super().__init__(parts, ladder=ladder, sampler=sampler, num_steps=num_steps)
        self.ladder = ladder
        self.prior = prior
        self.num_likelihood = num_likelihood
        self.divergence = divergence
        self.tolerance = tolerance

    def start(self, num: int, generator: torch.Generator) -> Float[Tensor, "num *shape"]:
        """Draws of N(μ, Σ + σ_T²I)."""
        return widened(self.prior, self.ladder.sigmas[0], self.ladder.sigmas[-1], num, generator)

    def flow_down(self, num: int, generator: torch.Generator) -> Float[Tensor, "num *shape"]:
        """Draws of the flow's law at the narrowest level, whose density is `log_prob`."""
        x, first, last = self.start(num, generator), self.ladder.sigmas[0], self.ladder.sigmas[-1]
        return probability_flow(self.energy, x, last, first, tolerance=self.tolerance, with_density=False).x

    def log_prob(self, x: Float[Tensor, "num *shape"]) -> Float[Tensor, " num"]:
        """log p(x) of the flow's law at the narrowest level, in nats."""
        first, last = self.ladder.sigmas[0], self.ladder.sigmas[-1]
        width = math.sqrt(last**2 - first**2)  # beside the noise on the data to which the prior is fitted
        return flow_log_prob(
            *(self.energy, x, first, last, lambda end: self.prior.log_prob(end, width)),
            probe=None if self._is_exact(x) else signs_like(x, self.generator),
            tolerance=self.tolerance,
        )

    def _is_exact(self, x: Float[Tensor, "num *shape"]) -> bool:
        return self.divergence == "exact" or (self.divergence == "auto" and x[0].numel() <= EXACT)

    def measurements(self, data: InMemoryData) -> dict[str, tuple[float, float | None, str, str]]:
        """The negative log-likelihood of test events by the probability flow, of pixels in bits too.

        Points are noised as the law that is learned; dequantised pixels are taken as they are, since only
        their density bounds the code length of integers. Where the law is known the gap to it is taken on
        the same events, which has a far smaller error than both likelihoods.
        """
        x = data.test_x[: self.num_likelihood].to(self.device, self.dtype)
        of = "test events" if data.levels is not None else "noised test events, which the method learns"
        x = x if data.levels is not None else self.corrupted(x)
        log_prob = self.log_prob(x)
        by = "exact divergence" if self._is_exact(x) else "one probe an event (Hutchinson)"
        note = f"of {len(x)} {of}, by the probability flow at the smallest noise, {by}"
        found = {"nll_flow": (*mean_and_error(-log_prob), "nats", note)}
        target = None if data.density is None else self.target(data.density)
        if target is not None:
            note = f"mean log p - log p_flow of the same {len(x)} events, p the law that is learned"
            found["nll_flow_gap"] = (*mean_and_error(target.log_prob(x) - log_prob), "nats", note)
        if data.levels is not None:
            jacobian = data.log_jacobian_to_levels(x.double())
            bits = bits_per_dim(log_prob, jacobian, data.shape)
            found["bits_per_dim_flow"] = (*mean_and_error(bits), "bits", f"of the integer pixels, {note}")
        return found
