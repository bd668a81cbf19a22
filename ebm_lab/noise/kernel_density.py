"""Events of the data with Gaussian noise on them, whose density is a kernel estimate."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from scipy.optimize import minimize_scalar
from torch import Tensor

from ebm_lab.draws import normal
from ebm_lab.errors import UserError
from ebm_lab.noise.noise import Noise, check_data, check_fitted
from ebm_lab.noise.transport import LOG_2PI

JUDGED = 2000  # events whose likelihood chooses the width
CHUNK = 512  # events at a time: a matrix of so many rows and all centres


class KernelDensity(Noise):
    """q(x) = 1/n Σ_j N(x; x_j, h² I) over the n events of the data: one of them, and noise of width h.

    Without a width of its own it takes the one at which the data predict each other best: the largest mean
    over events i of log 1/m Σ_j N(x_i; x_j, h² I), over the events j that differ from x_i. An event's own
    kernel and those of its copies would make h = 0 the best.

    Args:
        shape: shape of one event.
        width: h, in the data's units, positive; None: by that likelihood of at most 2000 of the events.

    Raises:
        ValueError: a width that is not positive.
        UserError: `fit` on data that are not finite or all equal.
        RuntimeError: use before `fit`.
    Cost: n d operations per event, and n d numbers to keep. The fit takes some thirty passes over 2000 n
        distances.
    Notes: At events that it was fitted to the density is larger than at others of the same law.
    Reference: Parzen 1962; Duin 1976, On the choice of smoothing parameters for Parzen estimators of
        probability density functions, IEEE Trans. Comput. (the leave-one-out likelihood).
    """

    def __init__(self, shape: Sequence[int], width: float | None = None) -> None:
        super().__init__(shape)
        if width is not None and not 0 < width < math.inf:
            raise ValueError(f"width must be positive, or null to be chosen, got {width}")
        self.chosen_width = width
        self.register_buffer("centres", torch.zeros(0, math.prod(self.shape)))
        self.register_buffer("width", torch.ones(()))
        self.register_buffer("fitted", torch.tensor(False))

    def fit(self, x: Float[Tensor, "batch *shape"]) -> None:
        """Keep the data, and choose the width."""
        flat = check_data(self, x)
        self.centres = flat.to(self.centres)
        self.width.fill_(self.chosen_width or _predictive_width(flat))
        self.fitted.fill_(True)

    def sample(self, num: int, generator: torch.Generator | None) -> Float[Tensor, "num *shape"]:
        """Independent draws x_j + h z."""
        check_fitted(self)
        j = torch.randint(len(self.centres), (num,), generator=generator, device=self.centres.device)
        z = normal((num, self.centres.shape[1]), self.centres, generator)
        return (self.centres[j] + self.width * z).view(num, *self.shape)

    def log_prob(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """log q(x) of each event in nats."""
        check_fitted(self)
        squares = [_squared_distances(part, self.centres) for part in self.flat(x).split(CHUNK)]
        log_sums = torch.cat([torch.logsumexp(-0.5 * part / self.width**2, 1) for part in squares])
        return log_sums - math.log(len(self.centres)) - self._log_normaliser()

    def _log_normaliser(self) -> Float[Tensor, ""]:
        return self.centres.shape[1] * (self.width.log() + 0.5 * LOG_2PI)


def _squared_distances(
    x: Float[Tensor, "batch features"], centres: Float[Tensor, "num features"]
) -> Float[Tensor, "batch num"]:
    """‖x_i - c_j‖² by one matrix product, about the middle of the centres, so that little cancels."""
    middle = centres.mean(0)
    x, centres = x - middle, centres - middle
    squares = x.square().sum(1)[:, None] + centres.square().sum(1) - 2 * x @ centres.T
    return squares.clamp(min=0)


def _predictive_width(x: Float[Tensor, "num features"]) -> float:
    """argmax over h of the mean log-density of events under the kernels of the others."""
    judged = x[:: math.ceil(len(x) / JUDGED)]
    squares = torch.cdist(judged, x, compute_mode="donot_use_mm_for_euclid_dist").square()
    squares = squares.masked_fill(squares == 0, torch.inf)
    nearest = squares.amin(1)
    if not nearest.isfinite().all():
        raise UserError("KernelDensity cannot choose a width: all events are equal; set noise.width")

    def loss(log_h: float) -> float:
        log_density = torch.logsumexp(-0.5 * squares * math.exp(-2 * log_h), 1) - x.shape[1] * log_h
        return -float(log_density.mean())

    bounds = (0.5 * float(nearest.min().log()) - 3, 0.5 * float(nearest.max().log()) + 3)
    return math.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x)
