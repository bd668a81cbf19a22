"""The cut-off Gaussian against quadrature and its own draws."""

import math

import pytest
import torch

from ebm_lab.data.truncated_gaussian import TruncatedGaussian, truncated_gaussian

F64 = torch.float64
every_domain = pytest.mark.parametrize("domain", ["nonnegative", "unit"])


@every_domain
def test_density_score_and_draws(domain):
    law = TruncatedGaussian([0.3], [0.6], domain)
    end = 5.0 if domain == "nonnegative" else 1.0
    x = torch.linspace(0, end, 20_001, dtype=F64)[:, None].requires_grad_(True)
    log_p = law.log_prob(x)
    assert torch.trapezoid(log_p.exp(), x[:, 0]).item() == pytest.approx(1, abs=1e-7)
    torch.testing.assert_close(torch.autograd.grad(log_p.sum(), x)[0], law.score(x))
    draws = law.sample(100_000, torch.Generator().manual_seed(0), F64)[:, 0]
    for moment in (1, 2):
        expected = torch.trapezoid(log_p.exp() * x[:, 0] ** moment, x[:, 0]).item()
        error = float((draws**moment).std()) / math.sqrt(len(draws))
        assert abs(float((draws**moment).mean()) - expected) < 4 * error
    assert float(draws.min()) >= 0 and float(draws.max()) <= end


@every_domain
def test_outside_there_is_nothing(domain):
    law = truncated_gaussian(2, domain)
    x = torch.tensor([[-0.1, 0.5], [0.5, 0.5], [0.5, 1.5]], dtype=F64)
    inside = law.log_prob(x).isfinite().tolist()
    assert inside == [False, True, domain == "nonnegative"]


def test_noise_leads_out_and_is_refused():
    with pytest.raises(ValueError, match="leads out of the unit domain: set objective.sigma=0"):
        truncated_gaussian(2, "unit").noised(0.1)


def test_what_is_no_such_law_is_refused():
    with pytest.raises(ValueError, match="domain must be nonnegative or unit"):
        TruncatedGaussian([0.5], [0.5], "real")
    with pytest.raises(ValueError, match="means must lie in the unit domain"):
        TruncatedGaussian([1.5], [0.5], "unit")
