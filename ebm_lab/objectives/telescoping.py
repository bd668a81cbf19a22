"""Telescoping density-ratio estimation: a hard ratio as a product of easy ones."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from ebm_lab.data import Batch, InMemoryData
from ebm_lab.data.seeding import seeded_generator
from ebm_lab.energies import ClassifierEnergy, Energy, as_classifier
from ebm_lab.errors import UserError
from ebm_lab.noise import Noise, StandardGaussian, need_transport
from ebm_lab.objectives.bridges_truth import Bridges, BridgesTruth
from ebm_lab.objectives.noise_contrast import SATURATED
from ebm_lab.objectives.objective import Objective, Parts

HEADS = 7  # random stream of a seed: the map to the bridges' logits


class TelescopedEnergy(Energy):
    """-log p_n(x) - Σ_k log r_k(x): the density that m ratios make of the noise's; log Z = 0 if they hold.

    Args:
        heads: logits of the bridges, log r_k.
        noise: p_n, at the last bridge's end.
    """

    def __init__(self, heads: ClassifierEnergy, noise: Noise) -> None:
        super().__init__()
        self.heads = heads
        self.noise = noise
        self.shape = heads.shape
        self.twice_differentiable = heads.twice_differentiable and noise.twice_differentiable
        self.domains = heads.domains & noise.domains

    def forward(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """-log p_n(x) - Σ_k log r_k(x)."""
        return -self.noise.log_prob(x) - self.heads.logits(x).sum(1)


def waymarks(
    x: Float[Tensor, "batch *shape"], x_noise: Float[Tensor, "batch *shape"], alphas: Sequence[float]
) -> Float[Tensor, "waymarks batch *shape"]:
    """x_k = √(1 - α_k²) x + α_k x_noise: from the data, α_0 = 0, to the noise, α_m = 1.

    Reference: Rhodes, Xu & Gutmann 2020, arXiv 2006.12204 (linear combinations).
    """
    return torch.stack([(1 - alpha**2) ** 0.5 * x + alpha * x_noise for alpha in alphas])


def telescoping_losses(
    logits: Float[Tensor, "waymarks batch bridges"],
) -> Float[Tensor, " bridges"]:
    """mean softplus(-f_k(x_{k-1})) + mean softplus(f_k(x_k)) of each bridge k = 1 ... m.

    Args:
        logits: f_k of all bridges at all waymarks, of which there is one more.

    Reference: Rhodes, Xu & Gutmann 2020, arXiv 2006.12204; there the mean over the bridges is minimised.
    """
    of_data, of_noise = logits[:-1].diagonal(dim1=0, dim2=2), logits[1:].diagonal(dim1=0, dim2=2)
    return (softplus(-of_data) + softplus(of_noise)).mean(0)


class TelescopingRatio(Objective):
    """TRE: log p_data / p_n as a sum over bridges between waymarks, each a logistic loss of its own.

        x_k = √(1 - α_k²) x + α_k x_n,  α_k = (k/m)^p;  or T(√(1 - α_k²) T⁻¹(x) + α_k z), x_n = T(z)
        log r_k = log p_{k-1} / p_k,  k = 1 ... m;  E(x) = -log p_n(x) - Σ_k log r_k(x)

    A classifier of data against noise far away is sure at once and learns nothing of the ratio; neighbours
    among the waymarks overlap. Each log r_k is a head on a trunk that all share, and its bias takes the
    place of a log Z: at the optimum E is normalised, log Z = 0.

    Args:
        num_bridges: m.
        power: p of the spacing; above 1 the waymarks lie closer to the data.
        latent: mix data and noise where the noise is a standard normal z, and map what comes out back: the
            waymarks then have the noise's scales and edges. For noise that is a map T of such a z.
        sigma: standard deviation of Gaussian noise added to the data; 0 adds none.

    Raises:
        ValueError: a number out of its range.
        UserError: latent waymarks with noise that is no such map.
    Cost: one parameter gradient on m + 1 batches; no sampler. E costs one forward.
    Notes: 1. The run's energy must be a network that ends in a linear map, which becomes one of m outputs;
        its base term is left out, -log p_n is in its place. 2. A head is linear in the shared features; the
        paper's are quadratic, its trunk has layers of each bridge's own. 3. A waymark's events keep their
        pairs of data and noise, so that a bridge's two sides are dependent: same expectation, less variance.
        4. Head k sees the waymarks k - 1 and k, and is asked at the data: errors of the m heads add up.
        5. `train/accuracy` is that of the easiest bridge; above 0.99 in the running mean nothing is claimed.
    Reference: Rhodes, Xu & Gutmann 2020, Telescoping Density-Ratio Estimation, NeurIPS, arXiv 2006.12204.
    """

    contrasts_noise = True
    has_held_out_loss = True
    monitor = "val/loss"
    truth = BridgesTruth
    truth_overrides = (
        "noise=standard",
        "noise.scale=2.0",  # wider than the data in every direction
        "objective.num_bridges=3",
        "iterations=4000",  # near neighbours pull weakly
    )

    def __init__(
        self,
        parts: Parts,
        *,
        num_bridges: int = 4,
        power: float = 1.0,
        latent: bool = False,
        sigma: float = 0.0,
    ) -> None:
        super().__init__(parts, sigma=sigma)
        if num_bridges < 1:
            raise ValueError(f"num_bridges must be at least 1, got {num_bridges}")
        if not power > 0:
            raise ValueError(f"power must be positive, got {power}")
        if latent:
            need_transport(self.noise, "objective.latent=true")
        self.latent = latent
        self.alphas = [(k / num_bridges) ** power for k in range(num_bridges + 1)]
        self.register_buffer("accuracies", torch.zeros(num_bridges))

    def adapt(self, data: InMemoryData) -> None:
        """Give the energy a head for each bridge, from the run's seed."""
        heads = seeded_generator(self.seed, HEADS)
        self.take(as_classifier(self.energy, len(self.alphas) - 1, heads))

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The mean over the bridges of their logistic losses, on waymarks of the batch."""
        events = self.waymarks_of(self.corrupted(batch.x))
        self.energy_evaluations += events.shape[0] * events.shape[1]  # logits do not count themselves
        logits = self.energy.logits(events.flatten(0, 1)).view(*events.shape[:2], -1)
        losses = telescoping_losses(logits)
        self._watch(logits.detach(), losses.detach())
        return losses.mean()

    @torch.no_grad()
    def waymarks_of(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "waymarks batch *shape"]:
        """Events at every α_k, from these to fresh noise."""
        if not self.latent:
            return waymarks(x, self.noise.sample(len(x), self.generator), self.alphas)
        z = self.noise.latent(x)[0]
        between = waymarks(z, self.normal_like(z), self.alphas)
        mapped = self.noise.transport(between[1:].flatten(0, 1))[0]
        return torch.cat([x[None], mapped.view(-1, *x.shape)])

    def _watch(self, logits: Tensor, losses: Tensor) -> None:
        right = (logits[:-1].diagonal(dim1=0, dim2=2) > 0, logits[1:].diagonal(dim1=0, dim2=2) < 0)
        accuracies = 0.5 * sum(side.float().mean(0) for side in right)
        self.follow(self.accuracies, accuracies)
        bridges = {f"loss_bridge_{k}": loss for k, loss in enumerate(losses, 1)}
        ratios = logits[-1].sum(1)  # of the noise's events
        self.record(accuracy=accuracies.max(), normalisation=ratios.exp().mean(), **bridges)

    def model(self) -> TelescopedEnergy:
        """-log p_n - Σ_k log r_k."""
        return TelescopedEnergy(self.energy, self.noise)

    @property
    def is_saturated(self) -> bool:
        """Whether a bridge's classifier is so sure that its ratio is hardly learned."""
        return bool(self.accuracies.max() > SATURATED)

    @property
    def notes(self) -> tuple[str, ...]:
        """A saturated bridge, and what helps."""
        if not self.is_saturated:
            return ()
        bridge, accuracy = int(self.accuracies.argmax()) + 1, float(self.accuracies.max())
        return (
            f"Bridge {bridge} of {len(self.accuracies)} is saturated (accuracy {accuracy:.4f}): its ratio is "
            "not pinned down and no likelihood is reported. What helps: more bridges "
            "(objective.num_bridges), waymarks closer to the data (objective.power), or more noise on the "
            "data (objective.sigma).",
        )

    def claims_likelihood(self) -> bool:
        """Not with a saturated bridge."""
        return not self.is_saturated

    def log_z(self) -> float | None:
        """0, which the heads' biases make it at the optimum, unless a bridge is saturated."""
        return None if self.is_saturated else 0.0

    def answer(self, truth: BridgesTruth) -> Bridges:
        """Of the waymarks' covariances (1 - α_k²)(Σ + σ²I) + α_k² s²I, latent ones too: T is linear here."""
        if not isinstance(self.noise, StandardGaussian):
            raise UserError("telescoping has a closed form for noise=standard only")
        variance = float(self.noise.scale) ** 2
        return truth.between(
            [
                truth.data.map_eigenvalues(
                    lambda m, a=alpha: (1 - a**2) * (m + self.sigma**2) + a**2 * variance
                )
                for alpha in self.alphas
            ]
        )

    def place(self, truth: BridgesTruth, factor: float) -> dict[torch.nn.Parameter, Tensor]:
        """The bridges at `factor` times their precisions, their heights at the truth."""
        return truth.place(self.energy, self.answer(truth), factor)
