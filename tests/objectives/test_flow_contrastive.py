"""The game of energy and flow: its value, who pulls where, and when the flow waits."""

import math

import hydra
import pytest
import torch
from closed_forms import normal_grid
from hydra.errors import InstantiationException
from stand_ins import write_mnist

from ebm_lab import schema
from ebm_lab.building import build
from ebm_lab.cli import CONFIGS
from ebm_lab.data import Batch
from ebm_lab.errors import UserError
from ebm_lab.objectives.flow_contrastive import flow_value

F64 = torch.float64


def value(scale: torch.Tensor, precision: torch.Tensor) -> torch.Tensor:
    """V of data N(0, 1), the energy N(0, 1/λ) and the flow x = s z."""
    x, z = (normal_grid(2**14)[:, 0] for _ in range(2))

    def log_ratio(at):
        log_model = -0.5 * precision * at**2 + 0.5 * (precision / (2 * math.pi)).log()
        return log_model + 0.5 * (at / scale) ** 2 + scale.log() + 0.5 * math.log(2 * math.pi)

    return flow_value(log_ratio(x), log_ratio(scale * z))


def slopes(scale: float, precision: float) -> tuple[float, float]:
    numbers = [torch.tensor(v, dtype=F64, requires_grad=True) for v in (scale, precision)]
    return tuple(g.item() for g in torch.autograd.grad(value(*numbers), numbers))


def test_at_the_equilibrium_nothing_moves_and_the_value_is_minus_two_log_two():
    one = torch.ones((), dtype=F64)
    assert value(one, one).item() == pytest.approx(-2 * math.log(2), abs=1e-12)
    # V's slope in λ there is ½ (E_data - E_flow) of -½ x², and in s that of ½ (log p - log q) at x = s z
    assert max(abs(slope) for slope in slopes(1.0, 1.0)) < 1e-12


def test_the_flow_is_drawn_to_the_data_from_both_sides_and_the_energy_to_the_truth():
    assert slopes(0.7, 1.0)[0] < -0.05 and slopes(1.4, 1.0)[0] > 0.05  # the flow lowers V
    assert slopes(1.4, 0.7)[1] > 0.01 and slopes(1.4, 1.4)[1] < -0.01  # the energy raises it
    assert abs(slopes(1.4, 1.0)[1]) < 1e-3  # whose optimum is the data for any flow, but for the grid's tails


def built(*overrides):
    schema.register()
    small = [
        "objective=flow_contrastive", "data=gaussian", "energy=quadratic", "data.num_train=300",
        "objective.flow.fit_steps=5", "objective.flow.bins=null", "logger=none", "output_dir=x",
    ]  # fmt: skip
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return build(hydra.compose("train", overrides=[*small, *overrides])).objective


@pytest.fixture(scope="module")
def method():
    return built()


@pytest.mark.parametrize(("accuracy", "steps"), [(0.54, False), (0.56, True)])
def test_the_flow_waits_while_it_passes_for_the_data(method, accuracy, steps):
    energy, flow = method.players().values()
    method.metrics = {"accuracy": torch.tensor(accuracy)}
    assert energy.only_while is None and flow.only_while() == steps


def gradients_of(method, batch, weight):
    """The flow's loss and its slopes in the flow's parameters, for a weight of the likelihood."""
    method.likelihood_weight = weight
    with method.drawing_from(torch.Generator().manual_seed(1)):
        loss = method.flow_loss(batch)
    method.likelihood_weight = 0.0
    return loss, torch.autograd.grad(loss, list(method.noise.parameters()))


def test_the_flow_s_loss_takes_its_likelihood_in():
    method = built().double()
    batch = Batch(torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=F64))
    value, slopes_of_value = gradients_of(method, batch, 0.0)
    loss, slopes_of_loss = gradients_of(method, batch, 0.3)
    likelihood = method.noise.log_prob(batch.x).mean()
    assert loss.item() == pytest.approx((value - 0.3 * likelihood).item(), abs=1e-12)
    of_likelihood = torch.autograd.grad(likelihood, list(method.noise.parameters()))
    for found, of_value, slope in zip(slopes_of_loss, slopes_of_value, of_likelihood, strict=True):
        torch.testing.assert_close(found, of_value - 0.3 * slope, rtol=0, atol=1e-12)


def test_where_the_classifier_is_sure_only_the_likelihood_draws_the_flow():
    """Data 30 to the right of the flow and the energy at the data: V = 0 and flat, as its slopes show."""
    method = built().double()
    with torch.no_grad():
        method.noise.mean.fill_(-30.0)
    batch = Batch(torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=F64))
    (value, slopes_of_value), (loss, slopes) = (gradients_of(method, batch, weight) for weight in (0.0, 1.0))
    assert abs(value.item()) < 1e-12 and max(s.abs().max() for s in slopes_of_value) < 1e-12
    assert loss.item() > 100 and max(s.abs().max() for s in slopes) > 1


@pytest.mark.parametrize("wrong", ["flow_above=0.4", "likelihood_weight=-1"])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(UserError, match=f"{wrong.split('=')[0]} must be .*, got {wrong.split('=')[1]}"):
        built(f"objective.{wrong}")


def test_a_saturated_classifier_is_told_what_the_flow_may_do(method):
    """Not to choose another noise, which the method would not look at."""
    before = method.accuracy.clone()
    method.accuracy.fill_(0.995)
    (note,) = method.notes
    method.accuracy.copy_(before)
    assert "saturated (accuracy 0.9950)" in note and "noise=" not in note
    assert "objective.flow.fit_steps" in note and "objective.flow_above" in note and "objective.sigma" in note
    assert method.notes == ()


def test_events_of_one_number_are_refused_with_a_method_for_them():
    with pytest.raises(InstantiationException, match="choose noise=gaussian .* and objective=nce"):
        built("data.dim=1")


def test_each_player_s_loss_is_the_other_s_with_its_sign_and_reaches_its_parameters(method):
    batch = Batch(torch.randn(64, 2, generator=torch.Generator().manual_seed(0)))
    players = method.players()
    with method.drawing_from(torch.Generator().manual_seed(1)):
        energy = players["energy"].loss(batch)
    with method.drawing_from(torch.Generator().manual_seed(1)):
        flow = players["flow"].loss(batch)
    assert flow.item() == pytest.approx(-energy.item(), abs=1e-5)
    learning = list(method.noise.parameters())
    assert learning and all(p.requires_grad for p in learning)
    assert sum(g.abs().sum() for g in torch.autograd.grad(flow, learning)) > 0


def test_on_images_the_energy_starts_as_the_fitted_flow(tmp_path):
    """Flow and base term are fitted alike: G is what the network says, small before the first step."""
    write_mnist(tmp_path)
    schema.register()
    small = [
        f"data.root={tmp_path}", "data.download=false", "data.num_val=10", "data.batch_size=10",
        "objective.flow.fit_steps=2", "output_dir=x",
    ]  # fmt: skip
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        chosen = ["objective=flow_contrastive", "data=mnist", *small]
        method = build(hydra.compose("train", overrides=chosen)).objective
    base = method.energy.base.density
    assert base is not method.noise
    x = method.noise.sample(20, torch.Generator().manual_seed(0))
    assert torch.equal(base.log_prob(x), method.noise.log_prob(x))
    found = method.logits(x, x).noise
    by_network = -(method.energy(x) + base.log_prob(x)) - method.log_normaliser
    torch.testing.assert_close(found, by_network, rtol=0, atol=2e-3)  # of numbers near 1000 in float32
    assert found.abs().max() < 1
