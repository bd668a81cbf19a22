"""Training, validation and test events, and how one array becomes all three."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lab.data.batch import Batch
from ebm_lab.data.seeding import seeded_generator
from ebm_lab.errors import UserError


class Splits(NamedTuple):
    """What a data set loads: integers 0 ... levels - 1 where it has levels, else the values themselves.

    Attributes:
        train, val, test: events and labels.
        source: what they were read from, for messages.
    """

    train: Batch
    val: Batch
    test: Batch
    source: str

    def named(self) -> Iterator[tuple[str, Batch]]:
        """The three splits with their names."""
        yield from (("train", self.train), ("val", self.val), ("test", self.test))


def split_at_random(events: Batch, num_val: int, num_test: int, seed: int, source: str) -> Splits:
    """Disjoint splits by a permutation of the rows that is a function of (number of rows, seed).

    Raises:
        UserError: when a split would be empty.
    """
    num = len(events.x)
    if min(num_val, num_test, num - num_val - num_test) < 1:
        raise UserError(
            f"{source} has {num} events, too few to split into training, validation and test data"
        )
    order = torch.randperm(num, generator=seeded_generator(seed))
    parts = order.split([num - num_val - num_test, num_val, num_test])
    return Splits(*(_rows(events, rows) for rows in parts), source)


def split_official(train: Batch, test: Batch, num_val: int, seed: int, source: str) -> Splits:
    """The test part as it is; validation rows out of the training part, a function of (its size, seed).

    Raises:
        UserError: when no training event would be left.
    """
    num = len(train.x)
    if num_val >= num:
        raise UserError(
            f"{source} has {num} training events to take data.num_val={num_val} from: set it lower"
        )
    kept, held_out = torch.randperm(num, generator=seeded_generator(seed)).split([num - num_val, num_val])
    return Splits(_rows(train, kept), _rows(train, held_out), test, source)


def _rows(events: Batch, rows: Tensor) -> Batch:
    return Batch(events.x[rows], None if events.label is None else events.label[rows])


def split_by_fractions(events: Batch, val: float, test: float, seed: int, source: str) -> Splits:
    """`split_at_random` with sizes as fractions of all events, rounded."""
    num = len(events.x)
    return split_at_random(events, round(val * num), round(test * num), seed, source)
