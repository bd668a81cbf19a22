"""Recovery likelihood: conditional laws, its closed form on Gaussians, and who picks the network."""

import math

import hydra
import pytest
import torch

from ebm_lab import schema
from ebm_lab.building import build
from ebm_lab.cli import CONFIGS
from ebm_lab.energies import Energy, QuadraticLadder
from ebm_lab.errors import UserError
from ebm_lab.objectives.recovery_likelihood import RecoveryEnergy, recovered_precision, recovery_loss
from ebm_lab.samplers import MALA, Langevin, run_chains


def build_with(*overrides: str):
    schema.register()
    small = ["data.num_train=2000", "data.num_val=20", "data.num_test=20", "logger=none"]
    small = small if not any("digits" in o for o in overrides) else small[-1:]
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", overrides=["objective=recovery_likelihood", *small, *overrides])
    return build(cfg)


class Scaled(Energy):
    """E(x, σ) = ½ λ ‖x‖², whatever σ."""

    shape = (1,)
    noise_conditional = True

    def __init__(self, precision: float) -> None:
        super().__init__()
        self.precision = torch.nn.Parameter(torch.tensor(precision, dtype=torch.float64))

    def forward(self, x, sigma=None):
        return 0.5 * self.precision * x.flatten(1).square().sum(1)


GRID = torch.linspace(-9, 9, 1501, dtype=torch.float64)
SPACING = float(GRID[1] - GRID[0])


def conditional_log_prob(energy: Energy, variance: float) -> torch.Tensor:
    """log p(x | x̃) on GRID × GRID (x̃ first), normalised by quadrature in x, for one noise variance."""
    num, unit = len(GRID), torch.full((len(GRID) ** 2,), math.sqrt(variance), dtype=torch.float64)
    above, x = GRID.repeat_interleave(num)[:, None], GRID.repeat(num)[:, None]
    conditional = RecoveryEnergy(energy, above, unit, torch.ones_like(unit))
    energies = conditional(x / unit[:, None]).view(num, num)
    return -energies - (torch.logsumexp(-energies, 1, keepdim=True) + math.log(SPACING))


def recovery_nll(precision: torch.Tensor) -> torch.Tensor:
    """E -log p_λ(x | x̃) over x ~ N(0, 1) and x̃ = x + √½ z, on the grid."""
    energy = Scaled(1.0)
    energy.precision = torch.nn.Parameter(precision)
    log_prob = conditional_log_prob(energy, 0.5)
    joint = torch.distributions.Normal(0, 1).log_prob(GRID)[None] + torch.distributions.Normal(
        0, math.sqrt(0.5)
    ).log_prob(GRID[:, None] - GRID[None])
    loss = -(joint.exp() * log_prob).sum() * SPACING**2
    (slope,) = torch.autograd.grad(loss, energy.precision)
    return loss.item(), slope.item()


def test_recovery_likelihood_at_the_truth():
    # ½ log(2πe σ²/(1 + σ²)), σ² = ½: the entropy of x given x̃; the law of the noise is stationary there only.
    loss, slope = recovery_nll(torch.tensor(1.0, dtype=torch.float64))
    assert loss == pytest.approx(0.869632389, abs=1e-7)  # the grid ends at 7 standard deviations
    assert slope == pytest.approx(0, abs=1e-7)
    assert recovery_nll(torch.tensor(0.7, dtype=torch.float64))[1] < -1e-3
    assert recovery_nll(torch.tensor(1.4, dtype=torch.float64))[1] > 1e-3


def test_conditional_law_of_a_gaussian():
    # N(x̃ / (1 + λσ²), σ² / (1 + λσ²)); over x̃ ~ N(0, 1 + σ²) it recovers the variance 1 of x at λ = 1.
    log_prob = conditional_log_prob(Scaled(1.0), 0.5)
    mean = (log_prob.exp() * GRID).sum(1) * SPACING
    second = (log_prob.exp() * GRID**2).sum(1) * SPACING
    inner = GRID.abs() < 5
    torch.testing.assert_close(mean[inner], GRID[inner] / 1.5)
    torch.testing.assert_close((second - mean**2)[inner], torch.full_like(GRID[inner], 1 / 3))
    above = torch.distributions.Normal(0, math.sqrt(1.5)).log_prob(GRID).exp()
    assert ((above * second).sum() * SPACING).item() == pytest.approx(1.0, abs=1e-6)


def test_loss_pairs_energies_of_one_level_and_weighs_them():
    energy = QuadraticLadder((1,), sigmas=[1.0, 2.0]).double()
    energy.levels[1].set_precision(torch.tensor([[3.0]]))
    x, x_model = (torch.tensor(v, dtype=torch.float64)[:, None] for v in ([1.0, 2.0], [0.0, 1.0]))
    sigma, weights = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 0.5], dtype=torch.float64)
    # ½ [1 · ½ (1 - 0) + ½ · ½ · 3 (4 - 1)]
    assert recovery_loss(energy, x, x_model, sigma, weights).loss.item() == pytest.approx(1.375)


