"""MNIST, Fashion-MNIST and CIFAR-10."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ebm_lab.data.checks import check_integer
from ebm_lab.data.image_files import IMAGE_FILES, read_images
from ebm_lab.data.in_memory import InMemoryData
from ebm_lab.data.logit import Logit
from ebm_lab.data.splits import Splits, split_official

SHAPES = {"mnist": (1, 28, 28), "fashion_mnist": (1, 28, 28), "cifar10": (3, 32, 32)}


class TorchvisionImages(InMemoryData):
    """One of torchvision's image sets: 256 levels dequantised to [-1, 1], ten classes, the official test set.

    Validation events come out of the official training part. Files that are already under `root` are used,
    packed or unpacked; others are downloaded to it.

    Args:
        name: mnist, fashion_mnist or cifar10.
        shape: (1, 28, 28), for cifar10 (3, 32, 32).
        order_seed: of the order of training batches, of their flips and of their dequantisation.
        root: folder of data sets.
        download: whether missing files are downloaded.
        num_val: validation events.
        split_seed: of their choice, at least 0; the same split whatever the run's seed.
        flip: whether each training event is mirrored left to right with probability ½, anew in every batch.
        transform: None, or "logit" for events on the whole line.
        alpha: α of that transform.
        batch_size: training events per iteration and process.

    Raises:
        ValueError: an argument outside of its range.
        UserError: in `setup`, when files are missing and cannot be downloaded, or are damaged.
    References: LeCun, Bottou, Bengio & Haffner, Gradient-based learning applied to document recognition,
        Proc. IEEE 1998; Xiao, Rasul & Vollgraf, Fashion-MNIST, arXiv:1708.07747; Krizhevsky, Learning
        multiple layers of features from tiny images, 2009.
    """

    def __init__(
        self,
        *,
        name: str,
        shape: Sequence[int],
        order_seed: int,
        root: str = "data",
        download: bool = True,
        num_val: int = 5000,
        split_seed: int = 0,
        flip: bool = False,
        transform: str | None = None,
        alpha: float = 1e-6,
        batch_size: int = 128,
    ) -> None:
        if name not in IMAGE_FILES:
            raise ValueError(f"name must be one of {', '.join(IMAGE_FILES)}, got {name!r}")
        if transform not in (None, "logit"):
            raise ValueError(f"transform must be null or logit, got {transform!r}")
        super().__init__(
            shape=shape,
            batch_size=batch_size,
            order_seed=order_seed,
            domain="image",
            levels=256,
            transform=None if transform is None else Logit(alpha),
        )
        if self.shape != SHAPES[name]:
            raise ValueError(f"shape must be {list(SHAPES[name])}, got {list(self.shape)}")
        self.name, self.root, self.download = name, root, download
        self.num_val = check_integer("num_val", num_val, at_least=1)
        self.split_seed = check_integer("split_seed", split_seed, at_least=0)
        self.flip = flip

    def load(self) -> Splits:
        """Read the files, and keep some of the training part for validation."""
        train, test = read_images(self.name, self.root, self.download)
        return split_official(train, test, self.num_val, self.split_seed, self.name)

    def augment(self, loaded: Tensor, generator: torch.Generator) -> Tensor:
        """Flips, where they are on."""
        return mirrored(loaded, generator) if self.flip else loaded


class BinaryMnist(InMemoryData):
    """MNIST as {0, 1} floats: each pixel is 1 with the probability of its intensity, k/255.

    A fixed-seed draw of this lab's own, not the binarised files of Larochelle & Murray (AISTATS 2011):
    likelihoods compare with theirs in distribution, not pixel by pixel.

    Args:
        shape: (1, 28, 28).
        order_seed: of the order of training batches and, where `dynamic`, of their binarisation.
        root: folder of data sets.
        download: whether missing files are downloaded.
        num_val: validation events, out of the official training part.
        split_seed: of their choice, at least 0; the same split whatever the run's seed.
        dynamic: whether training events are drawn anew in every batch; held-out events never are.
        batch_size: training events per iteration and process.

    Raises:
        ValueError: an argument outside of its range.
        UserError: in `setup`, when files are missing and cannot be downloaded, or are damaged.
    Reference: Salakhutdinov & Murray, On the quantitative analysis of deep belief networks, ICML 2008, §5.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int] = SHAPES["mnist"],
        order_seed: int,
        root: str = "data",
        download: bool = True,
        num_val: int = 5000,
        split_seed: int = 0,
        dynamic: bool = False,
        batch_size: int = 128,
    ) -> None:
        super().__init__(shape=shape, batch_size=batch_size, order_seed=order_seed, domain="binary")
        if self.shape != SHAPES["mnist"]:
            raise ValueError(f"shape must be {list(SHAPES['mnist'])}, got {list(self.shape)}")
        self.root, self.download = root, download
        self.num_val = check_integer("num_val", num_val, at_least=1)
        self.split_seed = check_integer("split_seed", split_seed, at_least=0)
        self.redraws = dynamic

    def load(self) -> Splits:
        """Intensities, 0 ... 255; the same split as that of mnist."""
        train, test = read_images("mnist", self.root, self.download)
        return split_official(train, test, self.num_val, self.split_seed, "mnist")

    def events(self, loaded: Tensor, generator: torch.Generator) -> Tensor:
        """One Bernoulli draw of every pixel."""
        return torch.bernoulli(loaded / 255, generator=generator)


def mirrored(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each event of x mirrored along its last axis with probability ½."""
    mirror = torch.rand(len(x), generator=generator, device=x.device) < 0.5
    return torch.where(mirror.view(-1, *[1] * (x.ndim - 1)), x.flip(-1), x)
