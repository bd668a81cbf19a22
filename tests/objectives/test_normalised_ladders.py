"""Normalised energies of noise levels: both slopes, the classifier of levels, and their one constant."""

import math

import hydra
import pytest
import torch

from ebm_lab import schema
from ebm_lab.building import build
from ebm_lab.cli import CONFIGS
from ebm_lab.energies import NoisedQuadratic
from ebm_lab.errors import UserError
from ebm_lab.evaluation.likelihood import by_learned_constant
from ebm_lab.objectives.diffclf import level_classification_loss, level_logits
from ebm_lab.objectives.dual_score_matching import dual_score_loss

F64 = torch.float64
METHODS = ("dual_score_matching", "diffclf")


def build_with(*overrides: str):
    schema.register()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return build(hydra.compose("train", overrides=["logger=none", *overrides]))


def hermite(num: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes and weights of averages over z ~ N(0, 1), exact for polynomials."""
    import numpy as np

    nodes, weights = np.polynomial.hermite_e.hermegauss(num)
    return torch.tensor(nodes)[:, None], torch.tensor(weights / weights.sum())


def test_both_slopes_of_the_truth_agree():
    # -log p_t(y), t = σ² = .9, data N(0, 1), y = .7: ∂_t U = ½ (ΔU - ‖∇U‖²) = .195290859, by autograd in σ;
    # and the mean of its target given y, x | y ~ N(y/(1 + t), t/(1 + t)).
    energy, t, y = NoisedQuadratic((1,)).double(), 0.9, torch.tensor([[0.7]], dtype=F64)
    sigma = torch.tensor([math.sqrt(t)], dtype=F64, requires_grad=True)
    (slope,) = torch.autograd.grad(energy(y, sigma=sigma).sum(), sigma)
    assert slope.item() / (2 * math.sqrt(t)) == pytest.approx(0.195290859, abs=1e-9)
    assert 0.5 * (1 / 1.9 - (0.7 / 1.9) ** 2) == pytest.approx(0.195290859, abs=1e-9)
    nodes, weights = hermite()
    x = 0.7 / 1.9 + math.sqrt(t / 1.9) * nodes
    target = 1 / (2 * t) - (y - x).square() / (2 * t**2)
    assert (weights @ target).item() == pytest.approx(0.195290859, abs=1e-9)


def mean_dual_loss(energy: NoisedQuadratic, weight: float) -> torch.Tensor:
    """Over x ~ N(0, 1) and z, at σ = .5 and 2."""
    nodes, weights = hermite()
    x, z = nodes.repeat_interleave(len(nodes), 0), nodes.repeat(len(nodes), 1)
    both = (weights[:, None] * weights).flatten()
    losses = []
    for sigma in (0.5, 2.0):
        one = [
            dual_score_loss(energy, x[i : i + 1], z[i : i + 1], torch.tensor([sigma], dtype=F64), weight)
            for i in range(len(x))
        ]
        losses.append(both @ torch.stack(one))
    return sum(losses) / 2


def test_dual_loss_at_the_truth():
    # Space: ½ · 1/(1 + σ²), as of every level. Level: ½ Var of the target given y, over 4: the target's is
    # that of z² (2 for z ~ N(0, 1)) less what y tells of it, 2σ⁴/(1 + σ²)² .
    energy = NoisedQuadratic((1,)).double()
    space = [0.5 / (1 + v) for v in (0.25, 4.0)]
    level = [0.125 * (2 - 2 * (v / (1 + v)) ** 2) for v in (0.25, 4.0)]
    assert mean_dual_loss(energy, 0.0).item() == pytest.approx(sum(space) / 2, abs=1e-9)
    assert mean_dual_loss(energy, 3.0).item() == pytest.approx((sum(space) + 3 * sum(level)) / 2, abs=1e-9)


def test_dual_loss_ties_the_levels_together():
    energy = NoisedQuadratic((1,)).double()
    parameters = [energy.log_diagonal, energy.tilt]
    slopes = torch.autograd.grad(mean_dual_loss(energy, 1.0), parameters)
    assert max(s.abs().max() for s in slopes) < 1e-12
    for tilt in (-0.3, 0.3):  # b log σ, which no score sees: ½ (b / 2d)²
        with torch.no_grad():
            energy.tilt.fill_(tilt)
        slope = torch.autograd.grad(mean_dual_loss(energy, 1.0), energy.tilt)[0].item()
        assert slope == pytest.approx(tilt / 4, abs=1e-9)


class Gaussians(NoisedQuadratic):
    """Laws N(0, σ²): S = 0, so that σ² = 1, 2, 5 are the variances; and what all share, g(x)."""

    def __init__(self, factor: float = 1.0, shared: float = 0.0) -> None:
        super().__init__((1,))
        self.factor, self.shared = factor, shared

    def forward(self, x, sigma=None):
        variance = self.factor * torch.as_tensor(sigma).to(x).square()
        energies = 0.5 * x.flatten(1).square().sum(1) / variance + 0.5 * variance.log()
        return energies + self.shared * x.flatten(1).cos().sum(1) + self.tilt * variance.log()


def three_levels(energy: Gaussians) -> torch.Tensor:
    """The population loss of v = 1, 2, 5, equally likely: z by its quadrature, one row a node."""
    nodes, weights = hermite(60)
    sigmas = torch.tensor([1.0, 2.0, 5.0], dtype=F64).sqrt()
    losses = []
    for level, sigma in enumerate(sigmas):
        logits = level_logits(energy, sigma * nodes, sigmas)
        one = [level_classification_loss(row[None], torch.tensor([level])) for row in logits]
        losses.append(weights @ torch.stack(one))
    return sum(losses) / 3


def test_classification_of_three_gaussians():
    assert three_levels(Gaussians()).item() == pytest.approx(1.011008305, abs=1e-6)
    assert three_levels(Gaussians(shared=2.0)).item() == pytest.approx(1.011008305, abs=1e-6)  # blind to g(x)
    assert three_levels(Gaussians(factor=1.5)).item() > 1.0111
    energy = Gaussians().double()
    assert torch.autograd.grad(three_levels(energy), energy.tilt)[0].item() == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        energy.tilt.fill_(0.2)
    assert torch.autograd.grad(three_levels(energy), energy.tilt)[0].item() > 0.02


@pytest.mark.parametrize("objective", METHODS)
def test_constant_and_likelihood_are_read_at_the_widest_level(objective):
    # E = -log N(x; 0, Σ + σ²I) + 1.7: log Z = -1.7 up to the prior's fit to 20 000 events, and nll_learned is
    # the entropy of the noised data within its error.
    built = build_with(
        *(f"objective={objective}", "data=gaussian", "data.dim=2", "data.num_train=20000"),
        "energy=quadratic_noised",
    )
    method = built.objective.double()
    method.energy.set_covariance(built.data.density.covariance)
    assert method.log_z() == pytest.approx(0.0, abs=2e-3)
    plain = method.energy.forward
    method.energy.forward = lambda x, sigma=None: plain(x, sigma) + 1.7
    assert method.log_z() == pytest.approx(-1.7, abs=2e-3)
    x = method.corrupted(built.data.test_x.double())
    found = {m.name: m for m in by_learned_constant(method, method.model(), built.data, x)}
    nll = found["nll_learned"]
    entropy = built.data.density.noised(method.sigma).entropy()
    assert abs(nll.value - entropy) < 4 * nll.error + 2e-3 and nll.error > found["log_z_learned"].error


def test_mistakes_are_told_in_a_sentence():
    with pytest.raises(UserError, match="level_weight must not be negative"):
        build_with("objective=dual_score_matching", "objective.level_weight=-1")
    with pytest.raises(UserError, match="classification_weight must not be negative"):
        build_with("objective=diffclf", "objective.classification_weight=-1")
    with pytest.raises(UserError, match="trains an energy, and ScoreMLP is none"):
        build_with("objective=diffclf", "energy=score_mlp")
