"""Exact, explicit, sliced and finite-difference score matching against closed forms and each other."""

import math

import hydra
import pytest
import torch

from ebm_lab import schema
from ebm_lab.building import build
from ebm_lab.cli import CONFIGS
from ebm_lab.data.point_sets import random_gaussian
from ebm_lab.energies import (
    MLP,
    ConvNet,
    Energy,
    GaussianBase,
    Quadratic,
    ResNet,
    ScoreMLP,
    ScoreNetwork,
    score,
    score_and_diagonal,
)
from ebm_lab.errors import UserError
from ebm_lab.objectives import FiniteDifferenceSlicedScoreMatching
from ebm_lab.objectives.derivatives import check_size
from ebm_lab.objectives.explicit_score_matching import explicit_loss
from ebm_lab.objectives.fd_ssm import finite_difference_loss
from ebm_lab.objectives.objective import Parts
from ebm_lab.objectives.score_matching import implicit_loss
from ebm_lab.objectives.slices import SLICES, draw_slices
from ebm_lab.objectives.ssm import sliced_loss

F64 = torch.float64
PRECISION = torch.tensor([[2, 0.6], [0.6, 1]], dtype=F64)
POINT = torch.tensor([[1.0, -1.0]], dtype=F64)


class Polynomial(Energy):
    """E(x) = a x⁴ + b x² on the line: (a, b) = (1, -2) is (x² - 1)² - 1."""

    shape = (1,)

    def __init__(self, quartic: float, square: float) -> None:
        super().__init__()
        self.coefficients = torch.nn.Parameter(torch.tensor([quartic, square], dtype=F64))

    def forward(self, x):
        return (self.coefficients * torch.cat([x**4, x**2], 1)).sum(1)


