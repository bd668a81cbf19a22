"""eNCE: the exponential loss in the place of NCE's logistic one, for normalised gradient descent."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.objectives.noise_contrast import Logits, NoiseContrast
from ebm_lab.objectives.objective import Parts
from ebm_lab.samplers.weights import log_mean_exp


def log_exponential_loss(
    log_ratios_data: Float[Tensor, " batch"], log_ratios_noise: Float[Tensor, " num"]
) -> Float[Tensor, ""]:
    """log L of L = ½ mean r(x)^-½ + ½ mean r(x_noise)^½, r = exp(-E - c) / p_n, without leaving the logs.

    At the optimum L is the Bhattacharyya coefficient ∫ √(p_data p_n), at most 1.

    Reference: Liu, Rosenfeld, Ravikumar & Risteski 2022, arXiv 2110.11271.
    """
    halves = torch.stack([log_mean_exp(-0.5 * log_ratios_data), log_mean_exp(0.5 * log_ratios_noise)])
    return halves.logsumexp(0) - math.log(2)


class ExponentialNCE(NoiseContrast):
    """eNCE: data against noise by the exponential loss, whose landscape is benign for normalised descent.

    L = ½ E_data r^-½ + ½ E_noise r^½, r = exp(-E - c) / p_n. It is the contrast `exponential` of `bregman` at
    ν = 1; the optimum is -E - c = log p_data. Where data and noise lie far apart NCE is flat, exponentially
    so; here steps of a given length, θ - η ∇L / ‖∇L‖ (`optimizer=normalised`), reach the optimum of an
    exponential family in a number polynomial in the distance and the dimension.

    Args:
        nu: noise events per data event; more of them only lower the variance.
        log_z_lr_factor: learning rate of c over that of the energy (the paper: 1).
        sigma: standard deviation of Gaussian noise added to the data; 0 adds none.

    Cost: that of NCE: one parameter gradient on 1 + ν batches.
    Notes: 1. What is minimised is log L of the batch: its gradient is that of L over L, the same direction,
        and a ratio far off does not overflow. With `optimizer.micro_batches` it is log L of each part.
        2. A running classifier accuracy above 0.99 withholds log Z, as in NCE.
    Reference: Liu, Rosenfeld, Ravikumar & Risteski 2022, Analyzing and Improving the Optimization Landscape
        of Noise-Contrastive Estimation, ICLR, arXiv 2110.11271.
    """

    def __init__(
        self, parts: Parts, *, nu: int = 1, log_z_lr_factor: float = 1.0, sigma: float = 0.0
    ) -> None:
        super().__init__(parts, nu=nu, log_z_lr_factor=log_z_lr_factor, sigma=sigma)

    def contrast(self, logits: Logits) -> Float[Tensor, ""]:
        """log L, of ratios without ν."""
        log_nu = math.log(self.nu)
        loss = log_exponential_loss(logits.data + log_nu, logits.noise + log_nu)
        self.record(bhattacharyya=loss.exp())
        return loss
