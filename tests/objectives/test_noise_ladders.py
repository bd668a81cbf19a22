"""Score matching at many levels: losses at known optima, and samples that descend with a known variance."""

import hydra
import pytest
import torch

from ebm_lab import schema
from ebm_lab.building import build
from ebm_lab.cli import CONFIGS
from ebm_lab.energies import Quadratic, ScoreNetwork, score
from ebm_lab.errors import UserError
from ebm_lab.objectives.multiscale_dsm import multiscale_denoising_loss
from ebm_lab.objectives.ncsn import conditional_denoising_loss
from ebm_lab.samplers import MALA

F64 = torch.float64
PAIRS = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=F64)  # (x, z), m₂ = 1


def build_with(*overrides: str):
    schema.register()
    small = ["data.num_train=2000", "data.num_val=20", "data.num_test=20", "logger=none"]
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return build(hydra.compose("train", overrides=[*small, *overrides]))


class NoisedScore(ScoreNetwork):
    """s(x, σ) = -c x / (m + σ²): that of N(0, m) noised, c = 1."""

    shape = (1,)
    noise_conditional = True

    def __init__(self, m: float = 1.0, c: float = 1.0) -> None:
        super().__init__()
        self.m = m
        self.c = torch.nn.Parameter(torch.tensor(c, dtype=F64))

    def forward(self, x, sigma=None):
        return -self.c * x / (self.m + torch.as_tensor(sigma).to(x).square().expand(len(x))[:, None])


@pytest.mark.parametrize(("sigma", "optimum"), [(1.0, 0.25), (0.1, 0.495049505), (0.01, 0.4999500050)])
def test_each_level_has_the_loss_of_its_gaussian(sigma, optimum):
    x, z = PAIRS[:, :1], PAIRS[:, 1:]
    sigmas = torch.full((4,), sigma, dtype=F64)
    model = NoisedScore()
    loss = conditional_denoising_loss(model, x, z, sigmas)
    assert loss.item() == pytest.approx(optimum, abs=1e-9)
    assert torch.autograd.grad(loss, model.c)[0].item() == pytest.approx(0, abs=1e-12)
    nothing = conditional_denoising_loss(NoisedScore(c=0.0), x, z, sigmas)
    assert nothing.item() == pytest.approx(0.5, abs=1e-12)


def test_levels_are_averaged_with_weight_sigma_squared():
    x, z = PAIRS[:, :1].repeat(2, 1), PAIRS[:, 1:].repeat(2, 1)
    sigmas = torch.tensor([1.0, 0.1], dtype=F64).repeat_interleave(4)
    loss = conditional_denoising_loss(NoisedScore(), x, z, sigmas)
    assert loss.item() == pytest.approx((0.25 + 0.495049505) / 2, abs=1e-9)


def test_one_target_for_all_levels():
    # ½ ‖(σ₀²/σ) λ(x + σz) - z‖²: with m₂ = 1, ½ [σ₀⁴λ²(1 + σ²)/σ² - 2σ₀²λ + 1]; stationary over
    # both levels at λ = 1 / (σ₀² (1 + E[1/σ²])).
    x, z = PAIRS[:, :1].repeat(2, 1), PAIRS[:, 1:].repeat(2, 1)
    sigmas, target = torch.tensor([0.5, 2.0], dtype=F64).repeat_interleave(4), 0.7
    energy = Quadratic((1,)).double()
    for precision in (0.3, 1 / (0.49 * (1 + (4 + 0.25) / 2))):
        energy.set_precision(torch.tensor([[precision]], dtype=F64))
        loss = multiscale_denoising_loss(energy, x, z, sigmas, target)
        levels = [
            0.5 * (target**4 * precision**2 * (1 + s**2) / s**2 - 2 * target**2 * precision + 1)
            for s in (0.5, 2.0)
        ]
        assert loss.item() == pytest.approx(sum(levels) / 2, abs=1e-12)
    assert torch.autograd.grad(loss, energy.log_diagonal)[0].item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("spacing", ["geometric", "linear"])