def test_one_batch_holds_conditional_laws_of_every_width(generator):
    # λ = 1 at noise variances ¼, 4 and 100, and last no level above: each has its own unit, and one step
    # fits all. Exact kernel; 4 standard errors of 4000 variances are 4 √(2/4000) = 9 %.
    unit = torch.tensor([0.5, 2.0, 10.0, 1.0], dtype=torch.float64).repeat_interleave(4000)
    coupling = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64).repeat_interleave(4000)
    above = torch.full((16000, 1), 2.0, dtype=torch.float64)
    conditional = RecoveryEnergy(Scaled(1.0), above, unit, coupling)
    u = run_chains(MALA(0.05), conditional, torch.zeros_like(above), 300, generator).x
    x = (conditional.unit * u).view(4, -1)
    posterior = 1 / (1 + torch.tensor([4.0, 0.25, 0.01, 0.0], dtype=torch.float64))
    torch.testing.assert_close(x.var(1), posterior, rtol=0.09, atol=0)
    pulls = 2 * torch.tensor([0.8, 0.2, 1 / 101, 0.0], dtype=torch.float64)
    assert ((x.mean(1) - pulls) / (posterior / 4000).sqrt()).abs().max() < 4


@pytest.mark.parametrize(
    ("variance", "step_size", "num_steps"), [(1.0, 0.1, 20), (3.0, 0.2, 2), (0.5, 0.1, 5)]
)
def test_precision_under_short_biased_chains(variance, step_size, num_steps):
    # Mean factor and variance of the chain, step by step: u' = u - h (λu + u - x̃) + √(2h) z from u = x̃.
    precision = recovered_precision(variance, step_size, num_steps).item()
    factor, spread = 1.0, 0.0
    for _ in range(num_steps):
        decay = 1 - step_size * (precision + 1)
        factor, spread = decay * factor + step_size, decay**2 * spread + 2 * step_size
    assert factor**2 * (variance + 1) + spread == pytest.approx(variance, abs=1e-9)
    assert abs(precision - 1 / variance) > 1e-3


def test_precision_under_long_fine_chains_is_the_truth():
    assert recovered_precision(1.7, 1e-4, 200_000).item() == pytest.approx(1 / 1.7, rel=1e-3)


def test_shrinking_coordinates_are_the_same_chain():
    # The published form: y = a x_t, x̃ = a x_t + s z, log p(y | x̃) = -E(y/a) - (x̃ - y)² / (2s²), steps h s².
    a, s, h, above = 0.8, 0.6, 0.15, torch.tensor([[1.3]], dtype=torch.float64)
    z = torch.tensor([[0.4]], dtype=torch.float64)
    y = above - h * s**2 * (2.0 * above / a**2) + math.sqrt(2 * h) * s * z
    # Here: x_t itself, x_{t+1} = x̃ / a, δ = s / a.
    conditional = RecoveryEnergy(Scaled(2.0), above / a, torch.tensor([s / a]).double(), torch.ones(1))
    kernel = Langevin(h)
    state, _ = kernel.step(conditional, kernel.init(conditional, conditional.centre), None, draw=z)
    torch.testing.assert_close(a * conditional.unit * state.x, y)


def test_samples_descend_to_the_law_of_the_data():
    # At the truth, with an exact kernel: the jump leaves Var E[x | x + σ₀z] = m² / (m + σ₀²) along each
    # eigenvector. 8000 samples: 4 standard errors are 4 √(2/8000) = 6 %, and 40 steps leave 1 % and less.
    built = build_with(
        *(
            "data=gaussian",
            "energy=quadratic_ladder",
            "objective.num_steps=40",
            "objective.ladder.smallest=0.5",
        ),
        *("objective.ladder.largest=2.0", "objective.ladder.num_levels=3", "data.num_train=20000"),
        *("sampler@objective.sampler=mala", "objective.sampler.step_size=0.3"),
    )
    method = built.objective.double()
    truth = method.truth.of(built.data)
    method.place(truth, 1.0)
    x = method.generate(8000, built.evaluation.kernel, 1, torch.Generator().manual_seed(0))
    covariance = truth.level.covariance
    m, vectors = torch.linalg.eigh(covariance)
    torch.testing.assert_close((x @ vectors).var(0), m**2 / (m + 0.25), rtol=0.07, atol=0)
    assert method.model()(x[:1]).shape == (1,) and method.sigma == 0.5


@pytest.mark.parametrize(
    ("overrides", "network"),
    [
        (("data=eight_gaussians",), "MLP"),
        (("data=digits",), "ConvNet"),
        (("data=digits", "energy=unet"), "UNet"),
    ],
)
def test_the_data_pick_a_network_that_is_conditioned(overrides, network):
    energy = build_with(*overrides).objective.energy
    assert type(energy).__name__ == network and energy.noise_conditional


def test_mistakes_are_told_in_a_sentence():
    with pytest.raises(UserError, match="GaussianMixtureEnergy is none: choose energy=mlp, convnet"):
        build_with("energy=gaussian_mixture")
    with pytest.raises(UserError, match="set sampler.temperature=1, got 2"):
        build_with("objective.sampler.temperature=2.0")
    with pytest.raises(UserError, match="num_steps must be at least 1"):
        build_with("objective.num_steps=0")
    with pytest.raises(UserError, match="take more or larger steps"):
        recovered_precision(0.1, 0.1, 1)
