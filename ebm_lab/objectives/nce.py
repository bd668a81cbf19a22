"""Noise-contrastive estimation with a learned log Z."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from ebm_lab.data.batch import Batch
from ebm_lab.errors import UserError
from ebm_lab.objectives.known_truth import GaussianTruth
from ebm_lab.objectives.objective import Objective, Parts, Player

SATURATED = 0.99  # accuracy above which the classifier no longer pins down log Z


def log_ratio(
    energies: Float[Tensor, " batch"], log_z: Tensor, log_noise: Float[Tensor, " batch"], nu: int
) -> Float[Tensor, " batch"]:
    """G = -E - c - log p_n - log ν, the classifier's logit for data against noise."""
    return -energies - log_z - log_noise - math.log(nu)


def nce_loss(
    logits_data: Float[Tensor, " batch"], logits_noise: Float[Tensor, " num"], nu: int
) -> Float[Tensor, ""]:
    """mean softplus(-G(x)) + ν mean softplus(G(x_noise)): the ν noise terms are summed, not averaged.

    At the optimum -E - c = log p_data; with p_n = p_data and ν = 1 the loss is 2 log 2.

    Reference: Gutmann & Hyvärinen 2010; 2012, JMLR 13, eq. 8 (there in bits of notation h = σ(G)).
    """
    return softplus(-logits_data).mean() + nu * softplus(logits_noise).mean()


class NoiseContrastiveEstimation(Objective):
    """NCE: a logistic classifier of data against noise, whose logit holds the normalised model.

    J = E_data softplus(-G) + ν E_noise softplus(G), G = -E - c - log p_n - log ν. The optimum is
    -E - c = log p_data pointwise, so c is the learned log Z. On images a classifier tells pixels of a few
    exact levels from any smooth noise; Gaussian noise of standard deviation σ added to the data takes that
    away, and p_σ is what is learned.

    Args:
        nu: ν, noise events per data event.
        log_z_lr_factor: learning rate of c over that of the energy.
        sigma: standard deviation of Gaussian noise added to the data; 0 adds none.

    Cost: one parameter gradient on 1 + ν batches; no sampler.
    Notes: when the accuracy nears 1 the noise is too easy, gradients vanish and c drifts; above 0.99 c
        is not reported.
    Reference: Gutmann & Hyvärinen 2010, 2012; Song & Kingma 2021, arXiv 2101.03288, section 5.
    """

    has_held_out_loss = True
    monitor = "val/loss"

    def __init__(
        self, parts: Parts, *, nu: int = 1, log_z_lr_factor: float = 10.0, sigma: float = 0.0
    ) -> None:
        super().__init__(parts)
        if nu < 1:
            raise ValueError(f"nu must be at least 1, got {nu}")
        if log_z_lr_factor <= 0:
            raise ValueError(f"log_z_lr_factor must be positive, got {log_z_lr_factor}")
        if sigma < 0:
            raise ValueError(f"sigma must not be negative, got {sigma}")
        self.sigma = sigma
        self.nu = nu
        self.log_z_lr_factor = log_z_lr_factor
        self.log_normaliser = nn.Parameter(torch.zeros(()))
        self.register_buffer("accuracy", torch.zeros(()))

    def players(self) -> dict[str, Player]:
        """The energy and, faster, its log Z: one player, two groups."""
        groups = [
            {"params": list(self.energy.parameters())},
            {"params": [self.log_normaliser], "lr_factor": self.log_z_lr_factor},
        ]
        return {"energy": Player(self.loss, self.energy, self.optimization, groups=groups)}

    @torch.no_grad()
    def prepare(self, x: Float[Tensor, "num *shape"]) -> None:
        """Refuse noise that cannot have made the data; start c at log mean exp(-E(x_n)) / p_n(x_n)."""
        outside = int((self.noise.log_prob(self.corrupted(x)) == -torch.inf).sum())
        if outside:
            raise UserError(
                f"the noise has no density at {outside} of {len(x)} training events, where its classifier "
                "would be sure and learn nothing: choose a wider noise, such as noise=gaussian"
            )
        x_noise = self.noise.sample(4096, self.generator)
        log_weights = -self.energy(x_noise) - self.noise.log_prob(x_noise)
        self.log_normaliser.copy_(torch.logsumexp(log_weights, 0) - math.log(len(x_noise)))

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The logistic loss on the batch and ν batches of noise."""
        x_noise = self.noise.sample(self.nu * len(batch.x), self.generator)
        events = torch.cat([self.corrupted(batch.x), x_noise])
        logits = log_ratio(self.energy(events), self.log_normaliser, self.noise.log_prob(events), self.nu)
        data, noise = logits[: len(batch.x)], logits[len(batch.x) :]
        accuracy = 0.5 * ((data > 0).float().mean() + (noise < 0).float().mean())
        if self.training:
            self.accuracy.lerp_(accuracy.to(self.accuracy), 0.01 if self.iteration else 1.0)
        self.record(
            accuracy=accuracy,
            log_z=self.log_normaliser,
            normalisation=(noise + math.log(self.nu)).exp().mean(),
        )
        return nce_loss(data, noise, self.nu)

    @property
    def is_saturated(self) -> bool:
        """Whether the classifier is so sure, with a running accuracy above 0.99, that c is hardly learned."""
        return bool(self.accuracy > SATURATED)

    @property
    def notes(self) -> tuple[str, ...]:
        """A saturated classifier, and what helps."""
        if not self.is_saturated:
            return ()
        return (
            f"The classifier is saturated (accuracy {float(self.accuracy):.4f}): this noise is told from "
            "the data too easily, so log Z is not pinned down and no likelihood is reported. What helps: "
            "noise more like the data (noise=mixture, more of its components), or more noise on the data "
            "(objective.sigma).",
        )

    def claims_likelihood(self) -> bool:
        """Not with a saturated classifier."""
        return not self.is_saturated

    def log_z(self) -> float | None:
        """c, unless the classifier is saturated."""
        return None if self.is_saturated else self.log_normaliser.item()

    def known_truth(self, truth: GaussianTruth) -> dict[str, Float[Tensor, ""]]:
        """P = (Σ + σ²I)⁻¹ and log Z = (d/2) log 2π - ½ log det P, without bias."""
        precision = self.true_precision(truth)
        return truth.expected(precision) | {"log Z": truth.log_partition(precision)}

    @torch.no_grad()
    def place(self, truth: GaussianTruth, factor: float) -> dict[nn.Parameter, Tensor]:
        """As everywhere, with c at log Z of the model as it stands: then only P is off."""
        direction = super().place(truth, factor)
        self.log_normaliser.copy_(self.energy.log_partition())
        return direction

    def learned(self, truth: GaussianTruth) -> dict[str, Float[Tensor, ""]]:
        """Precision and c."""
        return super().learned(truth) | {"log Z": self.log_normaliser.detach().double()}
