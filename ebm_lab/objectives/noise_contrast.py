"""What methods share that learn a density and its log Z by telling data from noise."""

import math
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from ebm_lab.data.batch import Batch
from ebm_lab.objectives.known_truth import GaussianTruth
from ebm_lab.objectives.objective import Objective, Parts, Player

SATURATED = 0.99  # accuracy above which the classifier no longer pins down log Z
STARTING = 4096  # noise events behind the first log Z


class Contrast(NamedTuple):
    """-S'(r) and S'(r) r - S(r) of a convex S, as functions of G = log r, each up to a constant.

    Whatever S, the pointwise optimum is r = p_data / (ν p_n), since the second's slope in G is -e^G times
    the first's.
    """

    of_data: Callable[[Tensor], Tensor]
    of_noise: Callable[[Tensor], Tensor]


CONTRASTS = {
    "logistic": Contrast(lambda g: softplus(-g), softplus),  # S = r log r - (1 + r) log(1 + r): NCE
    "exponential": Contrast(lambda g: 0.5 * (-0.5 * g).exp(), lambda g: 0.5 * (0.5 * g).exp()),  # -√r
    "least_squares": Contrast(lambda g: -g.exp(), lambda g: 0.5 * (2 * g).exp()),  # r²/2
    "kullback_leibler": Contrast(lambda g: -g, torch.exp),  # r log r - r
    "itakura_saito": Contrast(lambda g: (-g).exp(), lambda g: g),  # -log r
}


def log_ratio(
    energies: Float[Tensor, " batch"], log_z: Tensor, log_noise: Float[Tensor, " batch"], nu: int
) -> Float[Tensor, " batch"]:
    """G = -E - c - log p_n - log ν, the classifier's logit for data against noise."""
    return -energies - log_z - log_noise - math.log(nu)


def contrast_loss(
    logits_data: Float[Tensor, " batch"], logits_noise: Float[Tensor, " num"], nu: int, name: str
) -> Float[Tensor, ""]:
    """-mean S'(r(x)) + ν mean [S'(r) r - S(r)](x_noise), r = exp(G): the ν noise terms are summed.

    It is the Bregman divergence of r from p_data / (ν p_n), up to a constant.

    Args:
        logits_data: G at the data.
        logits_noise: G at the noise.
        nu: ν, noise events per data event.
        name: of S: logistic, exponential, least_squares, kullback_leibler or itakura_saito.

    Reference: Gutmann & Hirayama 2011, Bregman divergence as general framework to estimate unnormalized
        statistical models, UAI, arXiv 1202.3727.
    """
    contrast = CONTRASTS[name]
    return contrast.of_data(logits_data).mean() + nu * contrast.of_noise(logits_noise).mean()


class Logits(NamedTuple):
    """G at the data and at ν times as much noise, and E at the data."""

    data: Float[Tensor, " batch"]
    noise: Float[Tensor, " num"]
    energies: Float[Tensor, " batch"]


class NoiseContrast(Objective):
    """Data against noise of known density, through G = -E - c - log p_n - log ν; c is the learned log Z.

    A method writes `contrast`, whose optimum is -E - c = log p_data pointwise.

    Args:
        nu: ν, noise events per data event.
        log_z_lr_factor: learning rate of c over that of the energy.
        sigma: standard deviation of Gaussian noise added to the data; 0 adds none.

    Raises:
        ValueError: a number out of its range.
    """

    contrasts_noise = True
    has_held_out_loss = True
    monitor = "val/loss"
    # of what helps a saturated classifier, the noise: which options make it harder to tell from the data
    harder_noise: ClassVar[str] = (
        "noise more like the data (noise=mixture, more of its components; noise=flow)"
    )

    def __init__(
        self, parts: Parts, *, nu: int = 1, log_z_lr_factor: float = 10.0, sigma: float = 0.0
    ) -> None:
        super().__init__(parts, sigma=sigma)
        if nu < 1:
            raise ValueError(f"nu must be at least 1, got {nu}")
        if log_z_lr_factor <= 0:
            raise ValueError(f"log_z_lr_factor must be positive, got {log_z_lr_factor}")
        self.nu = nu
        self.log_z_lr_factor = log_z_lr_factor
        self.log_normaliser = nn.Parameter(torch.zeros(()))
        self.register_buffer("accuracy", torch.zeros(()))

    def contrast(self, logits: Logits) -> Float[Tensor, ""]:
        """The loss of these logits, what a method writes."""
        raise NotImplementedError(f"{type(self).__name__} must write contrast")

    def players(self) -> dict[str, Player]:
        """The energy and, faster, its log Z: one player, two groups."""
        groups = [
            {"params": list(self.energy.parameters())},
            {"params": [self.log_normaliser], "lr_factor": self.log_z_lr_factor},
        ]
        return {"energy": Player(self.loss, self.energy, self.optimization, groups=groups)}

    @torch.no_grad()
    def prepare(self, x: Float[Tensor, "num *shape"]) -> None:
        """Start c at log mean exp(-E(x_n)) / p_n(x_n)."""
        x_noise = self.noise.sample(STARTING, self.generator)
        log_weights = -self.energy(x_noise) - self.noise.log_prob(x_noise)
        self.log_normaliser.copy_(torch.logsumexp(log_weights, 0) - math.log(STARTING))

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The contrast of the batch and ν batches of noise."""
        logits = self.logits(batch.x, self.noise.sample(self.nu * len(batch.x), self.generator))
        accuracy = 0.5 * ((logits.data > 0).float().mean() + (logits.noise < 0).float().mean())
        self.follow(self.accuracy, accuracy)
        self.record(
            accuracy=accuracy,
            log_z=self.log_normaliser,
            normalisation=(logits.noise + math.log(self.nu)).exp().mean(),
        )
        return self.contrast(logits)

    def logits(self, x: Float[Tensor, "batch *shape"], x_noise: Float[Tensor, "num *shape"]) -> Logits:
        """G at events of the data, noised where σ > 0, and at noise."""
        events = torch.cat([self.corrupted(x), x_noise])
        energies = self.energy(events)
        logits = log_ratio(energies, self.log_normaliser, self.noise.log_prob(events), self.nu)
        return Logits(logits[: len(x)], logits[len(x) :], energies[: len(x)])

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
            f"{self.harder_noise}, or more noise on the data (objective.sigma).",
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
