"""Loaders over tensors in memory: batches are slices, taken on the device where the data live."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Num
from torch import Tensor

from ebm_lab.data.batch import Batch
from ebm_lab.data.checks import check_integer
from ebm_lab.data.seeding import mixed_seed, seeded_generator

ENDLESS = 2**40  # a length that no run reaches: a sized loader is neither prefetched nor ever exhausted
ORDER, TRANSFORM = 0, 1  # the two streams of a seed

Transform = Callable[[Tensor, torch.Generator], Tensor]


class IterationLoader:
    """An endless loader whose batch t is a function of (seed, t, rank) and of nothing else.

    Every epoch is a new permutation of the data, drawn on the CPU and so the same on every device; what does
    not fill a batch at its end is dropped. With several processes each takes its own slice of the epoch.
    `iteration` is the next batch to give: it moves on before a batch is handed out, so that a state saved
    after a batch's step names the batch to continue with.

    Args:
        x: events, (num, *shape).
        labels: (num,) integers or None.
        batch_size: events per batch and process.
        seed: of order and transform, at least 0.
        transform: (x, generator) -> x, applied to each batch with a generator seeded by (seed, t, rank).
        rank, world_size: this process, and how many there are.

    Raises:
        ValueError: a batch larger than the data, or a number outside of its range.
    """

    def __init__(
        self,
        x: Num[Tensor, "num *shape"],
        labels: Tensor | None,
        batch_size: int,
        seed: int,
        transform: Transform | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.x, self.labels, self.transform = x, labels, transform
        self.batch_size = check_integer("batch_size", batch_size, at_least=1)
        self.seed = check_integer("seed", seed, at_least=0)
        self.rank, self.world_size = rank, world_size
        self.batches_per_epoch = len(x) // (batch_size * world_size)
        if self.batches_per_epoch == 0:
            raise ValueError(
                f"batch_size={batch_size} on {world_size} process(es) exceeds the {len(x)} events: "
                f"set it to at most {len(x) // world_size}"
            )
        self.iteration = 0
        self._order: tuple[int, Tensor] | None = None
        self._generator = torch.Generator(x.device)

    def __iter__(self) -> Iterator[Batch]:
        """Batches from `iteration` on, for ever."""
        while True:
            self.iteration += 1
            yield self.batch(self.iteration - 1)  # no name holds the batch, so its memory is used again

    def __len__(self) -> int:
        return ENDLESS

    def batch(self, t: int) -> Batch:
        """Batch t of this process."""
        epoch, position = divmod(t, self.batches_per_epoch)
        start = (position * self.world_size + self.rank) * self.batch_size
        index = self._permutation(epoch)[start : start + self.batch_size]
        x = self.x.index_select(0, index)  # three times as fast as x[index]
        if self.transform is not None:
            x = self.transform(x, self._generator.manual_seed(mixed_seed(self.seed, TRANSFORM, t, self.rank)))
        return Batch(x, None if self.labels is None else self.labels.index_select(0, index))

    def state_dict(self) -> dict[str, int]:
        """The next batch's index."""
        return {"iteration": self.iteration}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue with the batch that `state_dict` names."""
        self.iteration = state_dict["iteration"]

    def _permutation(self, epoch: int) -> Tensor:
        if self._order is None or self._order[0] != epoch:
            order = torch.randperm(len(self.x), generator=seeded_generator(self.seed, ORDER, epoch))
            self._order = epoch, order.to(self.x.device)
        return self._order[1]


class EvaluationLoader:
    """All events once, in their order; the last batch may be smaller. Every process sees all of them.

    Args:
        x: events, (num, *shape).
        labels: (num,) integers or None.
        batch_size: events per batch, at least 1.
    """

    def __init__(self, x: Num[Tensor, "num *shape"], labels: Tensor | None, batch_size: int) -> None:
        self.x, self.labels = x, labels
        self.batch_size = check_integer("batch_size", batch_size, at_least=1)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.x), self.batch_size):
            part = slice(start, start + self.batch_size)
            yield Batch(self.x[part], None if self.labels is None else self.labels[part])

    def __len__(self) -> int:
        return -(-len(self.x) // self.batch_size)
