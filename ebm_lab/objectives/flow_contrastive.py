"""Flow contrastive estimation: NCE against a flow that learns to be taken for the data."""

import math

from jaxtyping import Float
from torch import Tensor

from ebm_lab.data import Batch
from ebm_lab.draws import normal
from ebm_lab.noise import Flow
from ebm_lab.noise.transport import log_standard
from ebm_lab.objectives.nce import nce_loss
from ebm_lab.objectives.noise_contrast import Logits, NoiseContrast, log_ratio
from ebm_lab.objectives.objective import Parts, Player
from ebm_lab.objectives.optimization import Optimization


def flow_value(
    log_ratios_data: Float[Tensor, " batch"], log_ratios_flow: Float[Tensor, " num"]
) -> Float[Tensor, ""]:
    """V = mean log [p / (p + q)](x) + mean log [q / (p + q)](x_flow), of log p/q = -E - c - log q.

    The energy raises it, the flow lowers it: through log q at the data, and through x_flow and log q there.

    Reference: Gao et al. 2020, arXiv 1912.00589.
    """
    return -nce_loss(log_ratios_data, log_ratios_flow, 1)


class FlowContrastive(NoiseContrast):
    """FCE: min over the flow q, max over the energy and c, of the logarithmic score of data against flow.

        V = E_data log [p / (p + q)] + E_q log [q / (p + q)],  log p = -E - c
        energy, c:  max V, which is NCE with ν = 1
        flow:       min V - w E_data log q, by reparameterised draws x = f⁻¹(z)

    The flow is fitted by maximum likelihood before the first step, and keeps the noise hard to tell from the
    data: it learns while the classifier's accuracy on the batch is above a bound. At the equilibrium
    p = q = p_data and V = -2 log 2; for any flow the energy's optimum is -E - c = log p_data.

    Args:
        flow: q, in the place of the run's noise.
        flow_optimizer: of q.
        flow_above: accuracy of telling the batch from the flow's events above which the flow takes a step, in
            [0.5, 1); 1 leaves the flow as it was fitted.
        likelihood_weight: w, at least 0; above 0 the flow's steps go on fitting it by likelihood too.
        log_z_lr_factor: learning rate of c over that of the energy.
        sigma: standard deviation of Gaussian noise added to the data; 0 adds none.

    Raises:
        ValueError: a number out of its range.
    Cost: NCE's, one parameter gradient on two batches, and where the flow steps one parameter gradient of the
        flow, through two batches of densities and one of draws, and one input gradient of E.
    Notes: 1. The paper alternates phases of many steps by the accuracy; here each iteration asks it.
        2. An autoregressive flow draws coordinate by coordinate, which every iteration pays for; the paper's
        is Glow. 3. A flow that drops a mode leaves it to the energy, as NCE does with any noise. 4. Where the
        accuracy nears 1, V is 0 and flat: the gradients of energy and flow vanish both, and the flow does not
        come back of itself; with w > 0 it does. A running accuracy above 0.99 withholds log Z. 5. The paper
        has no such term (w = 0): it changes nothing at the equilibrium, and elsewhere trades V against
        covering all the data.
    Reference: Gao, Nijkamp, Kingma, Xu, Dai & Wu 2020, Flow Contrastive Estimation of Energy-Based Models,
        CVPR, arXiv 1912.00589.
    """

    monitor = "val/mmd"  # the held-out loss rises where the flow gets better
    truth_overrides = ("objective.flow.bins=null",)  # affine maps are enough on a Gaussian
    harder_noise = (
        "a flow that fits the data better (objective.flow.fit_steps, objective.flow.num_transforms, "
        "noise@objective.flow=flow_autoregressive, objective.likelihood_weight) or follows the energy faster "
        "(objective.flow_above nearer to 0.5, objective.flow_optimizer.lr)"
    )

    def __init__(
        self,
        parts: Parts,
        *,
        flow: Flow,
        flow_optimizer: Optimization,
        flow_above: float = 0.55,
        likelihood_weight: float = 0.0,
        log_z_lr_factor: float = 10.0,
        sigma: float = 0.0,
    ) -> None:
        super().__init__(parts._replace(noise=flow), nu=1, log_z_lr_factor=log_z_lr_factor, sigma=sigma)
        if not 0.5 <= flow_above <= 1:
            raise ValueError(f"flow_above must be in [0.5, 1], got {flow_above}")
        if not 0 <= likelihood_weight < math.inf:
            raise ValueError(
                f"likelihood_weight must be a finite number, at least 0, got {likelihood_weight}"
            )
        self.noise.requires_grad_(True)
        self.flow_optimizer = flow_optimizer
        self.flow_above = flow_above
        self.likelihood_weight = likelihood_weight

    def players(self) -> dict[str, Player]:
        """The energy, whose turn finds the accuracy, and the flow where that is high."""
        return super().players() | {
            "flow": Player(
                self.flow_loss,
                self.noise,
                self.flow_optimizer,
                only_while=lambda: bool(self.metrics["accuracy"] > self.flow_above),
            )
        }

    def contrast(self, logits: Logits) -> Float[Tensor, ""]:
        """The logistic loss, -V."""
        return -flow_value(logits.data, logits.noise)

    def flow_loss(self, batch: Batch) -> Float[Tensor, ""]:
        """V of the batch and of the flow's own events, less w mean log q(x), in the flow's parameters."""
        x = self.corrupted(batch.x)
        z = normal((len(x), self.noise.num_features), x, self.generator)
        x_flow, log_det = self.noise.transport(z)
        log_flow = log_standard(z) - log_det
        energies, c = self.energy, self.log_normaliser
        log_data = self.noise.log_prob(x)
        data, flow = log_ratio(energies(x), c, log_data, 1), log_ratio(energies(x_flow), c, log_flow, 1)
        value = flow_value(data, flow)
        return value - self.likelihood_weight * log_data.mean() if self.likelihood_weight else value
