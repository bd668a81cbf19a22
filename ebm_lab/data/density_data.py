"""Data drawn from a known law, so that every result can be judged against the truth."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ebm_lab.data.batch import Batch
from ebm_lab.data.checks import check_integer
from ebm_lab.data.density import Density
from ebm_lab.data.in_memory import InMemoryData
from ebm_lab.data.mass_function import MassFunction
from ebm_lab.data.seeding import seeded_generator
from ebm_lab.data.splits import Splits


class DensityData(InMemoryData):
    """Independent draws from a density, or from a mass function of discrete events.

    Each split has its own stream: its events depend on no other's size.

    Args:
        density: what to draw from.
        dim: number of coordinates, the density's; None: whatever it is.
        shape: of one event, the density's: (dim,) of a density.
        num_train, num_val, num_test: events of each split, at least 1.
        batch_size: training events per iteration and process.
        seed: of the draws, at least 0; the same data whatever the run's seed.
        order_seed: of the order of training batches.
        labelled: label each event with the component of the mixture that it was drawn from.
        fresh: draw the events of every training batch anew, so that nothing is seen twice; `order_seed` is
            then the seed of these draws, and `num_train` events are what noise and base terms are fitted to.

    Raises:
        ValueError: a number outside of its range, a density of another dimension, labels of no mixture, or
            labels of events that are drawn anew.
    """

    def __init__(
        self,
        *,
        density: Density | MassFunction,
        shape: Sequence[int],
        order_seed: int,
        dim: int | None = None,
        num_train: int = 50_000,
        num_val: int = 5_000,
        num_test: int = 10_000,
        batch_size: int = 256,
        seed: int = 0,
        labelled: bool = False,
        fresh: bool = False,
    ) -> None:
        super().__init__(
            shape=shape, batch_size=batch_size, order_seed=order_seed, domain=density.domain, density=density
        )
        if dim not in (None, density.dim) or self.shape != density.shape:
            raise ValueError(
                f"dim must be that of the density and shape its shape, got dim={dim}, "
                f"shape={list(self.shape)} and a density on {density.dim} coordinates of shape "
                f"{list(density.shape)}"
            )
        if labelled and not hasattr(density, "sample_labelled"):
            raise ValueError(
                f"labels are the components of a mixture, and {type(density).__name__} has none: choose "
                "data=gaussian_classes or gaussian_mixture, or labelled=false"
            )
        if labelled and fresh:
            raise ValueError("events that are drawn anew have no labels: set labelled=false or fresh=false")
        self.labelled = labelled
        self.redraws = fresh
        self.num_train = check_integer("num_train", num_train, at_least=1)
        self.num_val = check_integer("num_val", num_val, at_least=1)
        self.num_test = check_integer("num_test", num_test, at_least=1)
        self.seed = check_integer("seed", seed, at_least=0)

    def load(self) -> Splits:
        """Draw in float64 on the CPU: the same data on every device."""
        sizes = (self.num_train, self.num_val, self.num_test)
        draws = [self._draw(num, seeded_generator(self.seed, split)) for split, num in enumerate(sizes)]
        return Splits(*draws, source=f"{type(self.density).__name__} draws")

    def _draw(self, num: int, generator: torch.Generator) -> Batch:
        if not self.labelled:
            return Batch(self.density.sample(num, generator, torch.float64).float())
        x, label = self.density.sample_labelled(num, generator, torch.float64)
        return Batch(x.float(), label)

    def augment(self, loaded: Tensor, generator: torch.Generator) -> Tensor:
        """As many new draws, where training batches are fresh; else the batch as it is."""
        if not self.redraws:
            return loaded
        return self.density.sample(len(loaded), generator, torch.float64).float()

    def measurements(self, model: Any) -> dict[str, tuple[float, float | None, str, str]]:
        """The law's own comparison with a model."""
        return self.density.measurements(model)
