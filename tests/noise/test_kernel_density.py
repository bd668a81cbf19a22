"""The kernel density estimate against `torch.distributions`, its width and its draws."""

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from ebm_lab.errors import UserError
from ebm_lab.noise import KernelDensity

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def fitted(x, width=None):
    noise = KernelDensity(tuple(x.shape[1:]), width).double()
    noise.fit(x)
    return noise


def test_log_prob_is_that_of_torch_distributions():
    """Far from the origin too, where the distances by a product would cancel; 600 events are two chunks."""
    centres = 1000 + torch.randn(40, 1, 2, 3, generator=seeded(), dtype=F64)
    noise = fitted(centres, 0.3)
    kernels = Independent(Normal(centres.flatten(1), torch.tensor(0.3, dtype=F64)), 1)
    reference = MixtureSameFamily(Categorical(torch.ones(40, dtype=F64)), kernels)
    x = 1000 + torch.randn(600, 1, 2, 3, generator=seeded(1), dtype=F64)
    torch.testing.assert_close(noise.log_prob(x), reference.log_prob(x.flatten(1)), rtol=0, atol=1e-8)


def test_it_integrates_to_one():
    """Midpoint rule in the plane, the width chosen: cells of a fifth of it and less."""
    noise = fitted(torch.randn(200, 2, generator=seeded(), dtype=F64))
    assert noise.width > 0.2
    line = (torch.arange(400, dtype=F64) + 0.5) / 400 * 16 - 8
    density = noise.log_prob(torch.cartesian_prod(line, line)).exp()
    assert (density.sum() * 0.04**2).item() == pytest.approx(1, abs=1e-9)


def test_the_width_is_where_events_predict_the_others_best():
    x = torch.randn(60, 2, generator=seeded(), dtype=F64)
    noise = fitted(x)

    def predictive(width):
        others = [fitted(torch.cat([x[:i], x[i + 1 :]]), width) for i in range(len(x))]
        return sum(float(q.log_prob(x[i : i + 1])) for i, q in enumerate(others))

    best = float(noise.width)
    at_best = predictive(best)
    assert all(predictive(best * factor) < at_best for factor in (0.5, 0.95, 1.05, 2.0))


def test_copies_do_not_narrow_it():
    """As many copies of every event change nothing."""
    x = torch.randn(60, 2, generator=seeded(), dtype=F64)
    assert fitted(x.repeat(3, 1)).width.item() == pytest.approx(fitted(x).width.item(), rel=1e-3)


def test_draws_have_the_datas_covariance_and_the_kernels():
    """Products of two coordinates within 4 standard errors of the data's, plus h² on the diagonal."""
    x, num = torch.randn(50, 3, generator=seeded(), dtype=F64), 100_000
    draws = fitted(x, 0.7).sample(num, seeded(1))
    products = draws[:, :, None] * draws[:, None, :]
    expected = x.T @ x / len(x) + 0.49 * torch.eye(3, dtype=F64)
    assert ((products.mean(0) - expected).abs() < 4 * products.std(0) / math.sqrt(num)).all()


def test_bad_numbers_and_data_are_refused():
    with pytest.raises(RuntimeError, match="KernelDensity has not been fitted"):
        KernelDensity((2,)).sample(1, seeded())
    with pytest.raises(ValueError, match="width must be positive"):
        KernelDensity((2,), 0.0)
    with pytest.raises(UserError, match="all events are equal"):
        fitted(torch.ones(5, 2, dtype=F64))
