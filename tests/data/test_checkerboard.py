import math

import pytest
import scipy.special
import torch

from ebm_lab.data import Checkerboard

LOG_MASS = math.log(8 * 4.0)  # eight squares of area 4


def test_inside_a_square_it_is_uniform():
    x = torch.tensor([[3.0, 3.0], [-3.0, -3.2], [0.8, 1.1]], dtype=torch.float64)
    torch.testing.assert_close(
        Checkerboard().log_prob(x), torch.full((3,), -LOG_MASS, dtype=torch.float64), rtol=0, atol=1e-12
    )


def test_at_the_corner_of_four_squares_half_of_it_is_left():
    log_p = Checkerboard().log_prob(torch.zeros(1, 2, dtype=torch.float64))
    assert float(log_p) == pytest.approx(math.log(0.5) - LOG_MASS, abs=1e-12)


@pytest.mark.parametrize("distance", [1.0, 20.0, 1e3, 1e5])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_far_tail(distance, dtype):
    """Beyond the corner of the square at (3, 3) only Φ(-a)² of it is left, a = distance / scale."""
    scale = 0.1
    a = distance / scale
    x = torch.full((1, 2), 4 + distance, dtype=dtype)
    log_p = 2 * float(scipy.special.log_ndtr(-a)) - LOG_MASS
    slope = -(a + 1 / a - 2 / a**3 + 10 / a**5 - 74 / a**7) / scale  # series of φ/Φ
    rel = 1e-6 if dtype == torch.float64 else 1e-5  # a of ten: the series' next term, 706 / a⁹
    assert float(Checkerboard(scale=scale).log_prob(x)) == pytest.approx(log_p, rel=rel)
    for score in (Checkerboard(scale=scale).score(x), gradient(Checkerboard(scale=scale), x)):
        assert score[0].tolist() == pytest.approx([slope, slope], rel=rel)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_far_in_one_coordinate_the_other_keeps_its_digits(dtype):
    """Squares of one column are weighed by the other coordinate alone, however small p is."""
    far = Checkerboard().score(torch.tensor([[1e5, 2.1]], dtype=dtype))[0, 1]
    # of the column x ∈ [2, 4] the square y ∈ [2, 4], one deviation inside its edge: φ(1)/Φ(1)/s
    expected = math.exp(-0.5) / math.sqrt(2 * math.pi) / scipy.special.ndtr(1.0) / 0.1
    assert float(far) == pytest.approx(expected, rel=1e-5)


def gradient(density, x):
    x = x.clone().requires_grad_(True)
    return torch.autograd.grad(density.log_prob(x).sum(), x)[0]


def test_noise_much_wider_than_the_board_makes_it_a_gaussian():
    density = Checkerboard().noised(100.0)
    x = torch.tensor([[30.0, -50.0], [100.0, 200.0]], dtype=torch.float64)
    variance = 100.0**2 + 0.1**2 + 16 / 3  # the board's own variance is that of a square of side 8
    torch.testing.assert_close(density.score(x), -x / variance, rtol=1e-3, atol=0)
