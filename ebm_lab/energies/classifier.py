"""Classifiers read as energies: E(x) from the logits of the classes, E(x, y) from one of them."""

import math
from abc import abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ebm_lab.energies.composition import plus_base
from ebm_lab.energies.energy import Energy
from ebm_lab.energies.network import NetworkEnergy
from ebm_lab.errors import UserError


class ClassifierEnergy(Energy):
    """E(x) = -log Σ_y exp(f_y(x)) + E₀(x) of a classifier's logits f(x); E(x, y) = -f_y(x) + E₀(x).

    With log p(x, y) = -E(x, y) - log Z the class given the event is the classifier as it is,
    p(y | x) = softmax f(x), and log p(x, y) = log p(x) + log p(y | x) exactly. The base adds alike to all
    E(x, y): it shapes p(x) and leaves p(y | x) alone. `given(label=y)` is x -> E(x, y), whose law is
    p(x | y); y is one class for all events or one an event.

    A subclass writes `class_logits`.

    Args:
        shape: shape of one event.
        num_classes: C, at least 1.
        base: energy E₀ that is added; None adds nothing.

    Raises:
        ValueError: fewer than one class, logits that are not (batch, C), or labels of another shape.
    Cost: that of the logits, for E(x) and for E(x, y).
    Notes: the base is no part of the paper.
    Reference: Grathwohl et al. 2020, Your Classifier is Secretly an Energy Based Model and You Should Treat
    it Like One, arXiv 1912.03263, section 3.
    """

    def __init__(self, shape: tuple[int, ...], *, num_classes: int, base: Energy | None = None) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}")
        self.shape = tuple(shape)
        self.num_classes = num_classes
        self.base = base

    @abstractmethod
    def class_logits(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch classes"]:
        """f(x), what a subclass writes; callers ask for `logits`."""

    def logits(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch classes"]:
        """f(x), with p(y | x) = softmax f(x)."""
        logits = self.class_logits(x)
        if logits.shape != (len(x), self.num_classes):
            raise ValueError(
                f"{type(self).__name__} returned logits of shape {tuple(logits.shape)}; {len(x)} events of "
                f"{self.num_classes} classes have logits of shape ({len(x)}, {self.num_classes})"
            )
        return logits

    def forward(
        self, x: Float[Tensor, "batch *shape"], label: Int[Tensor, "*batch"] | None = None
    ) -> Float[Tensor, " batch"]:
        """E(x), or E(x, y) of the given classes."""
        logits = self.logits(x)
        if label is None:
            return plus_base(-logits.logsumexp(1), self.base, x)
        if label.shape not in ((), x.shape[:1]):
            raise ValueError(
                f"label must be one class for all {len(x)} events or one for each, got shape "
                f"{tuple(label.shape)}"
            )
        chosen = logits.gather(1, label.expand(len(x))[:, None]).squeeze(1)
        return plus_base(-chosen, self.base, x)


class NetworkClassifier(ClassifierEnergy):
    """A network with a logit a class in the place of its one number; f(x) = W trunk(x) + b.

    At the start every row of W is drawn uniformly, as large as the network's own last map (root mean square),
    which knows whether the trunk's features are sums or means; b = 0.

    Args:
        energy: a network that ends in a linear map; its trunk and base are taken over.
        num_classes: C.
        generator: of W.
    """

    def __init__(self, energy: NetworkEnergy, *, num_classes: int, generator: torch.Generator) -> None:
        super().__init__(energy.shape, num_classes=num_classes, base=energy.base)
        self.twice_differentiable = energy.twice_differentiable
        *trunk, last = energy.network
        self.trunk = nn.Sequential(*trunk)
        self.head = nn.Linear(last.in_features, num_classes)
        bound = math.sqrt(3) * float(last.weight.detach().square().mean().sqrt())
        nn.init.uniform_(self.head.weight, -bound, bound, generator=generator)
        nn.init.zeros_(self.head.bias)

    def class_logits(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch classes"]:
        """W trunk(x) + b."""
        return self.head(self.trunk(x))


def as_classifier(energy: Energy, num_classes: int, generator: torch.Generator) -> ClassifierEnergy:
    """The energy with a logit for each of the data's classes, which only the data know.

    A network that ends in a linear map becomes one; a classifier of as many classes is one already.

    Args:
        energy: as the config built it.
        num_classes: of the data.
        generator: of what must be drawn; the same numbers make the same classifier.

    Raises:
        UserError: for an energy that cannot classify, or that has another number of classes.
    """
    if isinstance(energy, NetworkEnergy):
        return NetworkClassifier(energy, num_classes=num_classes, generator=generator)
    if not isinstance(energy, ClassifierEnergy):
        raise UserError(
            f"{type(energy).__name__} has no last linear map that could give a logit for every class: choose "
            "energy=mlp, convnet, resnet or wide_resnet"
        )
    if energy.num_classes != num_classes:
        raise UserError(
            f"{type(energy).__name__} has {energy.num_classes} classes and the data have {num_classes}: give "
            f"it as many (a mixture: energy.num_components={num_classes}), or choose energy=mlp, convnet, "
            "resnet or wide_resnet"
        )
    return energy
