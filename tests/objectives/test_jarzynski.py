"""Jarzynski's identity at finite steps: log Z and moments of a law that moves, without bias."""

import math

import hydra
import numpy as np
import pytest
import torch

from ebm_lab import schema
from ebm_lab.building import build
from ebm_lab.cli import CONFIGS
from ebm_lab.data import Batch
from ebm_lab.energies import energy_and_gradient
from ebm_lab.errors import UserError
from ebm_lab.objectives.jarzynski import (
    Walkers,
    at_rest,
    move,
    path_energy,
    resampled,
    weigh,
)
from ebm_lab.samplers.mala import log_proposal

DOUBLE = torch.float64


def quadratic(precision: float):
    return lambda x: 0.5 * precision * x.square().sum(1)


def gaussian_nodes(num: int = 80) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(x, z, weights) of Gauss-Hermite quadrature over two standard normals."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(num)
    nodes, weights = torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())
    x, z = torch.meshgrid(nodes, nodes, indexing="ij")
    return x.reshape(-1, 1), z.reshape(-1, 1), torch.outer(weights, weights).flatten()


@pytest.mark.parametrize(
    ("precision", "step_size", "expected"), [(2.0, 0.1, 0.707106781), (1.3, 0.4, 0.877058019)]
)
def test_one_step_at_any_size_gives_the_ratio_of_normalisers_and_the_new_moments(
    precision, step_size, expected
):
    x, z, weights = gaussian_nodes()
    walkers = move(at_rest(quadratic(1.0), x), z, step_size)
    weighed = weigh(quadratic(precision), walkers, step_size)
    likelihood = weights * weighed.log_weights.exp()
    assert likelihood.sum().item() == pytest.approx(expected, abs=1e-9)
    moment = (likelihood @ weighed.x.square().squeeze(1)) / likelihood.sum()
    assert moment.item() == pytest.approx(1 / precision, abs=1e-9)


def test_under_one_energy_it_is_the_acceptance_ratio_of_mala(generator):
    x, y = torch.randn(2, 50, 3, generator=generator, dtype=DOUBLE)
    energy, h = lambda x: (x.square() - 1).square().sum(1), 0.2
    (e_x, g_x), (e_y, g_y) = energy_and_gradient(energy, x), energy_and_gradient(energy, y)
    there, back = path_energy(x, y, e_x, g_x, h), path_energy(y, x, e_y, g_y, h)
    ratio = e_x - e_y + log_proposal(x, y, g_y, h) - log_proposal(y, x, g_x, h)
    torch.testing.assert_close(there - back, ratio)


def test_a_whole_path_with_resampling_keeps_log_z_and_moments(generator):
    """20 000 walkers from N(0, 1) to precision 3 in ten steps; errors by the walkers' own spread."""
    num, h = 20_000, 0.2
    weighed = at_rest(quadratic(1.0), torch.randn(num, 1, generator=generator, dtype=DOUBLE))
    for step, precision in enumerate(torch.linspace(1.2, 3.0, 10).tolist()):
        z = torch.randn(num, 1, generator=generator, dtype=DOUBLE)
        weighed = weigh(quadratic(precision), move(weighed, z, h), h)
        if step in (3, 7):
            weighed = resampled(weighed, torch.rand((), generator=generator, dtype=DOUBLE))
    # about ten steps of relative variance of at most .1 each: a standard error of 1/√20 000 = .007
    assert weighed.log_z.item() == pytest.approx(-0.5 * math.log(3), abs=4 * 0.007)
    moment = weighed.log_weights.softmax(0) @ weighed.x.square().squeeze(1)
    assert moment.item() == pytest.approx(1 / 3, abs=4 * math.sqrt(2) / 3 * 0.01)


def built(*overrides: str):
    small = ["data.num_train=300", "data.num_val=20", "data.num_test=20", "data.batch_size=100"]
    posed = ["objective=jarzynski", "data=gaussian", "energy=quadratic", "sampler.step_size=0.1"]
    schema.register()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return build(hydra.compose("train", overrides=[*posed, *small, "output_dir=x", *overrides]))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_log_z_is_that_of_the_model_whatever_parameters_are_in_place(temperature):
    """From the fitted noise through three models, the last one never stepped under."""
    method = built("objective.num_witnesses=20000", f"sampler.temperature={temperature}").objective.double()
    batch = Batch(torch.zeros(10, 2, dtype=DOUBLE))
    assert method.log_z() is None
    for scale in (1.0, 1.2, 0.9, 1.1):
        method.energy.set_precision(scale * torch.tensor([[2.0, 0.6], [0.6, 1.0]], dtype=DOUBLE))
        exact = math.log(2 * math.pi * temperature) - 0.5 * torch.logdet(method.energy.precision).item()
        if scale < 1.1:
            method.loss(batch)
            assert method.metrics["log_z"].item() == pytest.approx(exact, abs=0.04)
            assert method.metrics["log_likelihood"].item() == pytest.approx(-exact, abs=0.04)
        # 20 000 walkers whose weights vary by less than 1: a standard error below .01
        assert method.log_z() == pytest.approx(exact, abs=0.04)


def test_gradient_is_that_of_the_weighted_negatives():
    method = built("objective.num_walkers=3").objective.double()
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]], dtype=DOUBLE)
    carried = torch.tensor([0.0, 1.0, 2.0], dtype=DOUBLE)
    method._populations = [Walkers(x, x, carried, x.new_zeros(()))] * 2
    gradient = torch.autograd.grad(method.loss(Batch(x[:1])), method.energy.log_diagonal)[0]
    # P = I: A = carried - E - h/4 ‖x‖², and dE / d log L_ii = x_i²
    weights = (carried - (0.5 + 0.025) * x.square().sum(1)).softmax(0)
    torch.testing.assert_close(gradient, x[0].square() - weights @ x.square())
    # of normalised weights (Σ w)² / (n Σ w²) is 1 / (n Σ w²)
    assert method.metrics["ess"].item() == pytest.approx(1 / (3 * weights.square().sum().item()), abs=1e-12)


def test_walkers_and_log_z_are_found_again():
    method, batch = built().objective, Batch(torch.zeros(10, 2))
    for scale in (1.0, 3.0, 0.5):  # so far apart that they are resampled
        method.energy.set_precision(scale * torch.eye(2))
        method.loss(batch)
    assert all(walkers.taken != 0 for walkers in method.populations)
    other = built().objective
    other.load_state_dict(method.state_dict())
    other.load_chain_state(method.chain_state())
    assert other.log_z() == method.log_z()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("sampler=hmc", "the weights belong to Langevin"),
        ("sampler.clamp=[-1,1]", "the weights belong to Langevin"),
        ("objective.num_walkers=0", "num_walkers must be at least 1"),
        ("noise=uniform", "walk out of UniformBox"),
    ],
)
def test_what_has_no_weights_is_refused(override, said):
    with pytest.raises(UserError, match=said):
        built("sampler.step_size=0.1", override)
