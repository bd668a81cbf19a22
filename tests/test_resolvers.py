import subprocess
import sys

import numpy as np
import pytest
from omegaconf import OmegaConf

from ebm_lab import resolvers
from ebm_lab.errors import UserError


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "own.npz"
    np.savez_compressed(file, x=np.zeros((7, 2, 3)), flat=np.zeros(7))
    return str(file)


def test_shape_of_one_event(path):
    assert resolvers.npz_shape(path, "x", "data") == [2, 3]


def test_in_a_config(path):
    resolvers.register()
    cfg = OmegaConf.create({"path": path, "key": "x", "shape": "${npz_shape:${path},${key},data}"})
    assert OmegaConf.to_container(cfg, resolve=True)["shape"] == [2, 3]


def test_in_a_config_that_another_refers_to_and_that_is_resolved_in_place(path):
    """As a base density that is `${noise}` is, when an energy is instantiated."""
    resolvers.register()
    shape = "${npz_shape:${path},x,data}"
    cfg = OmegaConf.create(
        {"path": path, "noise": {"shape": shape}, "base": "${noise}", "edge": "${base.shape}"}
    )
    OmegaConf.resolve(cfg)
    assert cfg.base.shape == cfg.edge == [2, 3]


def test_relative_paths_are_tried_as_given_then_under_the_root(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "own.npz", x=np.zeros((7, 5)))
    np.savez(tmp_path / "data" / "other.npz", x=np.zeros((7, 6)))
    assert resolvers.npz_shape("own.npz", "x", "data") == [2, 3]
    assert resolvers.npz_shape("other.npz", "x", "data") == [6]


@pytest.mark.parametrize(
    ("file", "key", "message"),
    [
        (None, "y", "own.npz has no array y: set the key to one of x, flat"),
        (
            None,
            "flat",
            r"own.npz holds flat of shape \[7\], the first axis counts events: store it as \(n, \*shape\)",
        ),
        ("/no/such.npz", "x", "there is no /no/such.npz: set data.path"),
    ],
)
def test_mistakes_are_told_in_a_sentence(path, file, key, message):
    with pytest.raises(UserError, match=message):
        resolvers.npz_shape(file or path, key, "data")


def test_a_file_cut_short(path):
    content = open(path, "rb").read()
    open(path, "wb").write(content[:-40])
    with pytest.raises(UserError, match="own.npz cannot be read as an .npz file .* cut short"):
        resolvers.npz_shape(path, "x", "data")


def test_torch_is_not_imported(path):
    code = (
        f"import sys; from ebm_lab import resolvers; resolvers.npz_shape({path!r}, 'x', 'data');"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_shape_of_a_coarser_grid():
    assert resolvers.pooled_shape([1, 28, 28], 4) == [1, 7, 7]
    assert resolvers.pooled_shape([3, 9, 8], 2) == [3, 4, 4]  # the objective refuses what does not divide
    assert resolvers.pooled_shape([2], 4) == [2]
    cfg = OmegaConf.create({"shape": [1, 8, 8], "half": "${pooled_shape:${shape},2}"})
    assert OmegaConf.to_container(cfg, resolve=True)["half"] == [1, 4, 4]
