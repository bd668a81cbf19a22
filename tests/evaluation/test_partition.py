import math

import pytest
import torch

from ebm_lab.energies import Quadratic
from ebm_lab.evaluation.importance import importance_log_partition
from ebm_lab.evaluation.partition import from_log_weights
from ebm_lab.noise import StandardGaussian

# E₀ = x²/8 and E₁ = x²/2, so w = exp(-3x²/8) ≤ 1 under N(0, 4): E[w] = ½, E[w²] = 1/√7.
ESS_SHARE = math.sqrt(7) / 4
FORWARD, TRUTH, REVERSE = -1.5, -math.log(2), -0.375


def normal(num, scale, seed=0):
    return scale * torch.randn(num, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_two_weights_by_hand():
    # w = 1, 3: mean 2, ESS = 16/10; s² = 2, standard error of the mean 1, over the mean ½
    found = from_log_weights(torch.tensor([0.0, math.log(3)]), "by hand")
    assert found.value == pytest.approx(math.log(2), abs=1e-7)
    assert found.effective_samples == pytest.approx(1.6, rel=1e-6)
    assert found.error == pytest.approx(0.5, rel=1e-6)
    assert (found.side, found.method) == ("low", "by hand")
    # 1/w = 1, 1/3: mean ⅔, so log 3/2
    assert from_log_weights(torch.tensor([0.0, math.log(3)]), "", "high").value == pytest.approx(
        math.log(1.5), abs=1e-7
    )


def test_importance_sampling_from_wide_to_narrow():
    num = 200_000
    x = normal(num, 2.0)
    log_weights = -0.375 * x.square()
    found = from_log_weights(log_weights, "")
    # the delta method's error: √((1/ESS-share - 1) / n) = .0016, and the value within 4 of them
    assert found.error == pytest.approx(math.sqrt((1 / ESS_SHARE - 1) / num), rel=0.02)
    assert abs(found.value - TRUTH) < 4 * found.error
    assert found.effective_samples / num == pytest.approx(0.661437828, abs=0.005)
    # E₀[log w] = -1.5 and E₁[log w] = -.375 enclose log Z₁/Z₀; their spreads are 1.5 √2 and .375 √2
    assert log_weights.mean().item() == pytest.approx(FORWARD, abs=4 * 1.5 * math.sqrt(2 / num))
    of_model = -0.375 * normal(num, 1.0, seed=1).square()
    assert of_model.mean().item() == pytest.approx(REVERSE, abs=4 * 0.375 * math.sqrt(2 / num))


def test_the_two_sides_enclose_the_truth_on_average():
    """Of few weights the estimate errs by half the squared error: low from q, high from the model."""
    low = [from_log_weights(-0.375 * normal(5, 2.0, s).square(), "").value for s in range(2000)]
    # the model's 1/w = exp(3x²/8) has an infinite variance: narrower here, E₁ = x²/2 and E₀ = .3 x²
    high = [from_log_weights(-0.2 * normal(5, 1.0, s).square(), "", "high").value for s in range(2000)]
    for values, truth, sign in ((low, TRUTH, -1), (high, 0.5 * math.log(0.6), 1)):
        values = torch.tensor(values)
        error = float(values.std()) / math.sqrt(len(values))
        assert sign * (float(values.mean()) - truth) > 4 * error


def test_importance_log_partition_adds_the_density_of_the_noise():
    energy = Quadratic((3,)).double()
    noise = StandardGaussian((3,), scale=1.5).double()
    found = importance_log_partition(energy, noise, 20_000, torch.Generator().manual_seed(0))
    assert abs(found.value - energy.log_partition().item()) < 4 * found.error
    assert found.error < 0.01
    assert found.method == "importance sampling from the noise, 20000 draws"


@pytest.mark.parametrize(
    "log_weights", [[0.0], [-math.inf, -math.inf], [0.0, math.nan]], ids=["one", "all zero", "nan"]
)
def test_what_is_no_estimate_is_refused(log_weights):
    with pytest.raises(ValueError, match="at least 2 weights with a finite sum"):
        from_log_weights(torch.tensor(log_weights), "")
