"""The user's own array in an .npz file."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ebm_lab.data.batch import Batch
from ebm_lab.data.checks import check_fraction, check_integer
from ebm_lab.data.in_memory import InMemoryData
from ebm_lab.data.splits import Splits, split_by_fractions
from ebm_lab.domains import DISCRETE
from ebm_lab.errors import UserError
from ebm_lab.resolvers import find_path, open_array


class Npz(InMemoryData):
    """One array (n, *shape) of real vectors, images or discrete events, split at random.

    Args:
        path: the file; a relative path is looked for as given, then under `root`.
        shape: shape of one event; images are (channels, height, width).
        order_seed: of the order of training batches.
        root: folder of data sets.
        key: name of the array in the file.
        label_key: name of an array of n classes 0, 1, ..., or None.
        domain: real, image, nonnegative, unit, binary (0 and 1) or categorical (one-hot on the last axis).
        levels: number of integer levels of images, 256 for 8 bits; None: images are in [-1, 1] already.
        val_fraction, test_fraction: parts of the events that are held out, between 0 and 1.
        split_seed: of the split, at least 0; the same split whatever the run's seed.
        batch_size: training events per iteration and process.

    Raises:
        ValueError: an argument outside of its range.
        UserError: in `setup`, when the file is missing, cut short, or does not hold what was declared.
    """

    def __init__(
        self,
        *,
        path: str,
        shape: Sequence[int],
        order_seed: int,
        root: str = "data",
        key: str = "x",
        label_key: str | None = None,
        domain: str = "real",
        levels: int | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        split_seed: int = 0,
        batch_size: int = 256,
    ) -> None:
        super().__init__(
            shape=shape, batch_size=batch_size, order_seed=order_seed, domain=domain, levels=levels
        )
        if domain != "image" and levels is not None:
            raise ValueError(f"levels belongs to images, got levels={levels} with domain={domain}")
        self.path, self.root = path, root
        self.key, self.label_key = key, label_key
        self.val_fraction = check_fraction("val_fraction", val_fraction)
        self.test_fraction = check_fraction("test_fraction", test_fraction)
        self.split_seed = check_integer("split_seed", split_seed, at_least=0)

    def load(self) -> Splits:
        """Read the file and split it."""
        x = self._read(self.key)
        if self.domain == "image" and self.levels is None:
            self._check_range(x)
        if self.domain in DISCRETE:
            self._check_discrete(x)
        labels = None if self.label_key is None else self._read_labels(self.label_key, len(x))
        return split_by_fractions(
            Batch(x, labels), self.val_fraction, self.test_fraction, self.split_seed, self.path
        )

    def _read(self, key: str) -> Tensor:
        with open_array(find_path(self.path, self.root), key) as stream:
            array = np.lib.format.read_array(stream, allow_pickle=False)
        if array.dtype.kind not in "fiub" or array.ndim == 0:
            raise UserError(
                f"{self.path} holds {array.dtype} under {key}: numbers on at least one axis are needed"
            )
        if array.dtype.kind == "b" or (array.dtype.kind == "u" and array.dtype.itemsize > 1):
            array = array.astype(np.int64)  # torch has no arithmetic on these
        return torch.from_numpy(np.ascontiguousarray(array, array.dtype.newbyteorder("=")))

    def _read_labels(self, key: str, num: int) -> Tensor:
        labels = self._read(key)
        if labels.shape != (num,) or labels.is_floating_point() or int(labels.min()) < 0:
            raise UserError(
                f"{self.path} must hold {num} integers from 0 on under data.label_key={key}, one an event"
            )
        return labels

    def _check_discrete(self, x: Tensor) -> None:
        fits = bool(((x == 0) | (x == 1)).all())
        if self.domain == "categorical":
            fits = fits and bool((x.sum(-1) == 1).all())
        if not fits:
            words = "0 and 1" if self.domain == "binary" else "one 1 at every site on the last axis, else 0"
            raise UserError(
                f"{self.path} must hold {words} for data.domain={self.domain}: convert it, or set another"
            )

    def _check_range(self, x: Tensor) -> None:
        if float(x.abs().max()) > 1:
            raise UserError(
                f"images in {self.path} reach from {float(x.min()):g} to {float(x.max()):g}: scale them to "
                "[-1, 1], or set data.levels=256 where they are integers 0 to 255"
            )
