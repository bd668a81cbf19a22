"""scikit-learn's handwritten digits: images that need no download."""

from collections.abc import Sequence

import torch

from ebm_lab.data.batch import Batch
from ebm_lab.data.in_memory import InMemoryData
from ebm_lab.data.splits import Splits, split_at_random

SPLIT_SEED = 0  # one split for all runs
NUM_VAL, NUM_TEST = 200, 300  # of 1797; 1297 are left for training


class Digits(InMemoryData):
    """1797 grey 8 × 8 digits with 17 levels (0 ... 16) and their labels, dequantised to [-1, 1].

    Args:
        shape: (1, 8, 8).
        batch_size: training events per iteration and process.
        order_seed: of the order of training batches and of their dequantisation.

    Raises:
        ValueError: another shape.
    Reference: Alpaydin & Kaynak, Optical Recognition of Handwritten Digits, UCI 1998 (its test set).
    """

    def __init__(self, *, shape: Sequence[int] = (1, 8, 8), batch_size: int = 128, order_seed: int) -> None:
        super().__init__(shape=shape, batch_size=batch_size, order_seed=order_seed, domain="image", levels=17)
        if self.shape != (1, 8, 8):
            raise ValueError(f"shape must be [1, 8, 8], got {list(self.shape)}")

    def load(self) -> Splits:
        """The installed copy, split by a fixed permutation."""
        from sklearn.datasets import load_digits  # takes a second to import

        digits = load_digits()
        events = Batch(
            torch.from_numpy(digits.images).to(torch.uint8)[:, None], torch.from_numpy(digits.target)
        )
        return split_at_random(events, NUM_VAL, NUM_TEST, SPLIT_SEED, "scikit-learn's digits")
