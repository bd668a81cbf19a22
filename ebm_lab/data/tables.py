"""Tables of numbers in .npz files under the data root: densities of their rows, and anomalies among them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.data.batch import Batch
from ebm_lab.data.checks import check_fraction, check_integer, check_positive
from ebm_lab.data.in_memory import InMemoryData
from ebm_lab.data.seeding import seeded_generator
from ebm_lab.data.splits import Splits, split_by_fractions
from ebm_lab.errors import UserError
from ebm_lab.resolvers import open_array, table_path

UCI = "https://archive.ics.uci.edu"
ADBENCH = "https://github.com/Minqi824/ADBench/tree/main/adbench/datasets/Classical"
SOURCES: dict[str, dict[str, str]] = {
    "tabular": {
        "casp_protein": f"{UCI}, Physicochemical Properties of Protein Tertiary Structure",
        "ccpp_powerplant": f"{UCI}, Combined Cycle Power Plant",
        "electrical_grid": f"{UCI}, Electrical Grid Stability Simulated Data",
        "ionosphere": f"{UCI}, Ionosphere",
        "magic": f"{UCI}, MAGIC Gamma Telescope",
        "optdigits": f"{UCI}, Optical Recognition of Handwritten Digits",
        "satimage": f"{UCI}, Statlog (Landsat Satellite)",
        "shuttle": f"{UCI}, Statlog (Shuttle)",
        "winequality_red": f"{UCI}, Wine Quality",
        "winequality_white": f"{UCI}, Wine Quality",
    },
    "adbench": {
        name: f"{ADBENCH}, the file that ends in _{name}.npz"
        for name in (
            *("annthyroid", "breastw", "cardio", "ionosphere", "mammography", "optdigits"),
            *("pendigits", "satellite", "satimage-2", "thyroid", "vowels", "wine"),
        )
    },
}
SMOOTHING, CHOOSING = 0, 1  # random streams of a split's seed


class Scaling(NamedTuple):
    """x -> (x - mean) / std, column by column, both of the training rows."""

    mean: Float[Tensor, " columns"]
    std: Float[Tensor, " columns"]

    @classmethod
    def of(cls, x: Float[Tensor, "num columns"]) -> "Scaling":
        """Mean and standard deviation of the rows; of a constant column the latter is 0."""
        return cls(x.mean(0), x.std(0, correction=0) * (x != x[0]).any(0))

    def __call__(self, x: Float[Tensor, "num columns"]) -> Float[Tensor, "num columns"]:
        """The rows on that scale; what was constant is centred only."""
        return (x - self.mean) / torch.where(self.std > 0, self.std, 1.0)


class Table(InMemoryData):
    """Rows of a table, split at random and standardised by the training rows: `<root>/<folder>/<name>.npz`.

    The file holds X (n, columns); its labels, if any, are not read. Columns of rounded numbers have no
    density, and a loss that sees the score sharpens without end at their values; so uniform noise as wide as
    the median gap between neighbouring values of a column is added once, to all rows. A likelihood is one of
    standardised rows: add Σ log std for that of the numbers in the file.

    Args:
        name: of the file, without .npz.
        shape: [columns].
        order_seed: of the order of training batches.
        root: folder of data sets.
        folder: under it, where the file lies.
        smooth: whether the noise is added.
        val_fraction, test_fraction: parts of the rows that are held out, between 0 and 1.
        split_seed: of split and noise, at least 0; the same whatever the run's seed.
        batch_size: training rows per iteration and process.

    Raises:
        ValueError: an argument outside of its range.
        UserError: in `setup`, when there is no such file, it holds no table, or a column is constant.
    Reference: the noise is that of Wenliang et al. 2019, Learning deep kernels for exponential family
        densities, arXiv:1811.08357, on UCI data.
    """

    def __init__(
        self,
        *,
        name: str,
        shape: Sequence[int],
        order_seed: int,
        root: str = "data",
        folder: str = "tabular",
        smooth: bool = True,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        split_seed: int = 0,
        batch_size: int = 128,
    ) -> None:
        super().__init__(shape=shape, batch_size=batch_size, order_seed=order_seed, domain="real")
        self.name, self.root, self.folder, self.smooth = name, root, folder, smooth
        self.val_fraction = check_fraction("val_fraction", val_fraction)
        self.test_fraction = check_fraction("test_fraction", test_fraction)
        self.split_seed = check_integer("split_seed", split_seed, at_least=0)

    def load(self) -> Splits:
        """Read, smooth, split, standardise."""
        x, _ = read_table(self.folder, self.name, self.root)
        if self.smooth:
            x = smoothed(x, seeded_generator(self.split_seed, SMOOTHING))
        fractions = (self.val_fraction, self.test_fraction)
        splits = split_by_fractions(Batch(x), *fractions, self.split_seed, f"{self.name}.npz")
        scaling = Scaling.of(splits.train.x)
        constant = (scaling.std == 0).nonzero().flatten().tolist()
        if constant:
            raise UserError(
                f"{self.name}.npz has columns that are constant over the training rows, which leaves no "
                f"density: take {', '.join(map(str, constant))} (from 0 on) out of X"
            )
        scaled = (Batch(scaling(events.x).float()) for _, events in splits.named())
        return Splits(*scaled, splits.source)


class OneClassTable(InMemoryData):
    """Training on normal rows alone, anomalies met in evaluation: `<root>/<folder>/<name>.npz`.

    The file holds X (n, columns) and y (n,), 1 for anomalies. Half of the normal rows, drawn at random, are
    for training, and a part of these for validation; the other half are the test split, and all anomalies
    are `anomalies_x`. Columns are standardised by the training rows and clipped. `auroc_anomalies` in the
    results tells the test split from the anomalies by -E.

    Args:
        name: of the file, without .npz.
        shape: [columns].
        order_seed: of the order of training batches.
        root: folder of data sets.
        folder: under it, where the file lies.
        clip: largest absolute value after standardisation.
        val_fraction: part of the training rows that is held out for validation, between 0 and 1.
        split_seed: of the split, at least 0; the same split whatever the run's seed.
        batch_size: training rows per iteration and process.

    Raises:
        ValueError: an argument outside of its range.
        UserError: in `setup`, when there is no such file, or it does not hold rows with both labels.
    Notes: 1. the protocol takes no validation rows; here they are a tenth of the training half.
    Reference: tables and labels are those of Han et al., ADBench: anomaly detection benchmark, NeurIPS 2022.
        The protocol is the one of Zong et al. 2018 and Bergman & Hoshen 2020.
    """

    def __init__(
        self,
        *,
        name: str,
        shape: Sequence[int],
        order_seed: int,
        root: str = "data",
        folder: str = "adbench",
        clip: float = 10.0,
        val_fraction: float = 0.1,
        split_seed: int = 0,
        batch_size: int = 128,
    ) -> None:
        super().__init__(shape=shape, batch_size=batch_size, order_seed=order_seed, domain="real")
        self.name, self.root, self.folder = name, root, folder
        self.clip = check_positive("clip", clip)
        self.val_fraction = check_fraction("val_fraction", val_fraction)
        self.split_seed = check_integer("split_seed", split_seed, at_least=0)

    def load(self) -> Splits:
        """Read, split, standardise, clip; `anomalies_x` is set beside the splits."""
        x, y = read_table(self.folder, self.name, self.root)
        if y is None or len(y) != len(x) or set(np.unique(y)) != {0, 1}:
            raise UserError(f"{self.name}.npz must hold y (n,) with 0 for normal rows and 1 for anomalies")
        is_anomaly = torch.from_numpy(y == 1)
        train, val, test = self._halves(x[~is_anomaly])
        scaling = Scaling.of(train)
        train, val, test, anomalies = (
            scaling(part).clamp(-self.clip, self.clip).float() for part in (train, val, test, x[is_anomaly])
        )
        self.anomalies_x = anomalies
        return Splits(Batch(train), Batch(val), Batch(test), f"{self.name}.npz")

    def _halves(self, normal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        half = len(normal) // 2
        num_val = round(self.val_fraction * half)
        if num_val < 1:
            raise UserError(f"{self.name}.npz has {len(normal)} normal rows, too few to split in three")
        order = torch.randperm(len(normal), generator=seeded_generator(self.split_seed, CHOOSING))
        return normal[order].split([half - num_val, num_val, len(normal) - half])


def read_table(folder: str, name: str, root: str) -> tuple[Float[Tensor, "num columns"], np.ndarray | None]:
    """X in float64, and y as it is where the file has one.

    Raises:
        UserError: when there is no such file, or X is no table of numbers.
    """
    file = table_path(folder, name, root)
    x = _read(file, "X")
    if x.ndim != 2 or x.dtype.kind not in "fiub":
        raise UserError(f"{file} holds X of shape {list(x.shape)} and type {x.dtype}, not a table of numbers")
    with np.load(file) as archive:
        has_labels = "y" in archive.files
    return torch.from_numpy(x.astype(np.float64)), _read(file, "y") if has_labels else None


def _read(file: Path, key: str) -> np.ndarray:
    with open_array(file, key) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def smoothed(x: Float[Tensor, "num columns"], generator: torch.Generator) -> Float[Tensor, "num columns"]:
    """x + (u - ½) g, u uniform, g the median gap between neighbouring different values of each column."""
    gaps = [column.unique().diff() for column in x.T]
    width = torch.stack([gap.median() if len(gap) else gap.new_zeros(()) for gap in gaps])
    return x + (torch.rand(x.shape, generator=generator, dtype=x.dtype) - 0.5) * width
