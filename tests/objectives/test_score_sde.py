"""Score-based diffusions: one loss for all, reverse diffusion of a Gaussian, and the likelihood of a run."""

import math
from itertools import pairwise

import hydra
import pytest
import torch

from ebm_lab import schema
from ebm_lab.building import build
from ebm_lab.cli import CONFIGS
from ebm_lab.energies import (
    NoisedQuadratic,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
    score,
)
from ebm_lab.errors import UserError
from ebm_lab.objectives.score_sde import diffusion_loss, predicted

F64 = torch.float64
PAIRS = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=F64)  # (x, z), m₂ = 1
DIFFUSIONS = [VarianceExploding(0.01, 5.0), VariancePreserving(), SubVariancePreserving()]


def build_with(*overrides: str):
    schema.register()
    small = ["objective=score_sde", "logger=none"]
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return build(hydra.compose("train", overrides=[*small, *overrides]))


@pytest.mark.parametrize("diffusion", DIFFUSIONS, ids=lambda d: type(d).__name__)
@pytest.mark.parametrize("time", [0.1, 0.7])
def test_loss_is_that_of_the_published_coordinates(diffusion, time):
    # std² ½ (s_t(x_t) + z/std)² at x_t = αx + std z, with the score -x_t/(α² + std²) of N(0, 1) data, S = 1.
    energy, t = NoisedQuadratic((1,)).double(), torch.full((4,), time, dtype=F64)
    x, z = PAIRS[:, :1], PAIRS[:, 1:]
    alpha, std = (float(f(t[0])) for f in (diffusion.scale, diffusion.std))
    residual = -(alpha * x + std * z) / (alpha**2 + std**2) + z / std
    expected = 0.5 * residual.square().mean().item()
    loss = diffusion_loss(energy, x, z, t, diffusion)
    assert loss.item() == pytest.approx(std**2 * expected, rel=1e-9)
    assert torch.autograd.grad(loss, energy.log_diagonal)[0].item() == pytest.approx(0, abs=1e-9)
    g = float(diffusion.diffusion(t[0]))
    weighted = diffusion_loss(energy, x, z, t, diffusion, "likelihood").item()
    assert weighted == pytest.approx(g**2 * expected, rel=1e-9)


def test_predictor_widens_and_contracts_as_known():
    energy, x, z = NoisedQuadratic((1,)).double(), torch.full((1, 1), 2.0).double(), torch.ones(1, 1).double()
    found = predicted(energy, x, z, 2.0, 1.0).item()
    assert found == pytest.approx(2 - 3 * 2 / 5 + math.sqrt(3), abs=1e-12)


DIFFUSIONS = {
    "ve": ["objective.sde.smallest=0.3", "objective.sde.largest=3.0"],
    "vp": ["sde@objective.sde=vp"],
    "sub_vp": ["sde@objective.sde=sub_vp"],
}


@pytest.mark.parametrize("sde", DIFFUSIONS)
def test_reverse_diffusion_ends_with_the_variance_of_its_recursion(sde):
    # N(0, m): from m + σ_T² by v -> v (1 - D/(m + σ²))² + D and Langevin's (1 - hσ²/(m + σ²))² v + 2hσ² at
    # every time, and the jump m/(m + σ₀²). 4 standard errors √(2/n) of 8000 samples are 6 %.
    built = build_with(
        "data=gaussian", "data.dim=1", "data.num_train=20000", "energy=quadratic_noised",
        "objective.num_times=20", *DIFFUSIONS[sde],
    )  # fmt: skip
    method, m = built.objective.double(), float(built.data.density.covariance)
    method.energy.set_covariance(torch.tensor([[m]], dtype=F64))
    x = method.generate(8000, None, 0, torch.Generator().manual_seed(0))
    sigmas, h = method.ladder.sigmas[::-1], 0.0512
    v = m + sigmas[0] ** 2
    for k, sigma in enumerate(sigmas):
        if k:
            step = sigmas[k - 1] ** 2 - sigma**2
            v = v * (1 - step / (m + sigmas[k - 1] ** 2)) ** 2 + step
        v = v * (1 - h * sigma**2 / (m + sigma**2)) ** 2 + 2 * h * sigma**2
    assert x.var().item() == pytest.approx(v * (m / (m + sigmas[-1] ** 2)) ** 2, rel=0.065)
    if sde == "ve":  # twenty times are too few for the others, whose ladder starts at 152
        assert x.var().item() == pytest.approx(m**2 / (m + sigmas[-1] ** 2), rel=0.15)  # near the truth


def test_reverse_diffusion_without_a_corrector():
    built = build_with(
        *("data=gaussian", "data.dim=1", "data.num_train=20000", "energy=quadratic_noised"),
        *(*DIFFUSIONS["ve"], "objective.num_times=20", "objective.corrector_steps=0"),
    )
    method, m = built.objective.double(), float(built.data.density.covariance)
    method.energy.set_covariance(torch.tensor([[m]], dtype=F64))
    x = method.generate(8000, None, 0, torch.Generator().manual_seed(0))
    sigmas = method.ladder.sigmas[::-1]
    v = m + sigmas[0] ** 2
    for wide, narrow in pairwise(sigmas):
        step = wide**2 - narrow**2
        v = v * (1 - step / (m + wide**2)) ** 2 + step
    # 4 standard errors √(2/n) of 8000 samples are 6 %
    assert x.var().item() == pytest.approx(v * (m / (m + sigmas[-1] ** 2)) ** 2, rel=0.065)


@pytest.mark.parametrize("sde", ["vp", "sub_vp"])
def test_other_diffusions_are_chosen_by_name(sde):
    built = build_with("data=gaussian", "data.dim=2", f"sde@objective.sde={sde}", "objective.num_times=10")
    sigmas = built.objective.ladder.sigmas
    assert sigmas[-1] == pytest.approx({"vp": 152.168, "sub_vp": 152.165}[sde], abs=1e-2)


def test_a_network_without_an_energy_is_trained_and_asked():
    built = build_with("data=gaussian", "data.dim=2", "energy=score_mlp", "data.num_test=20")
    batch = next(iter(built.data.train_dataloader()))
    loss = built.objective.loss(batch)
    loss.backward()
    assert built.objective.energy.network[1].weight.grad.abs().max() > 0
    x = built.data.test_x
    assert score(built.objective.model(), x).shape == x.shape
    assert "nll_flow" in built.objective.measurements(built.data)


def test_mistakes_are_told_in_a_sentence():
    with pytest.raises(UserError, match="objective.weighting must be one of variance, likelihood"):
        build_with("objective.weighting=g")
    with pytest.raises(UserError, match="corrector_steps must not be negative"):
        build_with("objective.corrector_steps=-1")
    with pytest.raises(UserError, match="objective.samples_by must be one of reverse_diffusion, flow"):
        build_with("objective.samples_by=ode")
    with pytest.raises(UserError, match="smallest_time must lie between 0 and 1"):
        build_with("objective.smallest_time=0")
    with pytest.raises(ValueError, match="0 < smallest < largest"):
        VarianceExploding(2.0, 1.0)
    with pytest.raises(ValueError, match="0 < first_beta <= last_beta"):
        VariancePreserving(2.0, 1.0)
