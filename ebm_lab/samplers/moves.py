"""Single-site moves of discrete events: what there is to move to, and what it costs to first order."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid, one_hot


class Moves(ABC):
    """The moves of one site of an event, numbered along one axis.

    To first order a move changes E by the gradient of the relaxed energy along it; where E is multilinear, as
    a quadratic energy without a diagonal is, that is the exact difference.
    """

    domain: ClassVar[str]

    @abstractmethod
    def num_sites(self, x: Float[Tensor, "batch *shape"]) -> int:
        """Sites of an event."""

    @abstractmethod
    def changes(
        self, x: Float[Tensor, "batch *shape"], gradient: Float[Tensor, "batch *shape"]
    ) -> Float[Tensor, "batch moves"]:
        """First-order E(y) - E(x) of every move; +inf where it would lead to x itself."""

    @abstractmethod
    def moved(
        self, x: Float[Tensor, "batch *shape"], move: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch *shape"]:
        """y, one move of each event."""

    @abstractmethod
    def reverse(self, x: Float[Tensor, "batch *shape"], move: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """The move that leads from y back to x."""

    @abstractmethod
    def alternatives(
        self, x: Float[Tensor, "batch *shape"], site: int
    ) -> Float[Tensor, "others batch *shape"]:
        """The events with every other value at one site."""

    @abstractmethod
    def resampled(
        self,
        energy: Callable[[Tensor], Tensor],
        x: Float[Tensor, "batch *shape"],
        energies: Float[Tensor, " batch"],
        site: Int[Tensor, " batch"],
        temperature: float,
        u: Float[Tensor, " batch"],
    ) -> tuple[Float[Tensor, "batch *shape"], Float[Tensor, " batch"]]:
        """One site of each event drawn by u from its law given the others, and E of the result."""

    @abstractmethod
    def log_factors(
        self,
        x: Float[Tensor, "batch *shape"],
        gradient: Float[Tensor, "batch *shape"],
        step_size: float,
        temperature: float,
    ) -> Float[Tensor, "batch sites values"]:
        """log q_i(value | x) of discrete Langevin, every site by itself and normalised."""

    @abstractmethod
    def drawn(
        self, log_factors: Float[Tensor, "batch sites values"], like: Tensor, u: Float[Tensor, "batch sites"]
    ) -> Float[Tensor, "batch *shape"]:
        """An event whose sites are drawn by u from their factors."""

    @abstractmethod
    def log_prob(
        self, log_factors: Float[Tensor, "batch sites values"], y: Float[Tensor, "batch *shape"]
    ) -> Float[Tensor, " batch"]:
        """log Π_i q_i(y_i)."""


class BinaryMoves(Moves):
    """Flips of {0, 1}: move i flips site i."""

    domain = "binary"

    def num_sites(self, x: Float[Tensor, "batch *shape"]) -> int:
        """All numbers of an event."""
        return x[0].numel()

    def changes(
        self, x: Float[Tensor, "batch *shape"], gradient: Float[Tensor, "batch *shape"]
    ) -> Float[Tensor, "batch moves"]:
        """(1 - 2 x_i) ∂_i E."""
        return ((1 - 2 * x) * gradient).flatten(1)

    def moved(
        self, x: Float[Tensor, "batch *shape"], move: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch *shape"]:
        """Site `move` flipped."""
        flat = x.flatten(1)
        flipped = 1 - flat.gather(1, move[:, None])
        return flat.scatter(1, move[:, None], flipped).view_as(x)

    def reverse(self, x: Float[Tensor, "batch *shape"], move: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """The same flip."""
        return move

    def alternatives(self, x: Float[Tensor, "batch *shape"], site: int) -> Float[Tensor, "1 batch *shape"]:
        """The site flipped."""
        return self.moved(x, torch.full((len(x),), site, device=x.device))[None]

    def resampled(
        self,
        energy: Callable[[Tensor], Tensor],
        x: Float[Tensor, "batch *shape"],
        energies: Float[Tensor, " batch"],
        site: Int[Tensor, " batch"],
        temperature: float,
        u: Float[Tensor, " batch"],
    ) -> tuple[Float[Tensor, "batch *shape"], Float[Tensor, " batch"]]:
        """1 where u < p(1), whatever is there: chains that share u meet at the site as often as they can."""
        y = self.moved(x, site)
        energy_y = energy(y)
        is_one = x.flatten(1).gather(1, site[:, None]).squeeze(1) == 1
        log_odds = torch.where(is_one, energy_y - energies, energies - energy_y) / temperature
        flips = ((u < log_odds.sigmoid()) != is_one) | energy_y.isnan()  # a NaN is moved to, and so seen
        return torch.where(_by_event(flips, x), y, x), torch.where(flips, energy_y, energies)

    def log_factors(
        self,
        x: Float[Tensor, "batch *shape"],
        gradient: Float[Tensor, "batch *shape"],
        step_size: float,
        temperature: float,
    ) -> Float[Tensor, "batch sites 2"]:
        """log odds of a flip: -(1 - 2 x_i) ∂_i E / (2T) - 1 / (2α)."""
        flip = -self.changes(x, gradient) / (2 * temperature) - 1 / (2 * step_size)
        to_one = torch.where(x.flatten(1) == 0, flip, -flip)
        return torch.stack([logsigmoid(-to_one), logsigmoid(to_one)], -1)

    def drawn(
        self, log_factors: Float[Tensor, "batch sites 2"], like: Tensor, u: Float[Tensor, "batch sites"]
    ) -> Float[Tensor, "batch *shape"]:
        """1 where u < q_i(1)."""
        return (u < log_factors[..., 1].exp()).to(like.dtype).view_as(like)

    def log_prob(
        self, log_factors: Float[Tensor, "batch sites 2"], y: Float[Tensor, "batch *shape"]
    ) -> Float[Tensor, " batch"]:
        """Σ_i log q_i(y_i)."""
        return torch.where(y.flatten(1) == 1, log_factors[..., 1], log_factors[..., 0]).sum(1)


class CategoricalMoves(Moves):
    """New classes of one-hot sites: move i · classes + c gives site i the class c."""

    domain = "categorical"

    def num_sites(self, x: Float[Tensor, "batch *sites classes"]) -> int:
        """Axes between the batch and the classes."""
        return x[0, ..., 0].numel()

    def changes(
        self, x: Float[Tensor, "batch *sites classes"], gradient: Float[Tensor, "batch *sites classes"]
    ) -> Float[Tensor, "batch moves"]:
        """∂_ic E - x_iᵀ ∂_i E."""
        return self._differences(x, gradient).masked_fill(x == 1, torch.inf).flatten(1)

    def moved(
        self, x: Float[Tensor, "batch *sites classes"], move: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch *sites classes"]:
        """The site's class replaced."""
        num_classes = x.shape[-1]
        sites = x.reshape(len(x), -1, num_classes).clone()
        sites[torch.arange(len(x), device=x.device), move // num_classes] = _hot(move % num_classes, x)
        return sites.view_as(x)

    def reverse(
        self, x: Float[Tensor, "batch *sites classes"], move: Int[Tensor, " batch"]
    ) -> Int[Tensor, " batch"]:
        """The site's old class."""
        num_classes = x.shape[-1]
        site = move // num_classes
        old = x.reshape(len(x), -1, num_classes).argmax(2).gather(1, site[:, None]).squeeze(1)
        return site * num_classes + old

    def alternatives(
        self, x: Float[Tensor, "batch *sites classes"], site: int
    ) -> Float[Tensor, "others batch *sites classes"]:
        """The site's class moved on by 1, 2, ..., around the end."""
        sites = x.reshape(len(x), -1, x.shape[-1])
        others = []
        for shift in range(1, x.shape[-1]):
            other = sites.clone()
            other[:, site] = sites[:, site].roll(shift, -1)
            others.append(other.view_as(x))
        return torch.stack(others)

    def resampled(
        self,
        energy: Callable[[Tensor], Tensor],
        x: Float[Tensor, "batch *sites classes"],
        energies: Float[Tensor, " batch"],
        site: Int[Tensor, " batch"],
        temperature: float,
        u: Float[Tensor, " batch"],
    ) -> tuple[Float[Tensor, "batch *sites classes"], Float[Tensor, " batch"]]:
        """All classes of the site are evaluated, and one is drawn with odds exp(-E / T)."""
        num_classes = x.shape[-1]
        options = torch.stack([self.moved(x, site * num_classes + c) for c in range(num_classes)])
        of_options = energy(options.flatten(0, 1)).view(num_classes, -1)
        chosen = _inverse_cdf((-of_options / temperature).log_softmax(0).T, u)
        events = torch.arange(len(x), device=x.device)
        energies = of_options[chosen, events].masked_fill(of_options.isnan().any(0), torch.nan)
        return options[chosen, events], energies

    def log_factors(
        self,
        x: Float[Tensor, "batch *sites classes"],
        gradient: Float[Tensor, "batch *sites classes"],
        step_size: float,
        temperature: float,
    ) -> Float[Tensor, "batch sites classes"]:
        """Logits -(∂_ic E - x_iᵀ ∂_i E) / (2T) - ‖e_c - x_i‖² / (2α), the square 2 for another class."""
        logits = -self._differences(x, gradient) / (2 * temperature) - (1 - x) / step_size
        return logits.flatten(1, -2).log_softmax(-1)

    def drawn(
        self, log_factors: Float[Tensor, "batch sites classes"], like: Tensor, u: Float[Tensor, "batch sites"]
    ) -> Float[Tensor, "batch *sites classes"]:
        """The class at which the cumulated factors pass u."""
        return _hot(_inverse_cdf(log_factors, u), like).view_as(like)

    def log_prob(
        self, log_factors: Float[Tensor, "batch sites classes"], y: Float[Tensor, "batch *sites classes"]
    ) -> Float[Tensor, " batch"]:
        """Σ_i log q_i(y_i)."""
        return (log_factors * y.flatten(1, -2)).flatten(1).sum(1)

    def _differences(self, x: Tensor, gradient: Tensor) -> Tensor:
        return gradient - (x * gradient).sum(-1, keepdim=True)


def moves_of(domain: str) -> Moves:
    """The moves of a discrete domain, or a ValueError with one sentence."""
    known = {moves.domain: moves for moves in (BinaryMoves, CategoricalMoves)}
    if domain not in known:
        raise ValueError(f"domain must be binary or categorical, got {domain!r}")
    return known[domain]()


def _inverse_cdf(log_p: Float[Tensor, "*batch values"], u: Float[Tensor, "*batch"]) -> Int[Tensor, "*batch"]:
    """The value at which the cumulated probabilities pass u; rounding never leads beyond the last."""
    passed = log_p.exp().cumsum(-1)[..., :-1] <= u[..., None]
    return passed.sum(-1)


def _hot(classes: Int[Tensor, "*batch"], like: Tensor) -> Float[Tensor, "*batch classes"]:
    return one_hot(classes, like.shape[-1]).to(like.dtype)


def _by_event(mask: Bool[Tensor, " batch"], x: Tensor) -> Bool[Tensor, "batch *ones"]:
    return mask.view(-1, *[1] * (x.dim() - 1))
