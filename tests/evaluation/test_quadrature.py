import math

import pytest
import torch
from torch import nn

from ebm_lab.energies.energy import Energy
from ebm_lab.errors import UserError
from ebm_lab.evaluation.quadrature import Grid, NotIntegrable, log_partition, normalise


class Formula(Energy):
    """An energy written as a function, without parameters."""

    def __init__(self, dim, formula):
        super().__init__()
        self.shape = (dim,)
        self.formula = formula

    def forward(self, x):
        return self.formula(x)


class Gaussian(Energy):
    """E(x) = ½ λ ‖x - μ‖²."""

    def __init__(self, precision, mean, dtype=torch.float64):
        super().__init__()
        self.shape = (len(mean),)
        self.precision = precision
        self.mean = nn.Parameter(torch.tensor(mean, dtype=dtype))

    def forward(self, x):
        return 0.5 * self.precision * (x - self.mean).square().sum(1)


def correlated(x):
    precision = torch.tensor([[2.0, 0.6], [0.6, 1.0]], dtype=x.dtype)
    return 0.5 * torch.einsum("bi,ij,bj->b", x, precision, x)


def double_well(x):
    return (x[:, 0].square() - 1).square()


@pytest.mark.parametrize(
    ("dim", "formula", "half_width", "expected"),
    [(2, correlated, 8.0, 1.590528945), (1, double_well, 4.0, 0.679926243)],
)
def test_log_partition_of_known_energies(dim, formula, half_width, expected):
    log_z, grid, _ = normalise(Formula(dim, formula), half_width, 161)
    assert log_z.value == pytest.approx(expected, abs=1e-9)  # the digits that are quoted
    assert log_z.error < 1e-6
    assert log_z.effective_samples == math.inf and log_z.side == "either"
    assert grid.half_width == half_width


def test_the_density_that_comes_with_log_z_is_normalised():
    log_z, grid, log_density = normalise(Gaussian(2.0, [0.3, -0.2]), 3.0, 61)
    assert grid.integrate(log_density.exp())[0] == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(log_density, -grid.evaluate(Gaussian(2.0, [0.3, -0.2])) - log_z.value)


def test_log_partition_in_three_dimensions():
    log_z = log_partition(Gaussian(2.0, [0.3, -0.2, 0.1]), 5.0, 61)
    assert log_z.value == pytest.approx(1.5 * math.log(math.pi), abs=1e-9)
    assert log_z.error < 1e-6
    assert log_z.method == "quadrature on [-5, 5]³"


def test_a_box_that_is_too_small_is_doubled_until_it_holds_the_mass():
    log_z, grid, _ = normalise(Gaussian(1.0, [6.0, 0.0]), 3.0, 31)
    assert grid.half_width == 12.0  # at 6 half of the mass lies outside
    assert log_z.method == "quadrature on [-12, 12]²"
    assert abs(log_z.value - math.log(2 * math.pi)) <= log_z.error + 1e-12
    assert log_z.error < 1e-6


@pytest.mark.parametrize("spacing", [1.25, 2.0, 2.75])
@pytest.mark.parametrize("offset", [0.0, 0.37])
def test_the_error_bar_covers_the_error_of_a_coarse_grid(spacing, offset):
    # in units of the standard deviation 1; the error is about 2 exp(-2π²/spacing²) per axis
    grid_points = 4 * round(10 / spacing) + 1
    log_z = log_partition(Gaussian(1.0, [offset, -offset]), spacing * (grid_points - 1) / 2, grid_points)
    true_error = abs(log_z.value - math.log(2 * math.pi))
    assert true_error > 1e-6
    assert true_error <= log_z.error


@pytest.mark.parametrize(
    "formula",
    [lambda x: 0 * x[:, 0], lambda x: x[:, 0].square(), lambda x: (1 + x.square().sum(1)).log()],
    ids=["constant", "one flat direction", "Cauchy tail in 2-D"],
)
def test_an_energy_that_is_not_integrable_is_refused_in_a_sentence(formula):
    with pytest.raises(NotIntegrable, match="does not look integrable.*add a base term") as refusal:
        log_partition(Formula(2, formula), 2.0, 21)
    assert isinstance(refusal.value, UserError)
    assert "[-16, 16]" in str(refusal.value)  # after three doublings


def test_an_energy_that_is_not_a_number_is_refused():
    with pytest.raises(ValueError, match="log Z is nan"):
        log_partition(Formula(1, lambda x: x[:, 0].sqrt()), 2.0, 21)


def test_images_are_refused():
    energy = Formula(1, double_well)
    energy.shape = (1, 8, 8)
    with pytest.raises(ValueError, match="d ≤ 3"):
        log_partition(energy, 1.0, 21)
    energy.shape = (4,)
    with pytest.raises(ValueError, match="dim 1, 2 or 3, got 4"):
        log_partition(energy, 1.0, 21)


def test_hard_walls_carry_no_mass():
    # uniform on [-1, 1) by infinite energies, in units of the spacing: 40 nodes of 0.05
    box = Formula(1, lambda x: torch.where((x[:, 0] >= -1.001) & (x[:, 0] < 0.999), 0.0, math.inf).double())
    assert log_partition(box, 2.0, 81).value == pytest.approx(math.log(2), abs=1e-12)


def test_sums_are_in_float64_for_a_float32_energy():
    value = log_partition(Gaussian(1.0, [0.0, 0.0], torch.float32), 8.0, 801).value
    # 6·10⁵ terms summed in float32 would be wrong by about 1e-5
    assert value == pytest.approx(math.log(2 * math.pi), abs=1e-6)


def test_grid_counts_and_orders_its_nodes():
    grid = Grid(1.0, 5, 2)
    assert grid.points.shape == (25, 2)
    assert grid.spacing == 0.5 and grid.cell_volume == 0.25
    x_values = grid.reshape(grid.points[:, 0])
    assert x_values[:, 0].tolist() == [-1, -0.5, 0, 0.5, 1]  # x on the first axis
    assert x_values[1].tolist() == [-0.5] * 5


def test_boundary_mass_is_the_share_of_the_outer_twentieth():
    grid = Grid(1.0, 201, 2)
    # 5 nodes an end have |x| > .95: of 201² nodes 191² lie inside
    assert grid.boundary_mass(torch.zeros(grid.size)) == pytest.approx(1 - (191 / 201) ** 2, rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0.0, 21, 2), "half_width"), ((1.0, 20, 2), "num_points must be odd"), ((1.0, 21, 4), "dim 1, 2 or 3")],
)
def test_grid_refuses_impossible_numbers(arguments, message):
    with pytest.raises(ValueError, match=message):
        Grid(*arguments)


def test_values_of_another_grid_are_refused():
    with pytest.raises(ValueError, match=r"\(25,\)"):
        Grid(1.0, 5, 2).integrate(torch.zeros(24))
