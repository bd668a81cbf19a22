"""The measured climb is exact whatever the ladder: these hold the pilot to the ladder that it promises."""

import pytest
import torch

from ebm_lab.energies import Energy, GeometricPath, Quadratic
from ebm_lab.errors import UserError
from ebm_lab.evaluation.annealed_importance import climb, forward_estimate
from ebm_lab.evaluation.ladder import linear
from ebm_lab.evaluation.pilot import pilot
from ebm_lab.noise import StandardGaussian, UniformBox
from ebm_lab.samplers import HMC, MALA, Independence, Langevin

DIM = 10


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def narrow(precision):
    energy = Quadratic((DIM,)).double()
    energy.set_precision(precision * torch.eye(DIM).double())
    return GeometricPath(StandardGaussian((DIM,)).double(), energy)


def test_levels_lose_the_same_share_of_chains():
    """Between Gaussians of precisions λ and λ (1 + a), CESS/N = (√(1 + 2a) / (1 + a))^d."""
    ladder = pilot(narrow(100.0), MALA(0.1), 4000, generator(), share=0.8)
    precisions = [1 + 99 * beta for beta in ladder.betas]
    shares = []
    for before, after in zip(precisions, precisions[1:], strict=False):
        growth = after / before - 1
        shares.append(((1 + 2 * growth) ** 0.5 / (1 + growth)) ** DIM)  # E w = (1 + a)^(-d/2)
    # 4000 chains know CESS to .01; the last level is the model's, wherever the others end
    assert shares[:-1] == pytest.approx([0.8] * len(shares[:-1]), abs=0.04)
    assert shares[-1] > 0.76
    assert ladder.betas[0] == 0 and ladder.betas[-1] == 1


@pytest.mark.parametrize(
    "kernel", [MALA(10.0), MALA(1e-4), HMC(1e-3, num_leapfrog=3)], ids=["wide", "narrow", "HMC"]
)
def test_step_sizes_reach_the_acceptance_at_every_level(kernel):
    path = narrow(9.0)
    ladder = pilot(path, kernel, 400, generator(), betas=linear(40), target_acceptance=0.6)
    assert ladder.betas == linear(40)
    measured = climb(path, kernel, ladder.refined(80), 400, generator(1))
    # 400 chains and the gain each leave .03 of spread; in the early levels β grows fast and chains lag
    assert measured.acceptance.mean().item() == pytest.approx(0.6, abs=0.06)
    assert (measured.acceptance[10:] - 0.6).abs().max() < 0.2
    # h of MALA goes with the variance, that of HMC with the standard deviation
    power = 1.0 if isinstance(kernel, MALA) else 0.5
    half = ladder.step_sizes[20] / ladder.step_sizes[-1]
    assert half == pytest.approx((9 / 5) ** power, rel=0.15)
    found = forward_estimate(measured, "")
    assert abs(found.value - path.energy.log_partition().item()) < 4 * found.error


def test_a_kernel_without_a_step_size_stays_as_it_is():
    path = narrow(9.0)
    ladder = pilot(path, Independence(path.noise), 100, generator(), betas=linear(5))
    assert ladder.step_sizes is None


def test_a_noise_that_misses_the_model_is_told():
    class Elsewhere(Energy):
        """Infinite but in a corner that one draw in a thousand finds."""

        shape = (1,)

        def forward(self, x):
            return torch.where(x[:, 0] > 0.999, 0.0, 1e12)

    path = GeometricPath(UniformBox((1,), -1.0, 1.0), Elsewhere())
    with pytest.raises(UserError, match="no path of temperatures.*noise that covers the model"):
        pilot(path, MALA(0.1), 1000, generator())


def test_a_kernel_that_is_not_exact_is_refused():
    with pytest.raises(ValueError, match="exactly invariant"):
        pilot(narrow(9.0), Langevin(0.1), 10, generator())
