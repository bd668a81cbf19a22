"""Noise contrast by a Bregman divergence of ratios, of which NCE is one."""

from jaxtyping import Float
from torch import Tensor

from ebm_lab.objectives.noise_contrast import CONTRASTS, Logits, NoiseContrast, contrast_loss
from ebm_lab.objectives.objective import Parts


class BregmanContrast(NoiseContrast):
    """The ratio r = exp(-E - c) / (ν p_n) brought to p_data / (ν p_n) in a Bregman divergence by name.

        J = -E_data S'(r) + ν E_noise [S'(r) r - S(r)],  S convex
        logistic          r log r - (1 + r) log(1 + r)   NCE: bounded slopes in G, so that no event dominates
        exponential       -√r                            both sides in mirror image; `ence` is its logarithm
        least_squares     r²/2                           squares of ratios: noise with light tails blows up
        kullback_leibler  r log r - r                    maximum likelihood, Z by importance sampling
        itakura_saito     -log r                         its mirror image, weighted by the noise

    The optimum is -E - c = log p_data pointwise for each; they differ in how errors are weighed and in what
    tails they bear.

    Args:
        contrast: the name of S.
        nu: ν, noise events per data event.
        log_z_lr_factor: learning rate of c over that of the energy.
        sigma: standard deviation of Gaussian noise added to the data; 0 adds none.

    Raises:
        ValueError: for an unknown name, or a number out of its range.
    Cost: that of NCE: one parameter gradient on 1 + ν batches.
    Notes: 1. least_squares averages e^G over the data and e^2G over the noise, itakura_saito e^-G over the
        data: far from the optimum they overflow, and the run stops. 2. Noise that is told from the data at
        sight fails them all: G is large at the data and far below 0 at the noise. The slopes of logistic and
        exponential vanish on both sides, and c drifts; of the others one side pulls on, with -e^G
        (least_squares) or -1 (kullback_leibler) at the data or 1 (itakura_saito) at the noise, until the few
        events of the other side whose ratio is off the most hold it. A running accuracy above 0.99 withholds
        log Z, whatever the contrast.
    Reference: Gutmann & Hirayama 2011, Bregman divergence as general framework to estimate unnormalized
        statistical models, UAI, arXiv 1202.3727.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        contrast: str = "exponential",
        nu: int = 1,
        log_z_lr_factor: float = 10.0,
        sigma: float = 0.0,
    ) -> None:
        super().__init__(parts, nu=nu, log_z_lr_factor=log_z_lr_factor, sigma=sigma)
        if contrast not in CONTRASTS:
            raise ValueError(f"contrast must be one of {', '.join(CONTRASTS)}, got {contrast!r}")
        self.name = contrast

    def contrast(self, logits: Logits) -> Float[Tensor, ""]:
        """The divergence of that name."""
        return contrast_loss(logits.data, logits.noise, self.nu, self.name)
