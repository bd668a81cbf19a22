"""Ranking noise contrast: which of K + 1 events is the data's? The InfoNCE loss with a known noise."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from ebm_lab.data import Batch, InMemoryData
from ebm_lab.evaluation import mean_and_error
from ebm_lab.objectives.objective import Objective, Parts

CHUNK = 1000  # test events at once


def ranking_losses(
    log_weights_data: Float[Tensor, " batch"], log_weights_noise: Float[Tensor, "batch K"]
) -> Float[Tensor, " batch"]:
    """-log [w(x) / (w(x) + Σ_k w(x_k))] of each event and its K noise events, w = exp(-E) / p_n.

    A constant added to E changes nothing. Equal weights give log(K + 1), and
    KL(p_data ‖ p_n) ≥ log(K + 1) - E[loss] whatever E is. Where p_n(x) = 0 the weight is infinite and the
    loss 0, its limit.

    Reference: Ma & Collins 2018, arXiv 1809.01812 (ranking); van den Oord, Li & Vinyals 2018, arXiv
        1807.03748, for the bound.
    """
    return softplus(log_weights_noise.logsumexp(1) - log_weights_data)


class RankingNCE(Objective):
    """Ranking NCE: softmax over an event of the data and K of the noise; Z cancels and none is learned.

    J = -E log [w(x) / (w(x) + Σ_{k ≤ K} w(x_k))], w = exp(-E) / p_n. The optimum is E = -log p_data + c; with
    K → ∞ the gradient is that of maximum likelihood, its negatives drawn by self-normalised importance
    sampling. log(K + 1) - J is a lower bound of KL(p_data ‖ p_n), logged as `train/kl_bound` and reported
    of the test set; it cannot exceed log(K + 1), so more of the noise is needed where it comes close.

    Args:
        num_noise: K, noise events for each event of the data.
        sigma: standard deviation of Gaussian noise added to the data; 0 adds none.

    Raises:
        ValueError: a number out of its range.
    Cost: one parameter gradient on 1 + K batches; no sampler.
    Reference: Ma & Collins 2018, Noise Contrastive Estimation and Negative Sampling for Conditional Models,
        EMNLP, arXiv 1809.01812; Jozefowicz et al. 2016, arXiv 1602.02410; van den Oord, Li & Vinyals 2018,
        arXiv 1807.03748.
    """

    contrasts_noise = True
    has_held_out_loss = True
    monitor = "val/loss"

    def __init__(self, parts: Parts, *, num_noise: int = 8, sigma: float = 0.0) -> None:
        super().__init__(parts, sigma=sigma)
        if num_noise < 1:
            raise ValueError(f"num_noise must be at least 1, got {num_noise}")
        self.num_noise = num_noise

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The ranking loss of the batch, each event against K noise events of its own."""
        loss = self._losses(batch.x).mean()
        self.record(kl_bound=math.log(self.num_noise + 1) - loss.detach())
        return loss

    def _losses(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        x_noise = self.noise.sample(self.num_noise * len(x), self.generator)
        events = torch.cat([self.corrupted(x), x_noise])
        log_weights = -self.energy(events) - self.noise.log_prob(events)
        return ranking_losses(log_weights[: len(x)], log_weights[len(x) :].view(len(x), self.num_noise))

    @torch.no_grad()
    def measurements(self, data: InMemoryData) -> dict[str, tuple[float, float | None, str, str]]:
        """The bound of KL(data ‖ noise) on the test set."""
        test_x = data.test_x.to(self.device, self.dtype)
        losses = torch.cat([self._losses(part) for part in test_x.split(CHUNK)])
        most = math.log(self.num_noise + 1)
        note = f"KL(data ‖ noise) is at least this, in expectation; at most log(K + 1) = {most:.3f} can show"
        return {"kl_to_noise_bound": (*mean_and_error(most - losses), "nats", note)}
