import math

import pytest
import torch

from ebm_lab.data import Logit, bits_per_dim, log_jacobian

X = torch.rand(6, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1


def test_it_is_the_published_formula():
    s = (X + 1) / 2
    p = 0.05 + 0.9 * s
    torch.testing.assert_close(Logit(0.05).forward(X), (p / (1 - p)).log(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("alpha", [1e-6, 0.05, 0.4])
def test_pixels_come_back(alpha):
    logit = Logit(alpha)
    x = torch.cat([X.flatten(), torch.tensor([-1.0, 0.0, 1.0])])
    torch.testing.assert_close(logit.inverse(logit.forward(x)), x, rtol=0, atol=1e-10)


@pytest.mark.parametrize("alpha", [1e-6, 0.05])
def test_log_slope_is_that_of_the_inverse(alpha):
    """Against the determinant of autograd's full Jacobian, event by event."""
    logit = Logit(alpha)
    y = logit.forward(X)
    for event, slope in zip(y, logit.log_slope(y), strict=True):
        jacobian = torch.autograd.functional.jacobian(logit.inverse, event).view(12, 12)
        assert float(torch.linalg.slogdet(jacobian).logabsdet) == pytest.approx(float(slope), abs=1e-10)


@pytest.mark.parametrize("alpha", [1e-6, 0.05])
def test_black_and_white_stay_apart_in_float32(alpha):
    ends = torch.tensor([-1.0, 1.0])
    expected = math.log((1 - alpha) / alpha)
    assert Logit(alpha).forward(ends).tolist() == pytest.approx([-expected, expected], rel=1e-6)


@pytest.mark.parametrize("levels", [17, 256])
@pytest.mark.parametrize("alpha", [1e-6, 0.05])
def test_every_uniform_event_costs_log2_levels(alpha, levels):
    """The law of y = logit(x), x uniform on [-1, 1]^d, has log p(y) = log |dx/dy| - d log 2."""
    logit = Logit(alpha)
    y = logit.forward(X)
    log_prob = logit.log_slope(y) - 12 * math.log(2)
    to_levels = logit.log_slope(y) + log_jacobian(levels, (3, 4))
    bits = bits_per_dim(log_prob, to_levels, (3, 4))
    assert bits.tolist() == pytest.approx([math.log2(levels)] * 6, rel=1e-12)


@pytest.mark.parametrize("alpha", [0.0, 0.5, -1, "a"])
def test_alpha_out_of_range_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha must lie between 0 and 0.5"):
        Logit(alpha)