def test_levels_of_the_multiscale_range(spacing):
    method = build_with("objective=multiscale_dsm", f"objective.spacing={spacing}", "data=gaussian").objective
    u = (torch.arange(100_000, dtype=F64) + 0.5) / 100_000
    sigma = method.sigma_at(u)
    assert sigma[0].item() == pytest.approx(0.05, rel=1e-3) and sigma[-1].item() == pytest.approx(3, rel=1e-3)
    assert sigma.pow(-2).mean().item() == pytest.approx(method._mean_inverse_square(), rel=1e-4)


@pytest.mark.parametrize(("step_size", "inflation"), [(0.2, 1.1111111111), (0.1, 1.0526315789)])
def test_samples_of_a_score_network_have_the_variance_of_both_published_steps(step_size, inflation):
    # Data without width, m = 0: each level ends at σ²/(1 - h/2) whatever came before, and the jump x + σ₀²s
    # is exactly 0 there; without it the last level is seen. 4 standard errors of 8000 are 6 %.
    method = build_with(
        *("objective=ncsn", "data=gaussian", "data.dim=1", "energy=score_mlp", "objective.num_steps=40"),
        f"objective.sampler.step_size={step_size}",
        *("objective.ladder.smallest=0.5", "objective.ladder.largest=2.0", "objective.ladder.num_levels=3"),
    ).objective.double()
    method.take(NoisedScore(m=0.0))
    generator = torch.Generator().manual_seed(0)
    assert method.generate(10, None, 0, generator).abs().max() < 1e-12
    method.model = lambda: NoisedScore(c=0.0).given(sigma=1.0)  # a jump that stays
    x = method.generate(8000, None, 0, generator)
    assert x.var().item() / 0.25 == pytest.approx(inflation, rel=0.065)


def test_multiscale_samples_pass_through_the_temperatures():
    # E = x²/(2σ₀²), whose E/T at T = (σ/σ₀)² is the Gaussian of width σ; the jump x - σ₀²∇E is 0.
    method = build_with(
        "objective=multiscale_dsm",
        "data=gaussian",
        "data.dim=1",
        "energy=quadratic",
        "objective.sampler.step_size=0.8",
    ).objective
    energy = method.double().energy
    energy.set_precision(torch.tensor([[1 / 0.01]], dtype=F64))
    generator = torch.Generator().manual_seed(0)
    assert method.generate(10, None, 0, generator).abs().max() < 1e-9
    # With precision 1/(4σ₀²) the jump is (3/4) x, and Langevin of h = .8 σ₀² leaves 4σ₀² / (1 - h/(8σ₀²)) at
    # the last level. 8000 samples: 4 standard errors are 6 %.
    energy.set_precision(torch.tensor([[0.25 / 0.01]], dtype=F64))
    x = method.generate(8000, None, 0, generator)
    assert x.var().item() == pytest.approx(0.75**2 * 0.04 / 0.9, rel=0.065)


def test_mistakes_are_told_in_a_sentence():
    with pytest.raises(UserError, match="GaussianMixtureEnergy is none: choose energy=mlp, convnet"):
        build_with("objective=ncsn", "energy=gaussian_mixture")
    with pytest.raises(UserError, match="smallest and sigma must be positive and less than largest"):
        build_with("objective=multiscale_dsm", "objective.smallest=4.0")
    with pytest.raises(UserError, match="trains an energy, and ScoreMLP is none: choose energy=mlp"):
        build_with("objective=pcd", "energy=score_mlp")
    with pytest.raises(UserError, match="MALA compares energies, and a score network has none"):
        method = build_with("objective=dsm", "energy=score_mlp").objective
        method.generate(3, MALA(0.1), 2, torch.Generator())


def test_score_networks_are_conditioned_as_energies_are():
    # Where the network is -∇ of a scalar network, the score is that of the energy.
    method = build_with("objective=ncsn", "data=gaussian", "data.dim=3").objective.double()
    energy, part = method.energy, method.energy.conditioning
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    sigma = torch.tensor([0.05, 0.3, 1.0, 7.0, 2.0], dtype=F64)

    def field(u, embedding):
        u = u.detach().requires_grad_(True)
        return -torch.autograd.grad(energy._scalar(u, embedding).sum(), u)[0]

    torch.testing.assert_close(part.score(field, x, sigma), score(energy, x, sigma=sigma))
