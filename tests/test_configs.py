"""Every option of every group becomes its object, every experiment composes; a new YAML joins by existing."""

import hydra
import numpy as np
import pytest
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf
from PIL import Image
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import Logger
from stand_ins import write_all

from ebm_lab import schema
from ebm_lab.binding import check_bindings
from ebm_lab.cli import CONFIGS
from ebm_lab.data import InMemoryData
from ebm_lab.domains import CATEGORICAL
from ebm_lab.energies import Energy, ScoreNetwork
from ebm_lab.evaluation.final import Evaluation
from ebm_lab.evaluation.log_z import LogZ
from ebm_lab.noise import Noise
from ebm_lab.objectives import Optimization
from ebm_lab.samplers import Kernel

BUILT_ALONE = {
    "data": InMemoryData,
    "energy": Energy | ScoreNetwork,
    "evaluation": Evaluation,
    "log_z": LogZ,
    "noise": Noise,
    "optimizer": Optimization,
    "sampler": Kernel,
}


def compose(*overrides: str):
    schema.register()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose("train", overrides=list(overrides))


def options(group: str) -> list[str]:
    return sorted(f.stem for f in (CONFIGS / group).glob("*.yaml"))


def choices(*groups: str) -> list[tuple[str, str]]:
    return [(group, option) for group in groups for option in options(group)]


@pytest.fixture
def own_data(tmp_path, monkeypatch):
    """What data=npz, data=folder and the tables read; of the first two, the path."""
    generator = np.random.default_rng(0)
    table = generator.normal(size=(400, 3))
    sets = OmegaConf.load(CONFIGS / "sweep" / "adbench.yaml").hydra.sweeper.params["data.name"].split(",")
    for folder, names in (("tabular", ["winequality_red"]), ("adbench", ["thyroid", *sets])):
        (tmp_path / folder).mkdir()
        for name in names:
            np.savez(tmp_path / folder / f"{name}.npz", X=table, y=(table[:, 0] > 1).astype(int))
    np.savez(tmp_path / "own.npz", x=generator.normal(size=(400, 2)).astype(np.float32))
    (tmp_path / "own").mkdir()
    for number in range(3):
        pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "own" / f"{number}.png")
    monkeypatch.setenv("EBM_LAB_DATA", str(tmp_path))
    return {"npz": "own.npz", "folder": "own"}


@pytest.mark.parametrize(("group", "option"), choices(*BUILT_ALONE))
def test_every_part_is_built(group, option, own_data):
    overrides = [f"{group}={option}", "output_dir=x"]
    if option in own_data:
        overrides.append(f"data.path={own_data[option]}")
    part = get_object(compose(*overrides)[group]._target_)
    if getattr(part, "domains", None) == CATEGORICAL:
        overrides.append("data.shape=[3,4]")  # sites, classes
    elif option.endswith("_images") or (group == "energy" and _takes_images(option)):
        overrides.append("data=digits")
    cfg = compose(*overrides)
    check_bindings(cfg)
    assert isinstance(instantiate(cfg[group], _convert_="all"), BUILT_ALONE[group])


def _takes_images(energy: str) -> bool:
    """Whether it refuses the points of the default data with the sentence of image energies."""
    try:
        instantiate(compose(f"energy={energy}", "output_dir=x").energy, _convert_="all")
    except InstantiationException as error:
        if "needs images" not in str(error):
            raise
        return True
    return False


IMAGE_SETS = ("mnist", "fashion_mnist", "cifar10", "binary_mnist")


@pytest.mark.parametrize("option", IMAGE_SETS)
def test_every_image_set_loads_and_fits_its_energy(option, tmp_path, monkeypatch):
    """On small files in the official formats."""
    write_all(tmp_path)
    monkeypatch.setenv("EBM_LAB_DATA", str(tmp_path))
    small = ["data.num_val=10", "data.batch_size=10", "data.download=false"]
    without_base = ["energy.base=null"] if "base" in compose(f"data={option}", "output_dir=x").energy else []
    cfg = compose(f"data={option}", "output_dir=x", *without_base, *small)
    data = instantiate(cfg.data, _convert_="all")
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert batch.x.shape == (10, *data.shape) and data.num_classes == 10
    assert instantiate(cfg.energy, _convert_="all")(batch.x).shape == (10,)


@pytest.mark.parametrize(("group", "option"), choices("trainer"))
def test_every_trainer_is_built(group, option):
    cfg = compose(f"{group}={option}", "trainer.accelerator=cpu")
    assert isinstance(instantiate(cfg.trainer, logger=False, _convert_="all"), Trainer)


@pytest.mark.parametrize(("group", "option"), choices("callbacks", "logger"))
def test_every_member_of_a_collection_is_what_its_group_says(group, option):
    cfg = compose(f"{group}={option}", "output_dir=x")
    check_bindings(cfg)
    for name, node in cfg[group].items():
        if node is not None and name != "wandb":  # a function, which opens a run
            assert issubclass(get_object(node._target_), Callback if group == "callbacks" else Logger)


@pytest.mark.parametrize(("group", "option"), choices("experiment", "debug"))
def test_every_experiment_composes_and_states_differences_only(group, option, own_data):
    cfg = compose(f"{group}={option}", "output_dir=x")
    OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    check_bindings(cfg)
    assert cfg != compose("output_dir=x")


@pytest.mark.parametrize("option", options("sweep"))
def test_every_sweep_names_runs_that_compose(option, own_data):
    """Each value of each key, beside the first values of the others."""
    params = OmegaConf.load(CONFIGS / "sweep" / f"{option}.yaml").hydra.sweeper.params
    values = {key: str(listed).split(",") for key, listed in params.items()}
    first = {key: listed[0] for key, listed in values.items()}
    for key, listed in values.items():
        for value in listed:
            chosen = first | {key: value}
            check_bindings(compose(*(f"{k}={v}" for k, v in chosen.items()), "output_dir=x"))


def test_the_sweep_of_methods_leaves_out_those_of_other_data_alone():
    listed = OmegaConf.load(CONFIGS / "sweep" / "methods.yaml").hydra.sweeper.params.objective
    of_other_data = {
        "jem", "multigrid", "nonnegative_score_matching", "ratio_matching", "unit_score_matching",
    }  # fmt: skip
    assert {name.strip() for name in listed.split(",")} == set(options("objective")) - of_other_data
