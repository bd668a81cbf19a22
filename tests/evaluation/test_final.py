import math

import hydra
import pytest
import torch
from stand_ins import write_mnist

from ebm_lab import schema
from ebm_lab.building import build
from ebm_lab.cli import CONFIGS
from ebm_lab.data import TorchvisionImages
from ebm_lab.energies import Energy, Quadratic, ScoreNetwork
from ebm_lab.evaluation.final import log_density_mse
from ebm_lab.evaluation.likelihood import _bits_per_dim
from ebm_lab.objectives.known_truth import GaussianTruth

D = 28 * 28


class UniformInPixels(Energy):
    """E(y) = -log |dx/dy| + d log 2: the law of events whose pixels are uniform on [-1, 1], with Z = 1."""

    def __init__(self, data):
        super().__init__()
        self.data = data

    def forward(self, y):
        slope = torch.zeros(len(y)) if self.data.transform is None else self.data.transform.log_slope(y)
        return D * math.log(2) - slope


@pytest.mark.parametrize("transform", [None, "logit"])
def test_uniform_pixels_cost_eight_bits_in_every_event(tmp_path, transform):
    """So their mean has no error of its own, though log |dy/dk| differs by hundreds of nats among them."""
    write_mnist(tmp_path)
    data = TorchvisionImages(
        name="mnist", shape=[1, 28, 28], order_seed=0, root=str(tmp_path), num_val=10, batch_size=10,
        transform=transform,
    )  # fmt: skip
    data.setup()
    # as if Z were e³: 3 / (d log 2) bits more
    bits, error = _bits_per_dim(UniformInPixels(data)(data.test_x).double() + 3.0, data, data.test_x, 0.5)
    assert bits == pytest.approx(8 + 3 / (D * math.log(2)), abs=1e-6)
    assert error == pytest.approx(0.5 / (D * math.log(2)), abs=1e-6)


def test_the_right_energy_of_noised_data_has_no_gap():
    """dsm at (Σ + σ²I)⁻¹: within 4 standard errors of 0. Clean events against jumped samples are 1.2 off."""
    schema.register()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose(
            "train",
            overrides=["objective=dsm", "objective.sigma=1.0", "data=gaussian", "data.dim=10", "logger=none",
                       "energy=quadratic", "evaluation.kernel.step_size=0.3"],
        )  # fmt: skip
    built = build(cfg)
    built.objective.place(GaussianTruth.of(built.data), 1.0)
    found = built.evaluation(built.objective, built.data).measurements
    gap = next(m for m in found if m.name == "energy_gap")
    assert abs(gap.value) < 4 * gap.error < 0.5


class Turning(ScoreNetwork):
    """s(x) = (-x₁ + x₂/2, -x₂): ‖(J - Jᵀ)/2‖² = 1/8 of ‖J‖² = 9/4."""

    shape = (2,)

    def forward(self, x):
        first, second = x.unbind(1)
        return torch.stack([second / 2 - first, -second], 1)


def final_numbers(*overrides, network=None):
    """By name, of an untrained run of dsm."""
    schema.register()
    small = ["evaluation.num_samples=20", "evaluation.num_steps=2", "data.num_test=50", "data.num_train=200"]
    small += ["evaluation.kernel._target_=ebm_lab.samplers.Langevin"]  # which follows scores
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose("train", overrides=["objective=dsm", "logger=none", *small, *overrides])
    built = build(cfg)
    if network is not None:
        built.objective.take(network)
    return {m.name: m for m in built.evaluation(built.objective, built.data).measurements}


def test_what_no_energy_has_of_a_score_is_among_the_final_numbers():
    found = final_numbers("data=gaussian", "energy=score_mlp", network=Turning())["score_asymmetry"]
    assert found.value == pytest.approx(math.sqrt(1 / 18), abs=1e-6)
    assert found.error == pytest.approx(0, abs=1e-6) and found.unit == ""
    assert "J at 50 noised test events: 0 for an energy's gradient" in found.note


@pytest.mark.parametrize(
    "overrides", [("data=gaussian", "energy=mlp"), ("data=gaussian", "data.dim=65", "energy=score_mlp")]
)
def test_neither_energies_nor_large_events_are_asked_for_it(overrides):
    assert "score_asymmetry" not in final_numbers(*overrides)


class Standard:
    """N(0, I) in two dimensions."""

    def log_prob(self, x):
        return -0.5 * x.square().sum(1) - math.log(2 * math.pi)


def test_mean_squared_error_of_a_log_density_twice_as_wide(generator):
    """log p_model - log p = a |x|² - 2 log 2 with a = 3/8 and |x|² of mean 2 and mean square 8."""
    model = Quadratic((2,)).double()
    model.log_diagonal.data.fill_(-math.log(2.0))
    x = torch.randn(200_000, 2, generator=generator, dtype=torch.float64)
    found = log_density_mse(model, float(model.log_partition().detach()), Standard(), x)
    a, b = 3 / 8, 2 * math.log(2)
    assert abs(found.value - (8 * a**2 - 4 * a * b + b**2)) < 4 * found.error < 0.02
