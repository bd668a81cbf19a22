"""What an energy is, and the one way in which everything else asks it for gradients."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_lab.domains import ANY, CONTINUOUS


class Energy(nn.Module, ABC):
    """A map x -> E(x) from events to scalars; p(x) = exp(-E(x)) / Z, so low energy means likely.

    A subclass sets `shape` (of one event) and writes `forward`, which takes a batch of events
    (batch, *shape) and, where the energy is conditional, further keywords (`sigma`, `label`, ...).

    Attributes:
        shape: shape of one event, without the batch axis.
        twice_differentiable: False where the Hessian in x vanishes almost everywhere (ReLU networks);
            objectives that differentiate the score refuse such an energy.
        noise_conditional: True where `forward` needs `sigma`, a noise level for each event or one for all;
            objectives with a ladder of noise levels need such an energy.
        domains: kinds of data that it takes, of real, image, nonnegative, unit, binary and categorical.

    Raises:
        ValueError: when the output is not (batch,): a (batch, 1) output broadcasts into wrong losses.
    """

    shape: tuple[int, ...]
    twice_differentiable: bool = True
    noise_conditional: bool = False
    domains: frozenset[str] = ANY

    @abstractmethod
    def forward(self, x: Float[Tensor, "batch *shape"], **condition: Tensor) -> Float[Tensor, " batch"]:
        """Energy of each event, shape (batch,)."""

    def __call__(self, x: Tensor, *args: Any, **condition: Tensor) -> Tensor:
        """Evaluate `forward` and check that there is one energy per event."""
        energies = super().__call__(x, *args, **condition)
        if energies.shape != x.shape[:1]:
            raise ValueError(
                f"{type(self).__name__} returned energies of shape {tuple(energies.shape)} for "
                f"{x.shape[0]} events; an energy has shape (batch,) = ({x.shape[0]},)"
            )
        return energies

    def fit(self, x: Float[Tensor, "num *shape"]) -> None:
        """Take from events of the law to be learned what the energy starts with; most need nothing.

        Called once, before the first step, with base terms fitted.
        """

    def given(self, **condition: Tensor | float) -> "Energy":
        """The energy x -> E(x | condition): samplers and evaluation only ever see x.

        A condition is one number or label for all events, shape (), or one an event, shape (batch,).
        """
        return Conditioned(self, condition)


class Conditioned(Energy):
    """An energy with its condition bound: x -> E(x | condition).

    Conditions are buffers: they move with the module, and no checkpoint holds them.

    Args:
        energy: the energy with `condition` among the keywords of its forward.
        condition: by keyword, one number or label for all events, shape (), or one an event, shape (batch,).

    Raises:
        ValueError: for a condition of another shape, here, or a batch of another length, at the call.
    """

    def __init__(self, energy: Energy, condition: Mapping[str, Tensor | float]) -> None:
        super().__init__()
        self.energy = energy
        self.shape = energy.shape
        self.twice_differentiable = energy.twice_differentiable
        self.domains = energy.domains
        self.condition = _Condition(condition)

    def forward(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """E(x | condition), event by event."""
        return self.energy(x, **self.condition(len(x)))


class _Condition(nn.Module):
    """Conditions by keyword, each one number or label for all events, shape (), or one an event, (batch,)."""

    def __init__(self, condition: Mapping[str, Tensor | float]) -> None:
        super().__init__()
        self._names = tuple(condition)
        for name, value in condition.items():
            value = torch.as_tensor(value)
            if value.dim() > 1:
                raise ValueError(
                    f"{name} must be one number for all events or one an event, got the shape "
                    f"{tuple(value.shape)}"
                )
            self.register_buffer(f"given_{name}", value, persistent=False)

    def forward(self, num: int) -> dict[str, Tensor]:
        """The keywords for so many events."""
        return {name: self._bound(name, num) for name in self._names}

    def _bound(self, name: str, num: int) -> Tensor:
        value = getattr(self, f"given_{name}")
        if value.dim() and len(value) != num:
            raise ValueError(
                f"{name} is bound for {len(value)} events, one each, and {num} were given: bind as many, or "
                "one number for all"
            )
        return value


class ScoreNetwork(nn.Module, ABC):
    """A map x -> s(x) that stands for a score without an energy behind it; same shape as x.

    One of ReLUs is as good as another: where methods differentiate a score in x, once, it has a derivative.

    Attributes: as of `Energy`.
    """

    shape: tuple[int, ...]
    twice_differentiable: bool = True
    noise_conditional: bool = False
    domains: frozenset[str] = CONTINUOUS

    @abstractmethod
    def forward(self, x: Float[Tensor, "batch *shape"], **condition: Tensor) -> Float[Tensor, "batch *shape"]:
        """Score of each event."""

    def given(self, **condition: Tensor | float) -> "ScoreNetwork":
        """The score x -> s(x | condition), with conditions as `Energy.given` takes them."""
        return ConditionedScore(self, condition)


class ConditionedScore(ScoreNetwork):
    """A score network with its condition bound: x -> s(x | condition). As `Conditioned` for an energy."""

    def __init__(self, network: ScoreNetwork, condition: Mapping[str, Tensor | float]) -> None:
        super().__init__()
        self.network = network
        self.shape = network.shape
        self.domains = network.domains
        self.condition = _Condition(condition)

    def forward(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """s(x | condition), event by event."""
        return self.network(x, **self.condition(len(x)))


def energy_and_gradient(
    energy: Callable[[Tensor], Tensor] | ScoreNetwork, x: Float[Tensor, "batch *shape"]
) -> tuple[Float[Tensor, " batch"] | None, Float[Tensor, "batch *shape"]]:
    """E(x) and ∇E(x), both detached: one forward and one input gradient.

    A score network has no energy and gives None and -s(x): kernels that only follow the gradient take it as
    it is, all others refuse it (`samplers.kernel.evaluated`).

    Events are independent (∂E(x_i)/∂x_j = 0), so the gradient of the batch's sum holds every event's own. It
    is asked for with a one for every event, which spares the sum.
    """
    if isinstance(energy, ScoreNetwork):
        with torch.no_grad():
            return None, -energy(x)
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        energies = energy(x)
        (gradient,) = torch.autograd.grad(energies, x, torch.ones_like(energies))
    return energies.detach(), gradient


def score(
    model: Energy | ScoreNetwork,
    x: Float[Tensor, "batch *shape"],
    create_graph: bool = False,
    **condition: Tensor,
) -> Float[Tensor, "batch *shape"]:
    """The model's score: -∇E(x | condition) of an energy, the output of a score network.

    With `create_graph` the result can be differentiated again, in the parameters and in x.
    """
    if isinstance(model, ScoreNetwork):
        return model(x, **condition)
    with torch.enable_grad():
        if not x.requires_grad:
            x = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(model(x, **condition).sum(), x, create_graph=create_graph)
    return -gradient


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Evaluation mode and no parameter gradients inside; everything as it was outside.

    Sampling differentiates in x only: without this every step would build a graph through the
    parameters, move the power iteration of spectral norms and run dropout.
    """
    submodules = [s for m in modules if isinstance(m, nn.Module) for s in m.modules()]
    training = [s for s in submodules if s.training]
    learning = [p for m in modules if isinstance(m, nn.Module) for p in m.parameters() if p.requires_grad]
    try:
        for s in training:
            s.training = False
        for p in learning:
            p.requires_grad_(False)
        yield
    finally:
        for s in training:
            s.training = True
        for p in learning:
            p.requires_grad_(True)
