"""Integrals on a uniform grid: the reference for every quantity that needs a density in d ≤ 3."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.energies.energy import Energy
from ebm_lab.errors import UserError
from ebm_lab.evaluation.energies import evaluate_in_chunks
from ebm_lab.evaluation.partition import LogPartition

MAX_DOUBLINGS = 3
MAX_GRID_SIZE = 2**24  # 128 MiB of float64 energies
MAX_BOUNDARY_MASS = 1e-6
SHELL_START = 0.95  # the boundary shell is where max_i |x_i| > SHELL_START · half_width


class NotIntegrable(UserError):
    """exp(-E) does not vanish at the edge of any box that was tried."""


@dataclass(frozen=True)
class Grid:
    """Uniform nodes on [-L, L]^dim, the boundary included, for the trapezoid rule ∫f ≈ h^dim Σ f(x_k).

    All nodes have the same weight: f must vanish at the boundary, and then the rule converges faster than any
    power of h for smooth f. The nodes of even index are the same grid at half the resolution; every integral
    comes with its change between the two.

    Args:
        half_width: L > 0.
        num_points: nodes on each axis; odd and ≥ 5, so that half the resolution ends at the boundary too.
        dim: 1, 2 or 3.
        dtype: of the nodes; sums are in float64 whatever it is.
        device: of the nodes.
    """

    half_width: float
    num_points: int
    dim: int
    dtype: torch.dtype = torch.float64
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.half_width) and self.half_width > 0):
            raise ValueError(f"half_width must be finite and > 0, got {self.half_width}")
        if self.num_points < 5 or self.num_points % 2 == 0:
            raise ValueError(f"num_points must be odd and at least 5 (201, say), got {self.num_points}")
        if self.dim not in (1, 2, 3):
            raise ValueError(
                f"a grid needs dim 1, 2 or 3, got {self.dim}: estimate log Z by sampling instead"
            )

    @property
    def spacing(self) -> float:
        """Distance h between neighbouring nodes."""
        return 2 * self.half_width / (self.num_points - 1)

    @property
    def cell_volume(self) -> float:
        """Weight h^dim of one node."""
        return self.spacing**self.dim

    @property
    def size(self) -> int:
        """Number of nodes."""
        return self.num_points**self.dim

    @property
    def axis(self) -> Float[Tensor, " points"]:
        """The nodes of one coordinate."""
        half_width = self.half_width
        return torch.linspace(-half_width, half_width, self.num_points, dtype=self.dtype, device=self.device)

    @property
    def points(self) -> Float[Tensor, "size dim"]:
        """The nodes; the last coordinate changes fastest."""
        axes = torch.meshgrid(*[self.axis] * self.dim, indexing="ij")
        return torch.stack(axes, dim=-1).reshape(-1, self.dim)

    def reshape(self, values: Float[Tensor, " size"]) -> Tensor:
        """Values as an array (num_points, ...) with one axis per coordinate, x first."""
        if values.shape != (self.size,):
            raise ValueError(
                f"values on this grid have shape (num_points^dim,) = ({self.size},), "
                f"got {tuple(values.shape)}"
            )
        return values.reshape((self.num_points,) * self.dim)

    def evaluate(self, function: Callable[[Tensor], Tensor]) -> Float[Tensor, " size"]:
        """function at every node, in float64, a chunk at a time and without gradients."""
        return evaluate_in_chunks(function, self.points)

    def doubled(self) -> "Grid":
        """The grid on [-2L, 2L]^dim with the same spacing."""
        return Grid(2 * self.half_width, 2 * self.num_points - 1, self.dim, self.dtype, self.device)

    def integrate(self, values: Float[Tensor, " size"]) -> tuple[float, float]:
        """∫f from f at the nodes, and |its change from half the resolution|."""
        fine, coarse = values.double(), self._every_second(values).double()
        integral = self.cell_volume * fine.sum().item()
        return integral, abs(integral - self.cell_volume * 2**self.dim * coarse.sum().item())

    def log_integrate(self, log_values: Float[Tensor, " size"]) -> tuple[float, float]:
        """log ∫f from log f at the nodes, and |its change from half the resolution|."""
        fine, coarse = log_values.double(), self._every_second(log_values).double()
        change = (fine.logsumexp(0) - coarse.logsumexp(0)).item() - self.dim * math.log(2)
        return fine.logsumexp(0).item() + math.log(self.cell_volume), abs(change)

    def boundary_mass(self, log_values: Float[Tensor, " size"]) -> float:
        """Fraction of ∫f in the outermost twentieth of the box, max_i |x_i| > 0.95 L."""
        edge = shell = self.axis.abs() > SHELL_START * self.half_width
        for _ in range(self.dim - 1):
            shell = shell.unsqueeze(-1) | edge
        log_values = log_values.double()
        return (log_values[shell.reshape(-1)].logsumexp(0) - log_values.logsumexp(0)).exp().item()

    def _every_second(self, values: Tensor) -> Tensor:
        """Values on the grid of half the resolution."""
        return self.reshape(values)[(slice(None, None, 2),) * self.dim].reshape(-1)


class Quadrature(NamedTuple):
    """log Z by quadrature, the grid that holds the mass, and the normalised log-density at its nodes."""

    log_z: LogPartition
    grid: Grid
    log_density: Float[Tensor, " size"]


def log_partition(energy: Energy, half_width: float, num_points: int) -> LogPartition:
    """log Z of `normalise`, alone."""
    return normalise(energy, half_width, num_points).log_z


def normalise(energy: Energy, half_width: float, num_points: int) -> Quadrature:
    """log Z = log ∫ exp(-E(x)) dx by the trapezoid rule, for an energy on R^d with d ≤ 3.

    The box [-L, L]^d starts at L = `half_width` with `num_points` nodes an axis, and is doubled at the same
    spacing until its boundary shell holds less than 1e-6 of the mass (three times at most).

    The error bar is |change from half the resolution| + the mass in the boundary shell: the error of the
    half resolution, far more than that of the full one for smooth energies (the rule converges
    exponentially). It cannot see basins beyond the box, behind a region of high energy, nor features
    narrower than the spacing.

    Nodes take dtype and device of the energy's parameters or buffers; float64 on the CPU where it has none.

    Raises:
        NotIntegrable: when the last box still holds more than 1e-6 of its mass at the boundary.
        ValueError: when d > 3, or when the energy is not a number somewhere on the grid.
    """
    if len(energy.shape) != 1:
        raise ValueError(f"quadrature needs an energy of shape (d,) with d ≤ 3, got {tuple(energy.shape)}")
    dtype, device = placement(energy)
    return _normalise(energy, Grid(half_width, num_points, energy.shape[0], dtype, device), MAX_DOUBLINGS)


def _normalise(energy: Energy, grid: Grid, doublings_left: int) -> Quadrature:
    log_values = -grid.evaluate(energy)
    log_z, change = grid.log_integrate(log_values)
    if not math.isfinite(log_z):
        raise ValueError(f"log Z is {log_z} on the box of half-width {grid.half_width:g}: check the energy")
    boundary_mass = grid.boundary_mass(log_values)
    if boundary_mass < MAX_BOUNDARY_MASS:
        return Quadrature(_estimate(log_z, change + boundary_mass, grid), grid, log_values - log_z)
    if doublings_left == 0 or grid.doubled().size > MAX_GRID_SIZE:
        raise NotIntegrable(_refusal(boundary_mass, grid.half_width))
    return _normalise(energy, grid.doubled(), doublings_left - 1)


def _estimate(log_z: float, error: float, grid: Grid) -> LogPartition:
    power = "" if grid.dim == 1 else "²³"[grid.dim - 2]
    box = f"[-{grid.half_width:.3g}, {grid.half_width:.3g}]{power}"
    return LogPartition(log_z, error, math.inf, "either", f"quadrature on {box}")


def placement(energy: Energy) -> tuple[torch.dtype, torch.device]:
    """dtype and device of the first floating-point parameter or buffer."""
    for tensor in [*energy.parameters(), *energy.buffers()]:
        if tensor.is_floating_point():
            return tensor.dtype, tensor.device
    return torch.float64, torch.device("cpu")


def _refusal(boundary_mass: float, half_width: float) -> str:
    return (
        f"exp(-E) does not look integrable: {boundary_mass:.1e} of its mass lies at the edge of "
        f"[-{half_width:g}, {half_width:g}]^d (at most {MAX_BOUNDARY_MASS:.0e} allowed): "
        "there is no log Z; add a base term to the energy (a Gaussian, say), or start from a wider box"
    )
