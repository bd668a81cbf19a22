"""Self-normalised likelihood: maximum likelihood with a learned log Z and an importance-sampled Z."""

import math

from jaxtyping import Float
from torch import Tensor

from ebm_lab.objectives.noise_contrast import Logits, NoiseContrast
from ebm_lab.samplers.weights import effective_share


def self_normalised_loss(
    energies: Float[Tensor, " batch"], log_z: Tensor, log_weights: Float[Tensor, " num"]
) -> Float[Tensor, ""]:
    """mean E(x) + b + e^-b mean w - 1, w = exp(-E(x_q)) / q(x_q), b the learned log Z.

    log Z = min_b b + e^-b Z - 1, at b = log Z: the minimum over b is the negative log-likelihood, and a
    mean over w in the place of Z leaves every gradient unbiased, as the logarithm of a mean would not.

    Args:
        energies: E at the data.
        log_z: b.
        log_weights: log w at draws of the proposal q.

    Reference: Senetaire, Jeha, Mattei & Frellsen 2025, arXiv 2503.07021.
    """
    return energies.mean() + log_z + (log_weights - log_z).exp().mean() - 1


class SelfNormalisedLikelihood(NoiseContrast):
    """SNL: -log p(x) = E(x) + b + e^-b Z - 1 minimised in the energy and in b, Z by draws of the noise.

    The contrast `kullback_leibler` of `bregman`, with the value of a negative log-likelihood. Jointly convex
    in b and the natural parameters of an exponential family.

    Args:
        nu: draws of the proposal per data event.
        log_z_lr_factor: learning rate of b over that of the energy.
        sigma: standard deviation of Gaussian noise added to the data; 0 adds none.

    Cost: one parameter gradient on 1 + ν batches; no sampler.
    Notes: 1. The proposal is the run's noise; it must be wider than the model in its tails, or single draws
        carry all weight. `train/ess` is the effective share of the draws. 2. b starts at log Z as the
        noise's weights have it. 3. As with NCE, no log Z is claimed where -E - b tells data from noise with
        an accuracy above 0.99.
    Reference: Senetaire, Jeha, Mattei & Frellsen 2025, Learning Energy-Based Models by Self-normalising the
        Likelihood, arXiv 2503.07021; as a Bregman divergence, Gutmann & Hirayama 2011, arXiv 1202.3727.
    """

    def contrast(self, logits: Logits) -> Float[Tensor, ""]:
        """The negative log-likelihood of the batch, its weights through G = -E - b - log q - log ν."""
        log_weights = logits.noise + math.log(self.nu)  # over e^b already
        self.record(ess=effective_share(log_weights.detach()))
        energies = logits.energies + self.log_normaliser
        return self_normalised_loss(energies, energies.new_zeros(()), log_weights)
