"""Noise-contrastive estimation with a learned log Z."""

from jaxtyping import Float
from torch import Tensor

from ebm_lab.objectives.noise_contrast import Logits, NoiseContrast, contrast_loss


def nce_loss(
    logits_data: Float[Tensor, " batch"], logits_noise: Float[Tensor, " num"], nu: int
) -> Float[Tensor, ""]:
    """mean softplus(-G(x)) + ν mean softplus(G(x_noise)): the ν noise terms are summed, not averaged.

    At the optimum -E - c = log p_data; with p_n = p_data and ν = 1 the loss is 2 log 2.

    Reference: Gutmann & Hyvärinen 2010; 2012, JMLR 13, eq. 8 (there in bits of notation h = σ(G)).
    """
    return contrast_loss(logits_data, logits_noise, nu, "logistic")


class NoiseContrastiveEstimation(NoiseContrast):
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

    def contrast(self, logits: Logits) -> Float[Tensor, ""]:
        """The logistic loss."""
        return nce_loss(logits.data, logits.noise, self.nu)
