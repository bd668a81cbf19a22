"""The share of a score's Jacobian that no energy has: of linear fields, and of one where it varies."""

import math

import pytest
import torch

from ebm_lab.energies import MLP, ConvNet, Quadratic, ScoreNetwork
from ebm_lab.evaluation.conservativity import score_asymmetry

F64 = torch.float64


class Linear(ScoreNetwork):
    """s(x) = A x."""

    def __init__(self, matrix, shape=None):
        super().__init__()
        self.shape = shape or (len(matrix),)
        self.matrix = torch.tensor(matrix, dtype=F64)

    def forward(self, x):
        return (x.flatten(1) @ self.matrix.T).view_as(x)


class Sheared(ScoreNetwork):
    """s(x, y) = (-x, x² - y), with J = [[-1, 0], [2x, -1]]."""

    shape = (2,)

    def forward(self, x):
        first, second = x.unbind(1)
        return torch.stack([-first, first.square() - second], 1)


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=F64)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ([[-2.0, 1.0], [0.2, -1.0]], math.sqrt(2 * 0.4**2 / (4 + 1 + 0.04 + 1))),
        ([[0.0, 3.0], [-3.0, 0.0]], 1.0),  # a rotation
        ([[-2.0, 0.6], [0.6, -1.0]], 0.0),
        ([[0.0, 1.0], [0.0, 0.0]], math.sqrt(1 / 2)),  # one entry: half of its square
        ([[0.0, 0.0], [0.0, 0.0]], 0.0),
    ],
)
def test_a_linear_score_has_the_share_of_its_matrix(matrix, expected):
    value, error = score_asymmetry(Linear(matrix), normal(7, 2))
    assert value == pytest.approx(expected, abs=1e-14)
    assert error == pytest.approx(0, abs=1e-14)  # every event has the same Jacobian


def test_a_share_knows_no_scale_and_no_shape():
    matrix = normal(6, 6)
    expected = score_asymmetry(Linear(matrix.tolist()), normal(4, 6))
    assert 0.3 < expected[0] < 0.95
    found = score_asymmetry(Linear((-5 * matrix).tolist(), (1, 2, 3)), normal(4, 1, 2, 3))
    assert found == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize(
    "energy",
    [Quadratic((3,)), MLP((3,), width=6, depth=2), ConvNet((1, 4, 4), channels=(3, 4), hidden=5)],
    ids=lambda energy: type(energy).__name__,
)
def test_the_gradient_of_an_energy_has_no_such_share(energy):
    torch.manual_seed(0)
    for parameter in energy.double().parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    value, _ = score_asymmetry(energy, normal(5, *energy.shape))
    assert value < 1e-14


def test_share_and_error_are_those_of_a_ratio_of_means():
    """x ~ N(0, 1): ‖(J - Jᵀ)/2‖² = 2x², ‖J‖² = 2 + 4x², r² = 2/6.

    2x² - r²(2 + 4x²) = ⅔(x² - 1) has the standard deviation ⅔√2, so that the error of r is ⅔√2/6/(2r)/√n. Of
    the standard deviation of x² that n = 40 000 events show, 4 standard errors are 4 √(14/n)/2 = 3.7 %.
    """
    x = normal(40_000, 2)
    value, error = score_asymmetry(Sheared(), x)
    assert error == pytest.approx(math.sqrt(2) / 9 / (2 * math.sqrt(1 / 3)) / 200, rel=0.037)
    assert abs(value - math.sqrt(1 / 3)) < 4 * error
    assert score_asymmetry(Sheared(), x, chunk_size=7_001) == pytest.approx((value, error), rel=1e-12)
