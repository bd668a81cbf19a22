"""Random transforms of images between Langevin steps: a heuristic that mixes persistent chains."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.transforms import v2


class Augmentation:
    """Passes images through torchvision's transforms, each with random numbers of its own.

    Args:
        transforms: of `torchvision.transforms.v2`, applied in this order to images in [0, 1].
        low: value of black in the data's units.
        high: value of white, above low.

    Raises:
        ValueError: for no transform, or low >= high.
    Cost: about 1 ms an image of 32 × 32 pixels on a CPU core.
    Notes: 1. It leaves the model's law as it is only where that law is symmetric under the transforms, so
        chains are biased toward transformed images. 2. Colour jitter clamps to [low, high]. 3. The transforms
        draw from torch's global generator, which is seeded here from `generator` and put back.
    Reference: Du, Li, Tenenbaum & Mordatch 2021, arXiv 2012.01316, section 3.3.
    """

    def __init__(
        self, transforms: Sequence[Callable[[Tensor], Tensor]], low: float = -1.0, high: float = 1.0
    ) -> None:
        if not transforms or low >= high:
            raise ValueError(
                f"augmentation needs a transform and low < high, got {len(transforms)} transforms, low={low} "
                f"and high={high}"
            )
        self.transform = v2.Compose(transforms)
        self.low, self.high = low, high

    def __call__(
        self, x: Float[Tensor, "num *shape"], generator: torch.Generator
    ) -> Float[Tensor, "num *shape"]:
        """The transformed images; one integer is drawn from `generator`."""
        width = self.high - self.low
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            images = [self.transform(image) for image in (x - self.low) / width]
        return torch.stack(images) * width + self.low if images else x
