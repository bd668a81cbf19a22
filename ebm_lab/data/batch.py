"""What one iteration trains on."""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Events and, where the data have them, their labels.

    Attributes:
        x: events, (batch, *shape).
        label: class of each event, (batch,) integers, or None.
    """

    x: Tensor
    label: Tensor | None = None

    def chunks(self, n: int) -> "list[Batch]":
        """The batch in n equal parts, in order.

        Raises:
            ValueError: when the batch does not divide: unequal parts would not average to the batch's mean.
        """
        if n < 1 or len(self.x) % n:
            raise ValueError(f"a batch of {len(self.x)} events does not divide into {n} equal parts")
        size = len(self.x) // n
        labels = [None] * n if self.label is None else self.label.split(size)
        return [Batch(x, label) for x, label in zip(self.x.split(size), labels, strict=True)]
