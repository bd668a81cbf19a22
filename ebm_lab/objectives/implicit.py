"""What the methods share that trade the data's unknown score for derivatives of the model's own."""

from ebm_lab.data import InMemoryData
from ebm_lab.errors import UserError
from ebm_lab.objectives.objective import Objective, Parts

IMAGE_SIGMA = 0.35  # of the noise on dequantised images, unless told otherwise


class ImplicitScoreMatching(Objective):
    """E[tr ∇s + ½‖s‖²], the Fisher divergence to the data up to the constant ½ E‖s_data‖², by some estimate.

    The integration by parts behind it needs a density without jumps. That of dequantised images jumps at the
    edges of its bins; there Gaussian noise of standard deviation σ is added to the data and p_σ is learned.

    Args:
        sigma: standard deviation of Gaussian noise added to the data; None adds 0 to vectors and 0.35 to
            dequantised images.

    Raises:
        ValueError: for a negative sigma.
    Reference: Hyvärinen 2005, Estimation of non-normalized statistical models by score matching, JMLR 6,
        theorem 1.
    """

    needs_second_derivatives = True
    has_held_out_loss = True
    monitor = "val/loss"
    notes = (
        "Score matching cannot see the weights of separated modes: the Fisher divergence is its measure, "
        "KL is not.",
    )

    def __init__(self, parts: Parts, *, sigma: float | None = None) -> None:
        super().__init__(parts, sigma=sigma or 0.0)
        self.sigma = sigma

    def check(self, data: InMemoryData) -> None:
        """Settle σ: dequantised images need some."""
        super().check(data)
        if self.sigma is None:
            self.sigma = 0.0 if data.levels is None else IMAGE_SIGMA
        if self.sigma == 0 and data.levels is not None:
            raise UserError(
                f"{type(self).__name__} on dequantised images needs objective.sigma > 0: their density jumps "
                "at the edges of its bins, where its score does not exist"
            )
