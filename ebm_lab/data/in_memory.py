"""What all data sets share: tensors in memory, checked once, dequantised, on the run's device."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from pytorch_lightning import LightningDataModule
from torch import Tensor

from ebm_lab.data.checks import check_integer, check_shape
from ebm_lab.data.density import Density
from ebm_lab.data.dequantisation import dequantise, log_jacobian
from ebm_lab.data.loader import EvaluationLoader, IterationLoader
from ebm_lab.data.logit import Logit
from ebm_lab.data.mass_function import MassFunction
from ebm_lab.data.seeding import seeded_generator
from ebm_lab.data.splits import Splits
from ebm_lab.domains import DOMAINS
from ebm_lab.errors import UserError

DEQUANTISATION_SEED = 20211  # of held-out data, the same in every run
CHUNK = 4096  # events drawn at a time, so that setup needs little more memory than the data


class InMemoryData(LightningDataModule, ABC):
    """A data set held in tensors. A subclass writes `load`; the rest is here.

    Data with levels are loaded as integers. Their training batches are dequantised anew in every iteration,
    held-out data and `train_x` once, with a seed of their own. Two methods may be overridden: `events` is
    how a model sees what was loaded, `augment` what happens to training batches alone.

    Args:
        shape: shape of one event.
        batch_size: training events per iteration and process.
        order_seed: of the order of training batches and of their dequantisation, at least 0.
        domain: real, image, nonnegative, unit, binary or categorical.
        levels: number of integer levels of the data before dequantisation; None: not integers.
        density: the density that the data were drawn from, where it is known.
        transform: map of dequantised pixels onto the whole line; None leaves them in [-1, 1].

    Attributes:
        train_x, val_x, test_x: events in float32, (num, *shape); after `setup`.
        train_labels, val_labels, test_labels: classes in int64, (num,), or None.
        num_classes: number of classes, or None; after `setup`.
        anomalies_x: events that are of another kind than all of the splits, for evaluation alone, or None; on
            the CPU.
        redraws: whether every training batch draws its events anew; without, `events` is applied once.

    Raises:
        ValueError: a number outside of its range.
        UserError: in `setup`, when the data do not fit what was declared.
    """

    train_x: Float[Tensor, "num *shape"]
    val_x: Float[Tensor, "num *shape"]
    test_x: Float[Tensor, "num *shape"]
    train_labels: Tensor | None
    val_labels: Tensor | None
    test_labels: Tensor | None
    num_classes: int | None = None
    anomalies_x: Float[Tensor, "num *shape"] | None = None

    def __init__(
        self,
        *,
        shape: Sequence[int],
        batch_size: int,
        order_seed: int,
        domain: str,
        levels: int | None = None,
        density: Density | MassFunction | None = None,
        transform: Logit | None = None,
    ) -> None:
        super().__init__()
        if domain not in DOMAINS:
            raise ValueError(f"domain must be one of {', '.join(DOMAINS)}, got {domain!r}")
        self.shape = check_shape(shape)
        self.batch_size = check_integer("batch_size", batch_size, at_least=1)
        self.order_seed = check_integer("order_seed", order_seed, at_least=0)
        self.domain = domain
        self.levels = None if levels is None else check_integer("levels", levels, at_least=2)
        if transform is not None and levels is None:
            raise ValueError("transform belongs to data with levels, got levels=None")
        self.density = density
        self.transform = transform
        self.redraws = levels is not None
        self._train_source: Tensor | None = None  # what training batches are sliced from

    @abstractmethod
    def load(self) -> Splits:
        """Read or draw the data."""

    def events(self, loaded: Tensor, generator: torch.Generator) -> Float[Tensor, "batch *shape"]:
        """Events as a model sees them: integers dequantised, with noise of the generator, and transformed."""
        if self.levels is None:
            return loaded.float()
        x = dequantised(loaded, generator, self.levels)
        return x if self.transform is None else self.transform.forward(x)

    def augment(self, loaded: Tensor, generator: torch.Generator) -> Tensor:
        """What is done to training batches before `events`: nothing."""
        return loaded

    def log_jacobian_to_levels(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """log |dk/dx| of each event x back to its integers k, in nats; 0 for data without levels."""
        if self.levels is None:
            return x.new_zeros(len(x))
        slope = x.new_zeros(len(x)) if self.transform is None else self.transform.log_slope(x)
        return slope + log_jacobian(self.levels, self.shape)

    def pixels(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """Images or samples as a picture shows them, in [-1, 1]; samples may lie beyond."""
        if self.domain == "binary":
            return 2 * x - 1
        return x if self.transform is None else self.transform.inverse(x)

    def measurements(self, model: Any) -> dict[str, tuple[float, float | None, str, str]]:
        """Final numbers that only these data can give about a model: name -> value, error, unit, note."""
        return {}

    def setup(self, stage: str | None = None) -> None:
        """Load and check the data once; put them on the trainer's device where there is a trainer."""
        if self._train_source is None:
            self._take(self.load())
        self._move(self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu"))

    def train_dataloader(self) -> IterationLoader:
        """Endless shuffled batches, each process with its own."""
        return IterationLoader(
            self._train_source,
            self.train_labels,
            self.batch_size,
            self.order_seed,
            self._redraw if self.redraws else None,
            rank=self.trainer.global_rank if self.trainer is not None else 0,
            world_size=self._world_size,
        )

    def val_dataloader(self) -> EvaluationLoader:
        """Validation data in their order."""
        return EvaluationLoader(self.val_x, self.val_labels, self.batch_size)

    def test_dataloader(self) -> EvaluationLoader:
        """Test data in their order."""
        return EvaluationLoader(self.test_x, self.test_labels, self.batch_size)

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer is not None else 1

    def _take(self, splits: Splits) -> None:
        for number, (name, events) in enumerate(splits.named()):
            _check_events(events.x, self.shape, self.levels, f"the {name} split of {splits.source}")
            setattr(self, f"{name}_x", self._drawn_once(events.x, number))
            setattr(self, f"{name}_labels", None if events.label is None else events.label.long())
        self._check_size(splits)
        self.num_classes = _count_classes(splits)
        self._train_source = splits.train.x if self.redraws else self.train_x

    def _drawn_once(self, loaded: Tensor, number: int) -> Float[Tensor, "num *shape"]:
        generator = seeded_generator(DEQUANTISATION_SEED, number)
        x = torch.empty(loaded.shape, dtype=torch.float32)
        for part, chunk in zip(x.split(CHUNK), loaded.split(CHUNK), strict=True):
            part.copy_(self.events(chunk, generator))
        return x

    def _redraw(self, loaded: Tensor, generator: torch.Generator) -> Float[Tensor, "batch *shape"]:
        return self.events(self.augment(loaded, generator), generator)

    def _check_size(self, splits: Splits) -> None:
        num, processes = len(splits.train.x), self._world_size
        if num < self.batch_size * processes:
            raise UserError(
                f"data.batch_size={self.batch_size} on {processes} process(es) exceeds the {num} training "
                f"events of {splits.source}: set it to at most {num // processes}"
            )

    def _move(self, device: torch.device) -> None:
        for split in ("train", "val", "test"):
            setattr(self, f"{split}_x", getattr(self, f"{split}_x").to(device))
            labels = getattr(self, f"{split}_labels")
            setattr(self, f"{split}_labels", None if labels is None else labels.to(device))
        self._train_source = self._train_source.to(device) if self.redraws else self.train_x


def dequantised(k: Tensor, generator: torch.Generator, levels: int) -> Float[Tensor, "batch *shape"]:
    """Integers with fresh uniform noise, in [-1, 1]."""
    return dequantise(k, levels, torch.rand(k.shape, generator=generator, device=k.device))


def _check_events(x: Tensor, shape: tuple[int, ...], levels: int | None, what: str) -> None:
    if tuple(x.shape[1:]) != shape:
        raise UserError(
            f"{what} has events of shape {list(x.shape[1:])}, data.shape says {list(shape)}: set data.shape "
            "to match"
        )
    if x.is_floating_point():
        _check_finite(x, what)
    if levels is not None:
        _check_levels(x, levels, what)


def _check_finite(x: Tensor, what: str) -> None:
    """Judged in float32, in which the data are used."""
    nan, infinite = int(x.float().isnan().sum()), int(x.float().isinf().sum())
    if nan or infinite:
        raise UserError(
            f"{what} has {nan} NaN and {infinite} infinite values of {math.prod(x.shape)}: remove these "
            "events or fill them in"
        )


def _check_levels(x: Tensor, levels: int, what: str) -> None:
    low, high = float(x.min()), float(x.max())
    if low < 0 or high > levels - 1 or bool((x != x.floor()).any()):
        raise UserError(
            f"{what} must hold integers from 0 to {levels - 1} and holds numbers from {low:g} to {high:g}: "
            "set data.levels to the number of integer levels, or to null where these are no integers"
        )


def _count_classes(splits: Splits) -> int | None:
    labels = [events.label for _, events in splits.named()]
    if any(label is None for label in labels):
        return None
    return 1 + max(int(label.max()) for label in labels)
