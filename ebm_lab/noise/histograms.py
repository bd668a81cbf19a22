"""Independent coordinates, each by a histogram of the data."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ebm_lab.draws import uniform
from ebm_lab.noise.noise import Noise, check_data, check_fitted


class Histograms(Noise):
    """q(x) = Π_i q_i(x_i), q_i constant on each of B bins: (events there + s) / ((events + sB) · width).

    The bins of a coordinate are of one width and reach from its smallest value in the data less a margin to
    its largest and a margin; outside q is 0.

    Args:
        shape: shape of one event.
        num_bins: B, at least 1.
        smoothing: s, pseudo-events in every bin, positive (Laplace: 1).
        margin: beyond the data's range, on both sides, in data units, positive; held-out events and constant
            coordinates need it.

    Raises:
        ValueError: a number out of its range.
        UserError: `fit` on data that are not finite.
        RuntimeError: use before `fit`.
    """

    has_full_support = False
    twice_differentiable = False

    def __init__(
        self, shape: Sequence[int], num_bins: int = 32, smoothing: float = 1.0, margin: float = 0.5
    ) -> None:
        super().__init__(shape)
        if num_bins < 1 or not smoothing > 0 or not margin > 0:
            raise ValueError(
                "num_bins must be at least 1, smoothing and margin positive, got "
                f"{num_bins}, {smoothing} and {margin}"
            )
        self.num_bins, self.smoothing, self.margin = num_bins, smoothing, margin
        features = math.prod(self.shape)
        self.register_buffer("low", torch.zeros(features))
        self.register_buffer("width", torch.ones(features))
        self.register_buffer("log_probabilities", torch.zeros(features, num_bins))
        self.register_buffer("fitted", torch.tensor(False))

    def fit(self, x: Float[Tensor, "batch *shape"]) -> None:
        """Count the events in every bin."""
        flat = check_data(self, x)
        self.low.copy_(flat.amin(0) - self.margin)
        self.width.copy_((flat.amax(0) + self.margin - self.low.cpu()) / self.num_bins)
        bins = self._bins(flat.to(self.low))[0].cpu()
        counts = torch.zeros(self.log_probabilities.shape, dtype=torch.float64)
        counts.scatter_add_(1, bins.T, torch.ones_like(bins.T, dtype=torch.float64))
        counts += self.smoothing
        self.log_probabilities.copy_((counts / counts.sum(1, keepdim=True)).log())
        self.fitted.fill_(True)

    @property
    def high(self) -> Float[Tensor, " features"]:
        """Where the last bin ends; no longer inside."""
        return self.low + self.num_bins * self.width

    def _bins(self, flat: Float[Tensor, "batch features"]) -> tuple[Int[Tensor, "batch features"], Tensor]:
        """The bin of each number, and whether it is in one."""
        place = (flat - self.low) / self.width
        inside = (flat >= self.low) & (flat < self.high)
        return place.clamp(0, self.num_bins - 1).long(), inside

    def sample(self, num: int, generator: torch.Generator | None) -> Float[Tensor, "num *shape"]:
        """Independent draws, uniform within their bins."""
        check_fitted(self)
        bins = torch.multinomial(self.log_probabilities.exp(), num, replacement=True, generator=generator).T
        u = uniform(bins.shape, self.low, generator)
        x = self.low + (bins + u) * self.width
        inside = torch.minimum(x, self.high.nextafter(self.low))  # a u near 1 is rounded up to the edge
        return inside.view(num, *self.shape)

    def log_prob(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """log q(x) of each event in nats; -inf where a coordinate is outside its bins."""
        check_fitted(self)
        bins, inside = self._bins(self.flat(x))
        log_prob = self.log_probabilities.gather(1, bins.T).T - self.width.log()
        return log_prob.masked_fill(~inside, -torch.inf).sum(1)
