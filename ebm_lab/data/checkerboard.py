"""Uniform squares with softened edges: a density with sharp features whose score exists everywhere."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.data.checks import check_integer, check_points, check_positive
from ebm_lab.data.density import Density, draw_indices, in_chunks, normal_like, tail_width


class Checkerboard(Density):
    """Every other square of a board, uniform, convolved with N(0, s² I).

        p(x) = 1/n Σ_k Π_i I(x_i - c_ki) / 2h,    I(t) = Φ((h + t)/s) - Φ((t - h)/s)

    over the n squares with centres c_k and half-width h. I is even; it is taken at |t|, where both arguments
    lie in the left tail, as log I = log Φ(a) + log(1 - Φ(b)/Φ(a)), a = (h - |t|)/s, b = (-h - |t|)/s, so that
    log p and the score keep their digits far away.

    Args:
        cells: squares on each side of the board, at least 2.
        half_width: the board is [-half_width, half_width]², positive.
        scale: s, standard deviation of the edges, positive.

    Raises:
        ValueError: a number outside of its range.
    """

    dim = 2

    def __init__(self, cells: int = 4, half_width: float = 4.0, scale: float = 0.1) -> None:
        self.cells = check_integer("cells", cells, at_least=2)
        self.half_width = check_positive("half_width", half_width)
        self.scale = check_positive("scale", scale)
        self.bounds = self.half_width + tail_width(self.dim) * self.scale
        self._half_cell = self.half_width / cells
        self._centres = self._half_cell * (2 * torch.arange(cells, dtype=torch.float64) + 1 - cells)
        rows, columns = torch.meshgrid(torch.arange(cells), torch.arange(cells), indexing="ij")
        self._squares = torch.stack([rows, columns], -1)[(rows + columns) % 2 == 0]

    def sample(
        self, num: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "num dim"]:
        """A point of a random square plus s z."""
        z = normal_like(num, 2, generator, dtype)
        u = torch.rand(num, 2, generator=generator, dtype=dtype, device=z.device)
        square = draw_indices(torch.ones(len(self._squares)), num, generator)
        centre = self._centres.to(z)[self._squares.to(z.device)[square]]
        return centre + self._half_cell * (2 * u - 1) + self.scale * z

    def log_prob(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """log p(x) in nats."""
        check_points(x, self.dim)
        return in_chunks(self._log_prob, x, 2 * len(self._squares))

    def score(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """∇ log p(x): the slopes d log I / dt of the squares, weighted by their responsibilities."""
        check_points(x, self.dim)
        return in_chunks(self._score, x, 2 * len(self._squares))

    def noised(self, sigma: float) -> "Checkerboard":
        """Edges of variance s² + σ²."""
        softer = math.hypot(self.scale, check_positive("sigma", sigma))
        return Checkerboard(self.cells, self.half_width, softer)

    def _log_prob(self, x: Tensor) -> Tensor:
        relative, largest = self._log_squares(x)
        area = len(self._squares) * (2 * self._half_cell) ** 2
        return relative.logsumexp(1) + largest - math.log(area)

    def _log_squares(self, x: Tensor) -> tuple[Float[Tensor, "batch squares"], Float[Tensor, " batch"]]:
        """Σ_i log I of each square, relative to the largest row and column, and what that leaves out.

        Far away in one coordinate its log I would otherwise swallow the digits of the other's.
        """
        log_interval = _log_interval(self._offsets(x), self._half_cell, self.scale)
        largest = log_interval.amax(1, keepdim=True)
        return self._of_squares(log_interval - largest).sum(2), largest.sum((1, 2))

    def _score(self, x: Tensor) -> Tensor:
        relative, _ = self._log_squares(x)
        slopes = self._of_squares(_slope(self._offsets(x), self._half_cell, self.scale))
        return torch.einsum("bk,bki->bi", relative.softmax(1), slopes)

    def _offsets(self, x: Tensor) -> Float[Tensor, "batch cells 2"]:
        return x[:, None] - self._centres.to(x)[:, None]

    def _of_squares(self, values: Float[Tensor, "batch cells 2"]) -> Float[Tensor, "batch squares 2"]:
        rows, columns = self._squares.to(values.device).unbind(1)
        return torch.stack([values[:, rows, 0], values[:, columns, 1]], -1)


def _log_interval(t: Tensor, half: float, scale: float) -> Tensor:
    """log[Φ((h + t)/s) - Φ((t - h)/s)]."""
    upper, lower = _tails(t, half, scale)
    log_upper = _log_ndtr(upper)
    return log_upper + torch.log1p(-torch.exp(_log_ndtr(lower) - log_upper))


def _slope(t: Tensor, half: float, scale: float) -> Tensor:
    """d/dt of `_log_interval`: -sign(t)/s · φ(a)/Φ(a) · (1 - φ(b)/φ(a)) / (1 - Φ(b)/Φ(a)).

    φ(a)/Φ(a) = √(2/π) / erfcx(-a/√2) and φ(b)/φ(a) = exp(-2h|t|/s²), neither a difference of large numbers.
    """
    upper, lower = _tails(t, half, scale)
    mills = math.sqrt(2 / math.pi) / torch.special.erfcx(-upper / math.sqrt(2))
    falling = -torch.expm1(-2 * half * t.abs() / scale**2)
    ratio = torch.exp(_log_ndtr(lower) - _log_ndtr(upper))
    return -t.sign() / scale * mills * falling / (1 - ratio)


def _log_ndtr(a: Tensor) -> Tensor:
    """log Φ(a); torch.special.log_ndtr has a wrong gradient far out (by a factor 8 at -1e4 in float32)."""
    left, right = a.clamp(max=-1.0), a.clamp(min=-1.0)
    far = torch.log(torch.special.erfcx(-left / math.sqrt(2)) / 2) - left.square() / 2
    return torch.where(a < -1, far, torch.log1p(-torch.erfc(right / math.sqrt(2)) / 2))


def _tails(t: Tensor, half: float, scale: float) -> tuple[Tensor, Tensor]:
    """a > b with I = Φ(a) - Φ(b), b < 0."""
    return (half - t.abs()) / scale, (-half - t.abs()) / scale
