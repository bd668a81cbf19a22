"""The user's own images in a folder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ebm_lab.data.batch import Batch
from ebm_lab.data.checks import check_fraction, check_integer
from ebm_lab.data.in_memory import InMemoryData
from ebm_lab.data.splits import Splits, split_by_fractions
from ebm_lab.errors import UserError
from ebm_lab.resolvers import find_path

SUFFIXES = (".png", ".jpg", ".jpeg")
MODES = {1: "L", 3: "RGB"}  # Pillow's names for grey and colour


class Folder(InMemoryData):
    """PNG and JPEG images, resized to a square; images in subfolders are labelled by their subfolder.

    Args:
        path: the folder; a relative path is looked for as given, then under `root`.
        image_size: height and width in pixels.
        channels: 1 for grey, 3 for colour.
        shape: (channels, image_size, image_size).
        order_seed: of the order of training batches and of their dequantisation.
        root: folder of data sets.
        val_fraction, test_fraction: parts of the images that are held out, between 0 and 1.
        split_seed: of the split, at least 0; the same split whatever the run's seed.
        batch_size: training events per iteration and process.

    Raises:
        ValueError: an argument outside of its range.
        UserError: in `setup`, when the folder is missing or empty, or an image cannot be read.
    """

    def __init__(
        self,
        *,
        path: str,
        image_size: int,
        channels: int,
        shape: Sequence[int],
        order_seed: int,
        root: str = "data",
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        split_seed: int = 0,
        batch_size: int = 128,
    ) -> None:
        super().__init__(
            shape=shape, batch_size=batch_size, order_seed=order_seed, domain="image", levels=256
        )
        if channels not in MODES:
            raise ValueError(f"channels must be 1 (grey) or 3 (colour), got {channels!r}")
        self.image_size = check_integer("image_size", image_size, at_least=1)
        self.channels = channels
        if self.shape != (channels, image_size, image_size):
            raise ValueError(f"shape must be {[channels, image_size, image_size]}, got {list(self.shape)}")
        self.path, self.root = path, root
        self.val_fraction = check_fraction("val_fraction", val_fraction)
        self.test_fraction = check_fraction("test_fraction", test_fraction)
        self.split_seed = check_integer("split_seed", split_seed, at_least=0)

    def load(self) -> Splits:
        """Read all images, in the order of their names, and split them."""
        files, labels = _list_images(find_path(self.path, self.root))
        x = torch.stack([self._read(file) for file in files])
        return split_by_fractions(
            Batch(x, labels), self.val_fraction, self.test_fraction, self.split_seed, self.path
        )

    def _read(self, file: Path) -> Tensor:
        from PIL import Image

        size = (self.image_size, self.image_size)
        try:
            with Image.open(file) as image:
                pixels = image.convert(MODES[self.channels])
                resized = pixels if pixels.size == size else pixels.resize(size, Image.Resampling.BICUBIC)
        except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for a damaged file
            raise UserError(f"{file} cannot be read as an image ({error}): replace or remove it") from error
        return torch.from_numpy(np.array(resized)).view(*size, self.channels).permute(2, 0, 1).contiguous()


def _list_images(folder: Path) -> tuple[list[Path], Tensor | None]:
    """Images and labels by subfolder, or the images of a flat folder without labels."""
    from torchvision.datasets.folder import find_classes, make_dataset

    if not folder.is_dir():
        raise UserError(f"{folder} is a file: data.path must name a folder of images")
    if any(entry.is_dir() for entry in folder.iterdir()):
        classes = find_classes(str(folder))[1]
        found = make_dataset(str(folder), classes, extensions=SUFFIXES, allow_empty=True)
        files, labels = [Path(f) for f, _ in found], torch.tensor([label for _, label in found])
    else:
        files, labels = sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES), None
    if not files:
        raise UserError(
            f"{folder} holds no image ending in {', '.join(SUFFIXES)}: put images or subfolders in it"
        )
    return files, labels
