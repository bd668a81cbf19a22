"""The exponential noise: its fit, its integral and its draws."""

import math

import numpy as np
import pytest
import torch

from ebm_lab.errors import UserError
from ebm_lab.noise import Exponential, UniformBox

F64 = torch.float64


def test_it_has_the_means_of_the_data_and_integrates_to_one():
    noise = Exponential((2,)).double()
    noise.fit(torch.tensor([[1.0, 0.0], [3.0, 1.0]], dtype=F64))
    torch.testing.assert_close(noise.means, torch.tensor([2.0, 0.5], dtype=F64))
    at = torch.tensor([[1.0, 2.0], [-0.1, 1.0]], dtype=F64)
    # -½ - 4 - log 2 - log ½
    assert noise.log_prob(at).tolist() == [pytest.approx(-4.5, abs=1e-12), -math.inf]
    # Gauss-Legendre on [0, 40 m], beyond which lies e^-40
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(60))
    points = torch.cartesian_prod(*(20 * mean * (1 + nodes) for mean in noise.means))
    cells = torch.outer(weights, weights).flatten() * (20 * noise.means).prod()
    assert (noise.log_prob(points).exp() @ cells).item() == pytest.approx(1, abs=1e-12)
    draws = noise.sample(100_000, torch.Generator().manual_seed(0))
    error = draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - noise.means).abs() < 4 * error).all()
    # the variance of an exponential is its mean squared; that of its estimate 8 m⁴ / n
    assert ((draws.var(0) / noise.means.square() - 1).abs() < 4 * math.sqrt(8 / len(draws))).all()


def test_negative_numbers_are_refused():
    with pytest.raises(UserError, match="numbers of at least 0"):
        Exponential((1,)).fit(torch.tensor([[1.0], [-0.5]]))


def test_the_uniform_box_is_of_the_unit_domain_where_it_lies_inside():
    assert "unit" in UniformBox((2,), 0.0, 1.0).domains
    assert "unit" not in UniformBox((2,), -1.0, 1.0).domains
