"""The Gray code: neighbours, the way back, and the law that it keeps."""

import math

import pytest
import torch

from ebm_lab.data import GrayPoints
from ebm_lab.data.point_sets import eight_gaussians

F64 = torch.float64


def made(bits=16, **numbers):
    return GrayPoints(
        density=eight_gaussians(), bits=bits, shape=[2 * bits], order_seed=0, num_train=20_000, num_val=10,
        num_test=10, **numbers,
    )  # fmt: skip


def middles(data):
    """The middle of every cell of one coordinate, the other at 0.1."""
    cells = 2**data.bits
    first = data.half_width * (2 * (torch.arange(cells, dtype=F64) + 0.5) / cells - 1)
    return torch.stack([first, torch.full_like(first, 0.1)], 1)


def test_neighbouring_cells_differ_in_one_bit_and_all_cells_differ():
    data = made(bits=6)
    codes = data.coded(middles(data))
    assert (codes.diff(dim=0).abs().sum(1) == 1).all()
    assert len(codes.unique(dim=0)) == 64


def test_three_bits_by_hand():
    # cells 0 ... 7 have the codes 000 001 011 010 110 111 101 100
    data = made(bits=3)
    codes = data.coded(middles(data))[:, :3] @ torch.tensor([4.0, 2.0, 1.0], dtype=F64)
    assert codes.tolist() == [0, 1, 3, 2, 6, 7, 5, 4]


def test_points_are_the_middles_of_their_cells():
    data = made()
    x = middles(data)[::1001]
    back = data.points(data.coded(x))
    torch.testing.assert_close(back[:, 0], x[:, 0], rtol=0, atol=1e-9)
    assert (back[:, 1] - 0.1).abs().max() <= data.half_width / 2**16
    inside = x * 0.999
    assert (data.points(data.coded(inside)) - inside).abs().max() <= data.half_width / 2**16 + 1e-12
    far = torch.tensor([[1e3, -1e3]], dtype=F64)  # into the outermost cells
    assert ((data.points(data.coded(far)).abs() / data.half_width - 1).abs() < 1e-4).all()


def test_events_are_bits_and_have_the_moments_of_the_density():
    data = made()
    data.setup()
    assert set(data.train_x.unique().tolist()) == {0.0, 1.0} and data.domain == "binary"
    points = data.points(data.train_x.double())
    # eight modes on a circle of radius 3: mean 0, variance 9/2 + .09 a coordinate
    error = points.std(0) / math.sqrt(len(points))
    assert (points.mean(0).abs() < 4 * error).all()
    squares = points.square()
    error = squares.std(0) / math.sqrt(len(points))
    assert ((squares.mean(0) - 4.59).abs() < 4 * error).all()
    assert torch.equal(data.train_x[:, 0] == 1, points[:, 0] > 0)  # the first bit is the sign


def test_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"shape must be \[32\], 16 bits a coordinate, got \[31\]"):
        GrayPoints(density=eight_gaussians(), shape=[31], order_seed=0)
    with pytest.raises(ValueError, match="bits must be at most 24"):
        made(bits=30)
