"""Curvature propagation and the approximate diagonal against exact Laplacians of small networks."""

import itertools

import hydra
import pytest
import torch

from ebm_lab import schema
from ebm_lab.building import build
from ebm_lab.cli import CONFIGS
from ebm_lab.energies import ICA, MLP, GaussianBase, Quadratic, score, score_and_diagonal
from ebm_lab.errors import UserError
from ebm_lab.objectives.approximate_diagonal import approximate_diagonal_loss, diagonal_laplacian
from ebm_lab.objectives.curvature_propagation import curvature_propagation_loss, propagated_laplacian
from ebm_lab.objectives.layered import backward_pass
from ebm_lab.objectives.score_matching import implicit_loss

F64 = torch.float64


def network(width, depth, base=False, activation="silu"):
    """Weights three times as large as usual, so that every layer bends."""
    torch.manual_seed(1)
    term = GaussianBase((3,), scale=2.0) if base else None
    made = MLP((3,), width=width, depth=depth, activation=activation, base=term).double()
    with torch.no_grad():
        for parameter in made.network.parameters():
            parameter.mul_(3)
    return made


def events(num):
    return torch.randn(num, 3, generator=torch.Generator().manual_seed(0), dtype=F64)


def exact_laplacian(energy, x):
    return -score_and_diagonal(energy, x)[1].sum(1)


def all_signs(widths, x):
    """Every pattern of signs, beside each event: averages over them are expectations."""
    patterns = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=sum(widths))), dtype=F64)
    signs = patterns.repeat_interleave(len(x), 0).split(widths, 1)
    return x.repeat(len(patterns), 1), signs


@pytest.mark.parametrize("activation", ["silu", "tanh", "softplus"])
def test_one_hidden_layer_has_a_closed_form(activation):
    """ΔE = Σ_j a_j σ''_j ‖W_j‖², and both passes meet it, the diagonal without noise."""
    energy, x = network(4, 1, activation=activation), events(5)
    first, function, last = list(energy.network)[1:]
    a = first(x).detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(function(a).sum(), a, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), a)
    expected = (last.weight * second * first.weight.square().sum(1)).sum(1)
    torch.testing.assert_close(exact_laplacian(energy, x), expected)
    passed, gradient = backward_pass(energy.layers(), x)
    torch.testing.assert_close(diagonal_laplacian(passed), expected)
    torch.testing.assert_close(-gradient, score_and_diagonal(energy, x)[0])
    repeated, signs = all_signs([4], x)
    passed, _ = backward_pass(energy.layers(), repeated)
    mean = propagated_laplacian(passed, signs).view(-1, len(x)).mean(0)
    torch.testing.assert_close(mean, expected)


@pytest.mark.parametrize("depth", [2, 3])
def test_curvature_propagation_has_no_bias_at_any_depth(depth):
    """Over all 2^(3 depth) patterns of signs the mean is the Laplacian, to rounding."""
    energy, x = network(3, depth, base=True), events(4)
    repeated, signs = all_signs([3] * depth, x)
    loss, expected = curvature_propagation_loss(energy, repeated, signs), implicit_loss(energy, x)
    torch.testing.assert_close(loss, expected)
    parameters = list(energy.parameters())[:-1]  # all but the constant
    for found, true in zip(
        torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(found, true)


def test_one_pattern_of_signs_is_no_laplacian():
    energy, x = network(3, 2), events(4)
    repeated, signs = all_signs([3, 3], x)
    passed, _ = backward_pass(energy.layers(), repeated)
    values = propagated_laplacian(passed, signs).view(-1, len(x))
    assert (values.std(0) > 0.1).all()


def test_the_diagonal_is_exact_with_one_hidden_layer_and_biased_with_two():
    x = events(200)
    for depth, is_exact in ((1, True), (2, False)):
        energy = network(6, depth, base=True)
        passed, _ = backward_pass(energy.layers(), x)
        found = diagonal_laplacian(passed) + 3 / 2.0**2  # of the base: d / scale²
        error = found - exact_laplacian(energy, x)
        if is_exact:
            assert error.abs().max() < 1e-12
            torch.testing.assert_close(approximate_diagonal_loss(energy, x), implicit_loss(energy, x))
        else:  # nothing is drawn: what is left out is there in every evaluation, and does not average out
            assert abs(error.mean()) > 5 * error.std() / len(x) ** 0.5
            assert abs(error.mean()) > 0.05


def test_a_quadratic_energy_is_one_layer():
    energy = Quadratic((2,)).double()
    energy.set_precision(torch.tensor([[2, 0.6], [0.6, 1]], dtype=F64))
    with torch.no_grad():
        energy.mean.copy_(torch.tensor([0.3, -0.2]))
    x = torch.tensor([[1.0, -1.0]], dtype=F64)
    passed, gradient = backward_pass(energy.layers(), x)
    torch.testing.assert_close(gradient, (x - energy.mean) @ energy.precision)
    assert diagonal_laplacian(passed).item() == pytest.approx(3, abs=1e-12)  # tr P


def test_mixed_logistic_sources_are_one_layer():
    """∇E = Wᵀ tanh(Wx/2) and ΔE = Σ_i ‖w_i‖² / (2 cosh²((Wx)_i/2)), at Wx = 0 too."""
    energy = ICA((2,)).double()
    energy.unmixing.data = torch.tensor([[1.0, 2.0], [-0.5, 1.5]], dtype=F64)
    x = torch.tensor([[0.0, 0.0], [1.0, -1.0]], dtype=F64)
    sources = x @ energy.unmixing.T
    passed, gradient = backward_pass(energy.layers(), x)
    torch.testing.assert_close(gradient, torch.tanh(sources / 2) @ energy.unmixing)
    torch.testing.assert_close(gradient, -score(energy, x))
    curvature = 0.5 / torch.cosh(sources / 2).square()
    torch.testing.assert_close(diagonal_laplacian(passed), curvature @ energy.unmixing.square().sum(1))


def test_signs_of_a_run_are_drawn_anew_for_every_event_and_layer():
    built = made("objective=curvature_propagation", "energy.depth=2", "energy.width=5")
    torch.manual_seed(0)
    method, batch = built.objective, next(iter(built.data.train_dataloader()))
    first, second = method.loss(batch), method.loss(batch)
    assert first != second


def made(*overrides):
    schema.register()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        small = ["data=gaussian", "data.num_train=200", "data.batch_size=16"]
        return build(hydra.compose("train", overrides=["logger=none", "output_dir=x", *small, *overrides]))


@pytest.mark.parametrize("objective", ["curvature_propagation", "approximate_diagonal"])
def test_other_energies_are_refused(objective):
    with pytest.raises(UserError, match="GaussianMixtureEnergy is none: choose energy=mlp"):
        made(f"objective={objective}", "energy=gaussian_mixture")
