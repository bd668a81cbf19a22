"""Weighted score matching on domains with an edge: closed forms, and the integration by parts itself."""

import hydra
import pytest
import torch

from ebm_lab import schema
from ebm_lab.building import build
from ebm_lab.cli import CONFIGS
from ebm_lab.data.truncated_gaussian import TruncatedGaussian
from ebm_lab.energies import MLP, Energy, score
from ebm_lab.errors import UserError
from ebm_lab.objectives.boundary import WEIGHTS, weighted_loss
from ebm_lab.objectives.score_matching import implicit_loss

F64 = torch.float64


class Linear(Energy):
    """E(x) = λ x, the exponential law of rate λ."""

    shape = (1,)

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = torch.nn.Parameter(torch.tensor(rate, dtype=F64))

    def forward(self, x):
        return self.rate * x[:, 0] + 0 * x[:, 0].square()  # of second order in x, as autograd is asked for


def made(objective, *overrides):
    schema.register()
    data = {"nonnegative_score_matching": "nonnegative", "unit_score_matching": "unit"}[objective]
    small = [f"objective={objective}", f"data={data}", "data.num_train=200", "data.batch_size=16"]
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return build(hydra.compose("train", overrides=["logger=none", "output_dir=x", *small, *overrides]))


def column(*values):
    return torch.tensor(values, dtype=F64)[:, None]


def minimiser(x, g, slope):
    """The loss is a parabola in λ: its vertex from slope and curvature at 0.7."""
    energy = Linear(0.7)
    loss = weighted_loss(energy, x, g, slope)
    (gradient,) = torch.autograd.grad(loss, energy.rate, create_graph=True)
    (curvature,) = torch.autograd.grad(gradient, energy.rate)
    return (energy.rate - gradient / curvature).item()


@pytest.mark.parametrize(("weight", "expected"), [("square", 6 / 7), ("linear", 0.5)])
def test_the_rate_of_three_numbers(weight, expected):
    """λ̂ = 2 m₁/m₂ with g = x², 1/m₁ with g = x."""
    method = made("nonnegative_score_matching", f"objective.weight={weight}").objective
    x = column(1, 2, 3)
    assert minimiser(x, *method.weights(x)) == pytest.approx(expected, abs=1e-12)


def test_without_a_weight_the_rate_is_naught():
    x = column(1, 2, 3)
    assert minimiser(x, torch.ones_like(x), torch.zeros_like(x)) == pytest.approx(0, abs=1e-12)


def test_the_population_of_an_exponential_law():
    """By 2¹⁶ quantiles of Exp(1.3), the clipped weight too; they miss the tail at about 1e-4."""
    u = (torch.arange(2**16, dtype=F64) + 0.5) / 2**16
    x = -torch.log1p(-u)[:, None] / 1.3
    for weight in WEIGHTS:
        method = made(
            "nonnegative_score_matching", f"objective.weight={weight}", "objective.clip=0.6"
        ).objective
        assert minimiser(x, *method.weights(x)) == pytest.approx(1.3, abs=1e-3)


def test_weight_one_is_implicit_score_matching():
    torch.manual_seed(0)
    energy = MLP((3,), width=5, depth=2).double()
    x = torch.rand(6, 3, dtype=F64)
    found = weighted_loss(energy, x, torch.ones_like(x), torch.zeros_like(x))
    torch.testing.assert_close(found, implicit_loss(energy, x))


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("objective", ["nonnegative_score_matching", "unit_score_matching"])
def test_slopes_are_those_of_the_weights_and_edges_have_none(objective, weight):
    method = made(objective, f"objective.weight={weight}", "objective.clip=0.23").objective
    x = torch.linspace(0.013, 0.987, 20, dtype=F64)[:, None].requires_grad_(True)
    g, slope = method.weights(x)
    torch.testing.assert_close(torch.autograd.grad(g.sum(), x)[0], slope)
    assert (g > 0).all()
    edges = column(0) if objective.startswith("nonnegative") else column(0, 1)
    assert (method.weights(edges)[0] == 0).all()


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize(
    ("objective", "domain"), [("nonnegative_score_matching", "nonnegative"), ("unit_score_matching", "unit")]
)
def test_the_loss_is_a_weighted_fisher_divergence_up_to_a_constant(objective, domain, weight):
    """J - E ½ g (s - s_data)² is the same for two networks, by Simpson's rule over the line.

    Kinks of the weights lie between pieces, so that the rule keeps its order; without the weight's slope the
    two differ.
    """
    law = TruncatedGaussian([0.4], [0.5], domain)
    method = made(objective, f"objective.weight={weight}", "objective.clip=0.25").objective
    end = 6.0 if domain == "nonnegative" else 1.0
    pieces = int(end * 4) * 50  # every quarter is the end of a piece
    x = torch.linspace(0, end, 2 * pieces + 1, dtype=F64)[:, None]
    middle = torch.cat([x[:-1:2], x[1::2], x[2::2]])  # both ends of each piece, and its middle
    rule = torch.cat([torch.full((pieces,), c, dtype=F64) for c in (1, 4, 1)]) * (end / pieces / 6)
    # one-sided at kinks: nudge the ends of each piece inside of it
    nudge = 1e-9
    nodes = torch.cat([middle[:pieces] + nudge, middle[pieces : 2 * pieces], middle[2 * pieces :] - nudge])
    p = rule * law.log_prob(nodes).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-6)
    g, slope = method.weights(nodes)

    def constant(seed, slope):
        torch.manual_seed(seed)
        energy = MLP((1,), width=6, depth=2, activation="tanh").double()
        with torch.no_grad():
            for parameter in energy.parameters():
                parameter.mul_(3)
        s = score(energy, nodes)
        per_node = _per_node(energy, nodes, g, slope)
        explicit = 0.5 * (g * (s - law.score(nodes)).square())[:, 0]
        return float((p * (per_node - explicit)).sum())

    first, second = constant(0, slope), constant(1, slope)
    assert first == pytest.approx(second, abs=1e-5)
    assert abs(constant(0, 0 * slope) - constant(1, 0 * slope)) > 1e-2


def _per_node(energy, nodes, g, slope):
    """The loss of every event by itself: the slope of the mean in a weight on the event."""
    on = torch.ones(len(nodes), 1, dtype=F64, requires_grad=True)
    loss = weighted_loss(energy, nodes, on * g, on * slope) * len(nodes)
    return torch.autograd.grad(loss, on)[0][:, 0]


def test_what_does_not_fit_the_data_is_refused():
    with pytest.raises(UserError, match="trains on nonnegative data, these are real"):
        made("nonnegative_score_matching", "data=gaussian")
    with pytest.raises(UserError, match="sampler: Langevin is for image or real data.*sampler=reflected"):
        made("nonnegative_score_matching", "objective=pcd", "sampler=langevin")