class Field(ScoreNetwork):
    """A score without an energy: its Jacobian has no symmetry."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.shape = (dim,)
        self.network = torch.nn.Sequential(
            torch.nn.Linear(dim, 5), torch.nn.Tanh(), torch.nn.Linear(5, dim)
        ).double()

    def forward(self, x):
        return self.network(x)


def quadratic(precision):
    energy = Quadratic((len(precision),)).double()
    energy.set_precision(precision)
    return energy


def naive(model, x):
    """s and ∂_i s_i by one reverse pass a coordinate."""
    x = x.detach().requires_grad_(True)
    s = score(model, x, create_graph=True)
    columns = [
        torch.autograd.grad(s.flatten(1)[:, i].sum(), x, create_graph=True)[0].flatten(1)[:, i]
        for i in range(x[0].numel())
    ]
    return s, torch.stack(columns, 1).view_as(x)


def draws(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=F64)


def made(*overrides):
    schema.register()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return build(hydra.compose("train", overrides=["logger=none", "output_dir=x", *overrides]))


# --- the diagonal of the Jacobian --------------------------------------------------------------------------

MODELS = {
    "mlp": lambda: MLP((3,), width=6, depth=2, base=GaussianBase((3,), scale=2.0)),
    "convnet": lambda: ConvNet((1, 4, 4), channels=(3, 4), hidden=5),
    "resnet": lambda: ResNet((1, 4, 4), channels=(3, 4), spectral_norm=True),
    "score": lambda: Field(3),
    "wide": lambda: MLP((35,), width=6, depth=2),  # three groups of coordinates, the last a part of one
} | {
    name: lambda name=name: MLP((3,), width=4, depth=2, activation=name)
    for name in ("softplus", "tanh", "gelu", "elu")
}


@pytest.mark.parametrize("chunk_size", [None, 2])
@pytest.mark.parametrize("name", MODELS)
def test_diagonal_and_its_parameter_gradient_are_those_of_a_loop(name, chunk_size):
    torch.manual_seed(0)
    model = MODELS[name]().double()
    x = draws(3, *model.shape)
    parameters = [p for p in model.parameters() if p.requires_grad]
    found, expected = score_and_diagonal(model, x, chunk_size), naive(model, x)
    torch.testing.assert_close(found, expected)
    # any function of both: third derivatives flow into every parameter
    losses = [(d.sin().sum() + 0.5 * s.square().sum()) for s, d in (found, expected)]
    gradients = [torch.autograd.grad(loss, parameters, allow_unused=True) for loss in losses]
    for mine, theirs in zip(*gradients, strict=True):  # the last bias is in neither, or a zero in one
        zeros = [torch.zeros(()) if g is None else g for g in (mine, theirs)]
        torch.testing.assert_close(*zeros) if None not in (mine, theirs) else torch.testing.assert_close(
            *[z.abs().sum().double() for z in zeros]
        )


def test_chunks_keep_no_graph_of_their_own():
    """The graph of the result holds where the chunks come from, and none of their activations."""
    model = MLP((32,), width=16, depth=2).double()
    nodes = {}
    for chunk_size in (None, 4):
        _, diagonal = score_and_diagonal(model, draws(8, 32), chunk_size)
        nodes[chunk_size], todo = set(), [diagonal.grad_fn]
        while todo:
            node = todo.pop()
            if node is not None and node not in nodes[chunk_size]:
                nodes[chunk_size].add(node)
                todo += [following for following, _ in node.next_functions]
    num_parameters = len(list(model.parameters()))
    # eight chunks, the parameters, and a concatenation with its transpose and view
    assert len(nodes[4]) <= 8 + num_parameters + 4
    assert len(nodes[None]) > 3 * len(nodes[4])


# --- implicit ------------------------------------------------------------------------------------------


def test_ism_reaches_its_closed_form():
    # Data (±1, 0), (0, ±2): S = diag(½, 2), the minimiser is P = S⁻¹ = diag(2, ½), J* = -½ tr S⁻¹ = -1.25.
    x = torch.tensor([[1, 0], [-1, 0], [0, 2], [0, -2]], dtype=F64)
    energy = quadratic(torch.diag(torch.tensor([2, 0.5], dtype=F64)))
    loss = implicit_loss(energy, x)
    assert loss.item() == pytest.approx(-1.25, abs=1e-12)
    assert max(g.abs().max() for g in torch.autograd.grad(loss, list(energy.parameters()))) < 1e-12


def test_ism_of_one_parameter():
    # ½ λ² m₂ - λ at λ = 2 on ±1, and ESM - ISM = ½ E‖s_data‖² = ½ for N(0, 1)
    x = torch.tensor([[1.0], [-1.0]], dtype=F64)
    energy = quadratic(torch.tensor([[2.0]], dtype=F64))
    assert implicit_loss(energy, x).item() == pytest.approx(0, abs=1e-12)
    assert explicit_loss(energy, x, -x).item() == pytest.approx(0.5, abs=1e-12)


def test_ism_of_the_double_well_at_a_point():
    x = torch.tensor([[0.5]], dtype=F64)  # ½ E'² - E'' = ½ 1.5² + 1
    assert implicit_loss(Polynomial(1, -2), x).item() == pytest.approx(2.125, abs=1e-12)


def test_ism_recovers_an_exponential_family():
    """θ̂ = A⁻¹b for E = θᵀφ: under exp(-(x² - 1)²) it is (1, -2), and J there is -½ E‖s‖²."""
    grid = torch.linspace(-5, 5, 4001, dtype=F64)[:, None]
    weights = (-((grid**2 - 1) ** 2)).exp()[:, 0]
    weights = weights / weights.sum()
    m2, m4 = (float((weights * grid[:, 0] ** k).sum()) for k in (2, 4))
    assert (m2, m4) == pytest.approx((0.832745487, 1.082745487), abs=1e-8)
    energy = Polynomial(1, -2)
    s, diagonal = score_and_diagonal(energy, grid)
    loss = (weights[:, None] * (diagonal + 0.5 * s.square())).sum()
    assert loss.item() == pytest.approx(-2.996472923, abs=1e-8)
    (gradient,) = torch.autograd.grad(loss, energy.coefficients, create_graph=True)
    assert gradient.abs().max() < 1e-8
    other = Polynomial(0.3, 0.7)  # the loss is quadratic in θ: one Newton step from anywhere
    s, diagonal = score_and_diagonal(other, grid)
    loss = (weights[:, None] * (diagonal + 0.5 * s.square())).sum()
    (gradient,) = torch.autograd.grad(loss, other.coefficients, create_graph=True)
    hessian = torch.stack(
        [torch.autograd.grad(g, other.coefficients, retain_graph=True)[0] for g in gradient]
    )
    solved = other.coefficients - torch.linalg.solve(hessian, gradient)
    torch.testing.assert_close(solved, torch.tensor([1.0, -2.0], dtype=F64), rtol=0, atol=1e-7)


@pytest.mark.parametrize("dim", [2, 10])
def test_esm_exceeds_ism_by_half_the_data_s_squared_score(dim):
    density = random_gaussian(dim)
    x = density.sample(100_000, torch.Generator().manual_seed(0), F64)
    energy = quadratic(1.3 * density.precision + 0.2 * torch.eye(dim, dtype=F64))
    true = density.score(x)
    s, diagonal = score_and_diagonal(energy, x, None)
    # event by event the difference is -sᵀs_data - tr ∇s, whose mean vanishes: 4 standard errors
    stein = (s * true).sum(1) + diagonal.sum(1)
    assert abs(stein.mean() / (stein.std() / math.sqrt(len(x)))) < 4
    difference = explicit_loss(energy, x, true) - implicit_loss(energy, x)
    half_square = 0.5 * true.square().sum(1).mean()
    torch.testing.assert_close(difference, half_square - stein.mean())


def test_events_of_many_numbers_are_refused_with_what_works():
    with pytest.raises(UserError, match="784 numbers .* choose objective=ssm"):
        check_size("ScoreMatching", 784, "objective=ssm")
    with pytest.raises(UserError, match="chunk_size must be at least 1"):
        made("objective=score_matching", "objective.chunk_size=0", "data.num_train=200")


def test_explicit_matching_refuses_noise_whose_density_is_unknown():
    with pytest.raises(UserError, match="has no closed form here: choose objective.sigma=0"):
        made("objective=explicit_score_matching", "data=ica", "objective.sigma=0.3", "data.batch_size=50")


@pytest.mark.parametrize("objective", ["dsm", "ssm"])
def test_scores_of_relus_are_trained_and_energies_of_relus_refused(objective):
    built = made(f"objective={objective}", "energy=score_mlp", "energy.activation=relu", "data.num_train=200")
    loss = built.objective.loss(next(iter(built.data.train_dataloader())))
    loss.backward()
    assert built.objective.energy.network[1].weight.grad.abs().max() > 0
    with pytest.raises(UserError, match="the Hessian of this energy is zero"):
        made(f"objective={objective}", "energy.activation=relu", "data.num_train=200")


# --- slices --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slices", SLICES)
def test_slices_have_unit_covariance_and_their_stated_variance(slices):
    num = 400_000
    v = draw_slices(slices, torch.empty(num, 2, dtype=F64), torch.Generator().manual_seed(0))
    outer = v[:, :, None] * v[:, None]
    error = outer.std(0) / math.sqrt(num)
    assert ((outer.mean(0) - torch.eye(2, dtype=F64)).abs() < 4 * error + 1e-12).all()
    along = ((v @ PRECISION) * v).sum(1)
    square, trace = PRECISION.square().sum(), PRECISION.trace()
    expected = {"rademacher": 1.44, "gaussian": 11.44, "sphere": 2 * (2 * square - trace**2) / 4}
    # the variance of a variance: relative 2 % is 4 standard errors of the Gaussian one, the widest
    assert along.var() == pytest.approx(float(expected[slices]), rel=0.02)
    if slices != "gaussian":
        torch.testing.assert_close(v.square().sum(1), torch.full((num,), 2.0, dtype=F64))


def test_every_event_has_a_slice_of_its_own():
    for slices in SLICES:
        v = draw_slices(slices, torch.empty(64, 20, dtype=F64), torch.Generator().manual_seed(0))
        assert len(v.unique(dim=0)) == 64


def test_the_sphere_averages_to_implicit_score_matching():
    # Points of the circle of radius √2 at four equal angles have E[vvᵀ] = I exactly.
    angles = torch.arange(4, dtype=F64) * math.pi / 2 + 0.3
    v = math.sqrt(2) * torch.stack([angles.cos(), angles.sin()], 1)
    x = POINT.expand(4, 2)
    for variance_reduced in (False, True):
        assert sliced_loss(quadratic(PRECISION), x, v, variance_reduced).item() == pytest.approx(
            -1.94, abs=1e-12
        )
        unit = sliced_loss(quadratic(PRECISION), x, v / math.sqrt(2), False)
        assert unit.item() == pytest.approx(-0.97, abs=1e-12)


# --- finite differences --------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0.1, 1.0, 3.0])
def test_finite_differences_of_a_quadratic_have_no_bias(step):
    for v, expected in (((1.0, 1.0), -3.70), ((1.0, -1.0), -0.18)):
        v = torch.tensor([v], dtype=F64)
        loss = finite_difference_loss(quadratic(PRECISION), POINT, v, step)
        assert loss.item() == pytest.approx(expected, abs=1e-9)


def test_the_bias_of_finite_differences_is_of_second_order():
    energy, x, v = Polynomial(1, -2), torch.tensor([[0.5]], dtype=F64), torch.ones(1, 1, dtype=F64)
    exact = sliced_loss(energy, x, v, variance_reduced=False)
    errors = [(finite_difference_loss(energy, x, v, h) - exact).item() for h in (0.02, 0.01)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=1e-2)
    # E(x ± h): the quotient is -E'' - h²E''''/12 + ½(E' + h²E'''/6)²; E' = -1.5, E''' = 12, E'''' = 24
    h = 0.1
    expected = 1.0 - 24 * h**2 / 12 + 0.5 * (-1.5 + 12 * h**2 / 6) ** 2
    assert finite_difference_loss(energy, x, v, h).item() == pytest.approx(expected, abs=1e-9)


def test_epsilon_is_the_length_of_the_step():
    """In 2 dimensions and with signs, ε = 0.1 is a step of 0.1/√2 a coordinate."""
    built = made("objective=fd_ssm", "data=gaussian", "data.num_train=200", "data.batch_size=16")
    seen, method = [], built.objective
    method.energy.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    method.loss(next(iter(built.data.train_dataloader())))
    here, ahead, behind = seen[0].chunk(3)
    for there in (ahead, behind):
        lengths = (there - here).norm(dim=1)
        torch.testing.assert_close(lengths, torch.full_like(lengths, 0.1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ahead - here, here - behind, rtol=0, atol=1e-6)


def test_a_score_without_an_energy_is_refused():
    built = made("objective=ssm", "data=gaussian", "data.num_train=200")
    parts = Parts(Field(2), built.objective.sampler, built.objective.noise, built.objective.optimization)
    with pytest.raises(UserError, match="trains an energy, and Field is none"):
        FiniteDifferenceSlicedScoreMatching(parts).check(built.data)


def test_second_derivatives_of_a_score_network_reach_into_its_base():
    # s(x) = 0 - λx from the base alone: tr ∇s + ½‖s‖² = -2λ + ½λ²‖x‖²
    base = GaussianBase((2,), scale=2.0).double()
    network = ScoreMLP((2,), width=3, depth=1, base=base).double()
    for p in network.network.parameters():
        torch.nn.init.zeros_(p)
    assert implicit_loss(network, POINT).item() == pytest.approx(-2 / 4 + 0.5 * 2 / 16, rel=1e-12)
