"""The files of the standard image sets: where they lie under a root, what is in them, where to get them."""

import gzip
import struct
import zlib
from abc import ABC, abstractmethod
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from ebm_lab.data.batch import Batch
from ebm_lab.errors import UserError
from ebm_lab.resolvers import open_array


class ImageFiles(ABC):
    """One data set's files. A subclass knows their format; the official parts are read, never changed.

    Args:
        name: of the data set, as `python scripts/prepare_data.py NAME` takes it.
        dataset: its class in `torchvision.datasets`, which downloads it and checks the sums.
        folder: where under the root its files lie.
    """

    def __init__(self, name: str, dataset: str, folder: str) -> None:
        self.name, self.dataset, self.folder = name, dataset, folder

    @abstractmethod
    def complete(self, root: Path) -> bool:
        """Whether nothing has to be downloaded."""

    @abstractmethod
    def read(self, root: Path, train: bool) -> Batch:
        """The official training or test part: bytes (num, channels, height, width) and labels."""

    def prepare(self, root: Path, download: bool = True) -> None:
        """Download what is missing; of several processes one does so and the others wait.

        Raises:
            UserError: when files are missing and cannot be downloaded, or must not be.
        """
        lock = root / ".download.lock"
        if self.complete(root) and not (download and lock.exists()):  # else another may still be writing
            return
        problem = "data.download is false"
        if download:
            try:
                root.mkdir(parents=True, exist_ok=True)
                with FileLock(lock):
                    if not self.complete(root):
                        self._dataset()(str(root), download=True)
                return
            except (OSError, HTTPException, RuntimeError) as error:  # no network, no such page, wrong sums
                problem = " ".join(f"the download failed, {error}".split())
        raise UserError(
            f"the files of {self.name} are not all in {root / self.folder} ({problem}): run `python "
            f"scripts/prepare_data.py {self.name}` where there is a network, put the files there, or set "
            "EBM_LAB_DATA to the folder that has them"
        )

    def _dataset(self) -> type:
        from torchvision import datasets

        return getattr(datasets, self.dataset)

    def _again(self) -> str:
        return f"remove it and run `python scripts/prepare_data.py {self.name}` again"


class IdxFiles(ImageFiles):
    """MNIST and its likes: four idx files, unpacked or as .gz."""

    def complete(self, root: Path) -> bool:
        """Whether all four are there."""
        return all(
            self._find(root, f"{part}-{kind}") is not None
            for part in ("train", "t10k")
            for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
        )

    def read(self, root: Path, train: bool) -> Batch:
        """One part; grey images get their channel axis."""
        part = "train" if train else "t10k"
        images = self._read(self._find(root, f"{part}-images-idx3-ubyte"), num_axes=3)
        labels = self._read(self._find(root, f"{part}-labels-idx1-ubyte"), num_axes=1)
        return _pair(images[:, None], labels, root / self.folder)

    def _find(self, root: Path, stem: str) -> Path | None:
        candidates = (root / self.folder / stem, root / self.folder / f"{stem}.gz")
        return next((file for file in candidates if file.is_file()), None)

    def _read(self, file: Path, num_axes: int) -> Tensor:
        """An idx file: the bytes 0, 0, 8 (for unsigned bytes), number of axes; their lengths; the array."""
        try:
            content = file.read_bytes()
            if file.suffix == ".gz":
                content = gzip.decompress(content)
            if content[:4] != bytes([0, 0, 8, num_axes]):
                raise ValueError(f"no array of bytes with {num_axes} axes")
            shape = struct.unpack_from(f">{num_axes}i", content, 4)
            array = np.frombuffer(content, np.uint8, offset=4 + 4 * num_axes).reshape(shape)
        except (OSError, EOFError, zlib.error, struct.error, ValueError) as error:
            raise UserError(f"{file} cannot be read as an idx file ({error}): {self._again()}") from error
        return torch.from_numpy(array.copy())


class CifarFiles(ImageFiles):
    """CIFAR-10: `<name>.npz` with the arrays train_images, train_labels, test_images and test_labels.

    Its images are bytes (num, height, width, 3). Without it the official pickled batches are read, unpacked
    or as .tar.gz; torchvision checks their sums before it unpickles them.
    """

    def complete(self, root: Path) -> bool:
        """Whether any of the three is there."""
        return any(path.exists() for path in (self._npz(root), root / self.folder, self._archive(root)))

    def read(self, root: Path, train: bool) -> Batch:
        """One part; colours first."""
        images, labels = self._read_npz(root, train) if self._npz(root).exists() else self._read(root, train)
        return _pair(images.permute(0, 3, 1, 2).contiguous(), labels, root)

    def _npz(self, root: Path) -> Path:
        return root / f"{self.name}.npz"

    def _archive(self, root: Path) -> Path:
        return root / self._dataset().filename

    def _read_npz(self, root: Path, train: bool) -> tuple[Tensor, Tensor]:
        arrays = []
        for key in ("train_images", "train_labels") if train else ("test_images", "test_labels"):
            with open_array(self._npz(root), key) as stream:
                arrays.append(torch.from_numpy(np.lib.format.read_array(stream, allow_pickle=False)))
        images, labels = arrays
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise UserError(
                f"{self._npz(root)} holds images of type {images.dtype} and shape {list(images.shape)}: "
                "write uint8 and (num, height, width, 3)"
            )
        return images, labels

    def _read(self, root: Path, train: bool) -> tuple[Tensor, Tensor]:
        if not (root / self.folder).exists():
            self._unpack(root)
        try:
            part = self._dataset()(str(root), train=train)
        except RuntimeError as error:  # files that are missing or have another sum
            raise UserError(f"{root / self.folder} is not as published ({error}): {self._again()}") from error
        return torch.from_numpy(part.data), torch.tensor(part.targets)

    def _unpack(self, root: Path) -> None:
        from torchvision.datasets.utils import check_integrity, extract_archive

        archive = self._archive(root)
        if not check_integrity(archive, self._dataset().tgz_md5):
            raise UserError(f"{archive} is not as published (another MD5 sum): {self._again()}")
        extract_archive(str(archive), str(root))


def _pair(images: Tensor, labels: Tensor, where: Path) -> Batch:
    if labels.shape != images.shape[:1]:
        raise UserError(
            f"{where} has {len(images)} images and labels of shape {list(labels.shape)}: one an image"
        )
    return Batch(images, labels.long())


IMAGE_FILES: dict[str, ImageFiles] = {
    "mnist": IdxFiles("mnist", "MNIST", "MNIST/raw"),
    "fashion_mnist": IdxFiles("fashion_mnist", "FashionMNIST", "FashionMNIST/raw"),
    "cifar10": CifarFiles("cifar10", "CIFAR10", "cifar-10-batches-py"),
}


def read_images(name: str, root: str, download: bool) -> tuple[Batch, Batch]:
    """Official training and test part of a data set: bytes (num, channels, height, width), and labels.

    Raises:
        UserError: when files are missing and cannot be downloaded, or are damaged.
    """
    files, folder = IMAGE_FILES[name], Path(root).expanduser()
    files.prepare(folder, download)
    return files.read(folder, train=True), files.read(folder, train=False)
