import math

import pytest
import torch

from ebm_lab.data import bits_per_dim, dequantise, log_jacobian


@pytest.mark.parametrize(("levels", "bits"), [(2, 1.0), (17, math.log2(17)), (256, 8.0)])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 4, 4), (1,)])
def test_uniform_data_cost_log2_levels(levels, bits, shape):
    uniform = -math.prod(shape) * math.log(2)  # log p of the uniform density on [-1, 1]^d
    assert bits_per_dim(uniform, log_jacobian(levels, shape), shape) == pytest.approx(bits, rel=1e-12)


def test_a_density_twice_as_high_saves_one_bit_per_dimension():
    log_p = torch.tensor([0.0, 64 * math.log(2)], dtype=torch.float64)
    bits = bits_per_dim(log_p, log_jacobian(256, (1, 8, 8)), (1, 8, 8))
    assert float(bits[0] - bits[1]) == pytest.approx(1.0, rel=1e-12)


def test_perfectly_known_integers_cost_nothing():
    """All mass on one bin of width 2/levels."""
    assert bits_per_dim(math.log(17 / 2), log_jacobian(17, (1,)), (1,)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_the_integer_comes_back(levels):
    k = torch.arange(levels, dtype=torch.float64)[:, None].expand(-1, 1000)
    u = torch.rand(k.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = dequantise(k, levels, u)
    assert x.min() >= -1 and x.max() < 1
    assert torch.equal(((x + 1) / 2 * levels).floor(), k)


def test_ends_of_the_range():
    ends = dequantise(torch.tensor([0.0, 16.0]), 17, torch.tensor([0.0, 1.0]))
    assert ends.tolist() == [-1.0, 1.0]


def test_log_jacobian_is_that_of_dequantise():
    k, u = torch.zeros(4, dtype=torch.float64), torch.full((4,), 0.5, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: dequantise(k, 17, v), u)  # dx/dk
    assert log_jacobian(17, (2, 2)) == pytest.approx(-float(torch.logdet(jacobian)), rel=1e-12)
