"""Explicit score matching: regression on the data's own score, where it is known."""

from jaxtyping import Float
from torch import Tensor

from ebm_lab.data import Batch, InMemoryData
from ebm_lab.energies import Energy, ScoreNetwork, score
from ebm_lab.errors import UserError
from ebm_lab.objectives.objective import Objective, Parts


def explicit_loss(
    model: Energy | ScoreNetwork,
    x: Float[Tensor, "batch *shape"],
    true_score: Float[Tensor, "batch *shape"],
) -> Float[Tensor, ""]:
    """mean ½‖s(x) - s_data(x)‖², the Fisher divergence to the data.

    Cost: one forward, one input gradient, and the parameter gradient through it.
    Reference: Hyvärinen 2005, JMLR 6, eq. 2.
    """
    residual = score(model, x, create_graph=True) - true_score
    return 0.5 * residual.flatten(1).square().sum(1).mean()


class ExplicitScoreMatching(Objective):
    """ESM: the score of data whose density is known, learned by regression.

    J = E ½‖s - s_data‖² = J_ISM + ½ E‖s_data‖²: what every other form of score matching estimates up to a
    constant, and so the best that any of them can do with a network.

    Args:
        sigma: standard deviation of Gaussian noise added to the data; with it the score of p_σ is learned, as
            by denoising score matching, whose loss is larger by a constant.

    Raises:
        ValueError: for a negative sigma.
    Cost: about 9 forwards (a gradient through an input gradient).
    Notes: blind to the weights of separated modes.
    Reference: Hyvärinen 2005, JMLR 6, eq. 2; with noise, Vincent 2011.
    """

    takes_scores = True
    needs_density = True
    needs_second_derivatives = True
    has_held_out_loss = True
    monitor = "val/loss"
    notes = (
        "Score matching cannot see the weights of separated modes: the Fisher divergence is its measure, "
        "KL is not.",
    )

    def __init__(self, parts: Parts, *, sigma: float = 0.0) -> None:
        super().__init__(parts, sigma=sigma)

    def adapt(self, data: InMemoryData) -> None:
        """Keep the density whose score is learned.

        Raises:
            UserError: where that of the noised data has no closed form.
        """
        self.density = self.target(data.density)
        if self.density is None:
            raise UserError(
                f"{type(self).__name__} learns from the density of the data with their noise, and that "
                "has no closed form here: choose objective.sigma=0, or objective=dsm"
            )

    def loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The Fisher divergence on the batch."""
        x = self.corrupted(batch.x)
        return explicit_loss(self.energy, x, self.density.score(x))
