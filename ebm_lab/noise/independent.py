"""Independent sites: Bernoulli of binary events, categorical of one-hot ones."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot, softplus

from ebm_lab.domains import BINARY, CATEGORICAL
from ebm_lab.errors import UserError
from ebm_lab.noise.noise import Noise, check_data, check_fitted


class Bernoulli(Noise):
    """q(x) = Π_i p_i^{x_i} (1 - p_i)^{1 - x_i} on {0, 1}, with p_i = (number of ones + s) / (number + 2s).

    s pseudo-events of each value keep sites that are constant in the data possible either way. Off {0, 1}
    log q is extended linearly, log q(x) = Σ_i x_i l_i - softplus(l_i) with l_i = log p_i/(1 - p_i): kernels
    that follow the gradient of an energy with this base see its exact differences.

    Args:
        shape: shape of one event.
        smoothing: s, pseudo-events of a 0 and of a 1 at every site, positive (Laplace: 1).

    Raises:
        ValueError: a smoothing that is not positive.
        UserError: `fit` on data other than 0 and 1.
        RuntimeError: use before `fit`.
    """

    domains = BINARY

    def __init__(self, shape: Sequence[int], smoothing: float = 1.0) -> None:
        super().__init__(shape)
        self.smoothing = _positive(smoothing)
        self.register_buffer("logits", torch.zeros(self.shape))
        self.register_buffer("fitted", torch.tensor(False))

    def fit(self, x: Float[Tensor, "batch *shape"]) -> None:
        """Take the smoothed frequency of ones at every site."""
        flat = check_data(self, x)
        if not ((flat == 0) | (flat == 1)).all():
            raise UserError("Bernoulli is fitted to binary data, these hold other numbers than 0 and 1")
        ones = flat.sum(0) + self.smoothing
        zeros = len(flat) - flat.sum(0) + self.smoothing
        self.logits.copy_((ones / zeros).log().view(self.shape))
        self.fitted.fill_(True)

    def sample(self, num: int, generator: torch.Generator | None) -> Float[Tensor, "num *shape"]:
        """Independent draws."""
        check_fitted(self)
        p = self.logits.sigmoid().expand(num, *self.shape)
        return torch.bernoulli(p, generator=generator)

    def log_prob(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """log q(x) of each event in nats, linear in x."""
        check_fitted(self)
        logits = self.logits.flatten()
        return self.flat(x) @ logits - softplus(logits).sum()


class Categorical(Noise):
    """q(x) = Π_i p_i[c_i] of one-hot sites, p_i[c] = (number of c at site i + s) / (number + s · classes).

    log q(x) = Σ_i x_iᵀ log p_i, linear off the one-hot events too.

    Args:
        shape: (*sites, classes).
        smoothing: s, pseudo-events of every class at every site, positive (Laplace: 1).

    Raises:
        ValueError: a smoothing that is not positive, or a shape without sites and classes.
        UserError: `fit` on data that are not one-hot.
        RuntimeError: use before `fit`.
    """

    domains = CATEGORICAL

    def __init__(self, shape: Sequence[int], smoothing: float = 1.0) -> None:
        super().__init__(shape)
        if len(self.shape) < 2:
            raise ValueError(f"shape must be [*sites, classes], got {list(self.shape)}")
        self.smoothing = _positive(smoothing)
        self.register_buffer("log_probabilities", torch.zeros(self.shape))
        self.register_buffer("fitted", torch.tensor(False))

    def fit(self, x: Float[Tensor, "batch *shape"]) -> None:
        """Take the smoothed frequency of every class at every site."""
        events = check_data(self, x).view(-1, *self.shape)
        if not ((events == 0) | (events == 1)).all() or not (events.sum(-1) == 1).all():
            raise UserError("Categorical is fitted to one-hot data: one 1 a site on the last axis, else 0")
        counts = events.sum(0) + self.smoothing
        self.log_probabilities.copy_((counts / counts.sum(-1, keepdim=True)).log())
        self.fitted.fill_(True)

    def sample(self, num: int, generator: torch.Generator | None) -> Float[Tensor, "num *shape"]:
        """Independent draws."""
        check_fitted(self)
        p = self.log_probabilities.exp().flatten(0, -2)
        classes = torch.multinomial(p, num, replacement=True, generator=generator).T
        return one_hot(classes, self.shape[-1]).to(p).view(num, *self.shape)

    def log_prob(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """log q(x) of each event in nats, linear in x."""
        check_fitted(self)
        return self.flat(x) @ self.log_probabilities.flatten()


def _positive(smoothing: float) -> float:
    if isinstance(smoothing, bool | str) or not 0 < smoothing < float("inf"):
        raise ValueError(f"smoothing must be positive, got {smoothing!r}")
    return float(smoothing)
