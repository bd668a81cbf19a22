"""Points of the plane as strings of bits: quantised, and Gray coded coordinate by coordinate."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ebm_lab.data.batch import Batch
from ebm_lab.data.checks import check_integer
from ebm_lab.data.density import Density
from ebm_lab.data.in_memory import InMemoryData
from ebm_lab.data.seeding import seeded_generator
from ebm_lab.data.splits import Splits


class GrayPoints(InMemoryData):
    """Draws from a density, each coordinate as the Gray code of one of 2^bits equal cells of [-L, L].

    Cells that touch differ in one bit, so that a step of a discrete kernel can be a small step in space; the
    first bit of a coordinate is its sign. Binary data with structure that can be seen: `points` leads back.
    Draws beyond the box, a mass below 1e-6, are put into its outermost cells.

    Args:
        density: what to draw from; L is the half-width of its box.
        bits: of each coordinate, 1 to 24.
        shape: of one event, (coordinates · bits,).
        num_train, num_val, num_test: events of each split, at least 1.
        batch_size: training events per iteration and process.
        seed: of the draws, at least 0; the same data whatever the run's seed.
        order_seed: of the order of training batches.

    Raises:
        ValueError: a number outside of its range, or a shape that is not that of the code.
    Reference: Dai et al. 2020, Learning discrete energy-based models via auxiliary-variable local
        exploration, arXiv 2011.05363 (16 bits a coordinate, two coordinates).
    """

    def __init__(
        self,
        *,
        density: Density,
        shape: Sequence[int],
        order_seed: int,
        bits: int = 16,
        num_train: int = 50_000,
        num_val: int = 5_000,
        num_test: int = 10_000,
        batch_size: int = 128,
        seed: int = 0,
    ) -> None:
        super().__init__(shape=shape, batch_size=batch_size, order_seed=order_seed, domain="binary")
        if check_integer("bits", bits, at_least=1) > 24:
            raise ValueError(f"bits must be at most 24, the digits of a float32, got {bits}")
        if self.shape != (density.dim * bits,):
            raise ValueError(
                f"shape must be [{density.dim * bits}], {bits} bits a coordinate, got {list(shape)}"
            )
        self.source = density
        self.bits = bits
        self.num_train = check_integer("num_train", num_train, at_least=1)
        self.num_val = check_integer("num_val", num_val, at_least=1)
        self.num_test = check_integer("num_test", num_test, at_least=1)
        self.seed = check_integer("seed", seed, at_least=0)

    @property
    def half_width(self) -> float:
        """L of the box [-L, L] that is cut into cells."""
        return self.source.bounds

    def load(self) -> Splits:
        """Draw in float64 on the CPU and code: the same data on every device."""
        sizes = (self.num_train, self.num_val, self.num_test)
        draws = [
            self.source.sample(num, seeded_generator(self.seed, split), torch.float64)
            for split, num in enumerate(sizes)
        ]
        coded = [Batch(self.coded(x).float()) for x in draws]
        return Splits(*coded, source=f"coded {type(self.source).__name__} draws")

    def coded(self, points: Float[Tensor, "num dim"]) -> Float[Tensor, "num sites"]:
        """The code of each point's cell, the most significant bit of the first coordinate first."""
        cells = 2**self.bits
        cell = ((points / self.half_width + 1) / 2 * cells).floor().clamp(0, cells - 1).long()
        gray = cell ^ (cell >> 1)
        return (gray[:, :, None] >> self._places(points.device) & 1).to(points.dtype).flatten(1)

    def points(self, x: Float[Tensor, "num sites"]) -> Float[Tensor, "num dim"]:
        """The middle of the cell of each event."""
        gray = x.view(len(x), -1, self.bits).long()
        binary = gray.cumsum(2) % 2  # bit i of the number is the parity of the code's bits up to i
        cell = (binary << self._places(x.device)).sum(2)
        return self.half_width * ((cell.to(x.dtype) + 0.5) / 2 ** (self.bits - 1) - 1)

    def _places(self, device: torch.device) -> Int[Tensor, " bits"]:
        return torch.arange(self.bits - 1, -1, -1, device=device)
