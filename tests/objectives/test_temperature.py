"""What a sampler at T has trained is E / T, everywhere; where there is no T, no likelihood is claimed."""

import hydra
import pytest
import torch
from hydra.utils import get_class

from ebm_lab import schema
from ebm_lab.building import build
from ebm_lab.cli import CONFIGS
from ebm_lab.errors import UserError
from ebm_lab.objectives import Objective
from ebm_lab.training import _health

SMALL = ["data.num_train=200", "data.num_val=20", "data.num_test=20", "data.batch_size=16"]


def compose(*overrides):
    schema.register()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose("train", overrides=["logger=none", "output_dir=x", *overrides])


def method_of(name):
    return get_class(compose(f"objective={name}").objective._target_)


def small(name):
    """The objective on data that it accepts."""
    data = "gaussian_classes" if method_of(name).needs_labels else "gaussian"
    return [f"data={data}", f"objective={name}", *SMALL]


NAMES = sorted(f.stem for f in (CONFIGS / "objective").glob("*.yaml"))
# of real data, by the energy itself: noise levels and bridges have kernels and models of their own
NAMES = [n for n in NAMES if "real" in method_of(n).domains and method_of(n).model is Objective.model]
SAMPLING = [name for name in NAMES if method_of(name).trains_by_sampling]


@pytest.mark.parametrize("objective", NAMES)
def test_the_model_is_the_energy_over_the_temperature_of_its_training(objective):
    built = build(compose(*small(objective), "sampler=langevin", "sampler.temperature=2.0"))
    method, x = built.objective, built.data.val_x
    T = 2.0 if method.trains_by_sampling else 1.0
    torch.testing.assert_close(method.model()(x), method.energy(x) / T)
    assert any("E / 2" in note for note in _health(built)) == method.trains_by_sampling


@pytest.mark.parametrize("objective", SAMPLING)
def test_without_a_temperature_nothing_is_divided_and_nothing_claimed(objective):
    own = [o for o in method_of(objective).truth_overrides if not o.startswith("sampler")]  # no jumps
    cfg = compose(*small(objective), "sampler=preconditioned", *own)
    try:
        built = build(cfg)
    except UserError as refusal:  # methods that are about the steps of one kernel
        assert "sampler=langevin" in str(refusal)
        return
    method, x = built.objective, built.data.val_x
    assert torch.equal(method.model()(x), method.energy(x)) and not method.claims_likelihood()
    (note,) = _health(built)
    assert "RMSprop" in note and "It has no temperature, so no likelihood is claimed." in note


@pytest.mark.parametrize("objective", ["cd", "pcd"])
def test_at_its_known_truth_the_model_is_the_law_of_the_data(objective):
    """An exact kernel at T = 2 teaches E the precision 2 Σ⁻¹, and E / T is what the data follow."""
    built = build(
        compose(
            f"objective={objective}",
            "data=gaussian",
            "energy=quadratic",
            "sampler=mala",
            "sampler.temperature=2.0",
        )
    )
    method = built.objective.double()
    truth = method.truth.of(built.data)
    method.place(truth, 1.0)
    x = built.data.val_x.double()
    expected = 0.5 * (x @ truth.precision.double() * x).sum(1)
    torch.testing.assert_close(method.model()(x), expected, rtol=1e-5, atol=1e-5)
