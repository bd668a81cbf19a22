from pathlib import Path

import hydra
import pytest
import torch
from omegaconf import OmegaConf

from ebm_lab.binding import check_bindings
from ebm_lab.data import Density, DensityData, Gaussian, GaussianMixture, IsotropicMixture

CONFIGS = Path(__file__).parents[2] / "configs"
SETS = [
    "checkerboard",
    "eight_gaussians",
    "gaussian",
    "gaussian_mixture",
    "moons",
    "pinwheel",
    "rings",
    "swiss_roll",
    "twenty_five_gaussians",
    "two_spirals",
]


def compose(name, *overrides):
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose(overrides=[f"+data={name}", "+seed=3", *overrides])


@pytest.mark.parametrize("name", SETS)
def test_config_makes_its_data(name):
    cfg = compose(name, "data.num_train=300", "data.num_val=20", "data.num_test=30", "data.batch_size=64")
    check_bindings(cfg)
    data = hydra.utils.instantiate(cfg.data, _convert_="all")
    data.setup()
    assert isinstance(data.density, Density)
    assert (data.shape, data.domain, data.levels, data.num_classes) == ((2,), "real", None, None)
    assert [tuple(x.shape) for x in (data.train_x, data.val_x, data.test_x)] == [(300, 2), (20, 2), (30, 2)]
    assert data.train_x.dtype == torch.float32
    assert data.order_seed == 3
    assert next(iter(data.train_dataloader())).x.shape == (64, 2)
    assert data.train_x.abs().max() < data.density.bounds


@pytest.mark.parametrize("name", sorted({*SETS} - {"gaussian", "gaussian_mixture"}))
def test_config_states_the_defaults_of_its_density(name):
    cfg = compose(name).data
    built = hydra.utils.instantiate(cfg.density, _convert_="all")
    default = hydra.utils.get_object(cfg.density._target_)()
    x = built.sample(10, torch.Generator().manual_seed(0))
    torch.testing.assert_close(built.log_prob(x), default.log_prob(x))


def test_dimension_of_the_gaussian_is_one_key():
    cfg = compose("gaussian", "data.dim=10")
    data = hydra.utils.instantiate(cfg.data, _convert_="all")
    assert data.shape == (10,) and data.density.dim == 10
    assert OmegaConf.to_container(cfg.data.shape, resolve=True) == [10]


def make(**arguments):
    defaults = {
        "density": Gaussian([0.0, 0.0], torch.eye(2)),
        "dim": 2,
        "shape": [2],
        "order_seed": 0,
        "num_train": 50,
        "num_val": 6,
        "num_test": 7,
    }
    data = DensityData(**(defaults | {"batch_size": 5} | arguments))
    data.setup()
    return data


def test_data_depend_on_the_data_seed_alone():
    first, other_order = make(), make(order_seed=1)
    assert torch.equal(first.train_x, other_order.train_x)
    assert not torch.equal(first.train_dataloader().batch(0).x, other_order.train_dataloader().batch(0).x)
    assert not torch.equal(first.train_x, make(seed=1).train_x)


def test_held_out_data_do_not_depend_on_the_number_of_training_events():
    assert torch.equal(make().test_x, make(num_train=20, num_val=3).test_x)


def test_labels_are_the_components_and_change_no_event():
    density = IsotropicMixture([0.5, 0.3, 0.2], [[-9.0, 0.0], [0.0, 0.0], [9.0, 0.0]], [0.5, 0.5, 0.5])
    plain, labelled = (make(density=density, num_train=5000, labelled=flag) for flag in (False, True))
    assert torch.equal(plain.train_x, labelled.train_x)
    assert (plain.train_labels, plain.num_classes) == (None, None)
    assert torch.equal((labelled.train_x[:, 0] / 9).round() + 1, labelled.train_labels.float())
    assert labelled.num_classes == 3
    share = labelled.train_labels.bincount() / 5000
    assert share.tolist() == pytest.approx([0.5, 0.3, 0.2], abs=4 * (0.25 / 5000) ** 0.5)
    full = GaussianMixture([0.5, 0.5], [[-9.0, 0.0], [9.0, 0.0]], torch.eye(2).expand(2, 2, 2))
    x, label = make(density=full, labelled=True).train_dataloader().batch(0)
    assert torch.equal((x[:, 0] > 0).long(), label)


def test_labels_of_what_is_no_mixture_are_refused():
    with pytest.raises(ValueError, match="Gaussian has none: choose data=gaussian_classes"):
        make(labelled=True)


def test_splits_are_different_draws():
    data = make(num_val=7)
    assert not torch.equal(data.val_x, data.test_x) and not torch.equal(data.train_x[:7], data.val_x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 3}, r"dim must be that of the density .* got dim=3, shape=\[2\] .* on 2 coordinates"),
        ({"shape": [1, 2]}, r"shape=\[1, 2\]"),
        ({"num_train": 0}, "num_train must be an integer, at least 1, got 0"),
        ({"seed": -1}, "seed must be an integer, at least 0, got -1"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)
