"""What methods share that learn one energy of all noise levels with one constant, known at the widest."""

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.energies import NoiseLadder, frozen
from ebm_lab.evaluation import mean_and_error
from ebm_lab.noise import NoisedGaussian
from ebm_lab.objectives.known_truth import NormalisedTruth
from ebm_lab.objectives.ladder_objective import LadderObjective
from ebm_lab.objectives.objective import Parts
from ebm_lab.samplers import Kernel

ANCHORS = 1000  # events at the widest level, by which the constant is known


class NormalisedLadder(LadderObjective):
    """Base of methods that learn E(x, σ) = -log p_σ(x) - log Z with one Z at all levels.

    At the widest level the law of the noised data is nearly the Gaussian N(μ, Σ + σ_T²I), whose density is
    known, and there the constant is read off,

        log Z = -E[E(y, σ_T) + log N(y; μ, Σ + σ_T²I)],  y ~ p_{σ_T},

    over ANCHORS events, so that E(x, σ_0) + log Z is the -log density of the data under the smallest noise,
    in any dimension and without a sampler. Its mean over test events is `nll_learned` in the final numbers.

    The Gaussian errs by KL(p_{σ_T} ‖ N) >= 0 upwards in log Z, which is small where σ_T is large against the
    data's width.

    Args:
        prior: the Gaussian N(μ, Σ), fitted to the data.
        others: as of `LadderObjective`.
    """

    truth = NormalisedTruth

    def __init__(
        self, parts: Parts, *, ladder: NoiseLadder, prior: NoisedGaussian, sampler: Kernel, num_steps: int
    ) -> None:
        super().__init__(parts, ladder=ladder, sampler=sampler, num_steps=num_steps)
        self.prior = prior
        self.register_buffer("anchors", torch.empty(0), persistent=False)

    def prepare(self, x: Float[Tensor, "num *shape"]) -> None:
        """Choose training events, with the noise of the widest level on them, for good."""
        index = torch.randint(len(x), (ANCHORS,), generator=self.generator, device=x.device)
        self.anchors = x[index] + self.sigmas[-1].to(x) * self.normal_like(x[index])

    def log_z(self) -> float:
        """The constant of the energy at every level, by the widest."""
        return mean_and_error(self._log_z_by_anchor())[0]

    def log_z_error(self) -> float:
        """Over the anchors; the prior's misfit is not in it."""
        return mean_and_error(self._log_z_by_anchor())[1]

    def _log_z_by_anchor(self) -> Float[Tensor, " anchors"]:
        """-E(y, σ_T) - log N(y; μ, Σ + σ_T²I) of each anchor, in float64; all alike at the truth."""
        low, high = self.sigmas[0], self.sigmas[-1]
        width = (high.square() - low.square()).sqrt()  # beside the noise in what the prior is fitted to
        y = self.anchors.to(self.device, self.dtype)
        widest = self.energy.given(sigma=high)
        with torch.no_grad(), frozen(widest):
            energies = torch.cat([widest(part) for part in y.split(256)])
            return -(energies.double() + self.prior.log_prob(y, width).double())
