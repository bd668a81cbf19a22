import hydra
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from ebm_lab import resolvers
from ebm_lab.binding import check_bindings
from ebm_lab.cli import CONFIGS
from ebm_lab.data import OneClassTable, Table
from ebm_lab.data.tables import Scaling, smoothed
from ebm_lab.errors import UserError

NUM, COLUMNS = 300, 3
RNG = np.random.default_rng(0)
X = np.round(RNG.normal(size=(NUM, COLUMNS)) * [1.0, 20.0, 0.3] + [5.0, -3.0, 0.0], 1)
Y = (np.arange(NUM) % 10 == 0).astype(int)


@pytest.fixture
def root(tmp_path):
    for folder in ("tabular", "adbench"):
        (tmp_path / folder).mkdir()
        np.savez(tmp_path / folder / "own.npz", X=X, y=Y)
    np.savez(tmp_path / "tabular" / "words.npz", X=X, y=np.array(["a"] * NUM))
    np.savez(tmp_path / "tabular" / "flat.npz", X=np.c_[X[:, 0], np.ones(NUM), X[:, 1]])
    np.savez(tmp_path / "tabular" / "cube.npz", X=X[None])
    np.savez(tmp_path / "adbench" / "flat.npz", X=np.c_[X[:, 0], Y * 100.0, np.ones(NUM)], y=Y)
    np.savez(tmp_path / "adbench" / "normal.npz", X=X, y=np.zeros(NUM))
    np.savez(tmp_path / "adbench" / "bare.npz", X=X)
    return str(tmp_path)


def make(kind, root, **arguments):
    defaults = {"name": "own", "shape": [COLUMNS], "order_seed": 0, "root": root, "batch_size": 16}
    data = kind(**(defaults | arguments))
    data.setup()
    return data


def test_training_rows_set_the_scale_of_all(root):
    data = make(Table, root, smooth=False)
    assert [len(x) for x in (data.train_x, data.val_x, data.test_x)] == [240, 30, 30]
    torch.testing.assert_close(data.train_x.mean(0), torch.zeros(COLUMNS), atol=1e-6, rtol=0)
    torch.testing.assert_close(data.train_x.std(0, correction=0), torch.ones(COLUMNS))
    pooled = torch.cat([data.train_x, data.val_x, data.test_x]).double()
    raw = torch.from_numpy(X)
    scale = (raw[:, 0].max() - raw[:, 0].min()) / (pooled[:, 0].max() - pooled[:, 0].min())
    again = pooled[:, 0] * scale
    torch.testing.assert_close(
        (again - again.min()).sort().values, (raw[:, 0] - raw[:, 0].min()).sort().values, atol=1e-5, rtol=0
    )


def test_the_split_is_a_function_of_its_seed(root):
    first, again, other = (make(Table, root, split_seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.test_x, again.test_x) and not torch.equal(first.test_x, other.test_x)
    assert make(Table, root, name="words").train_labels is None


def test_smoothing_fills_the_gap_of_each_column_and_no_more():
    x = torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.float64).repeat(5000)
    table = torch.stack([x, 0.1 * x, torch.full_like(x, 7.0)], 1)
    added = smoothed(table, torch.Generator().manual_seed(0)) - table
    width = torch.tensor([1.0, 0.1, 0.0], dtype=torch.float64)
    assert (added.abs() <= width / 2 + 1e-12).all()
    error = 4 * width.square() * (1 / 80 - 1 / 144) ** 0.5 / len(x) ** 0.5  # of the mean square of uniforms
    assert ((added.square().mean(0) - width.square() / 12).abs() <= error).all()


def test_half_of_the_normal_rows_train_and_no_anomaly_does(root):
    data = make(OneClassTable, root)
    sizes = [len(x) for x in (data.train_x, data.val_x, data.test_x, data.anomalies_x)]
    assert sizes == [121, 14, 135, 30]  # 270 normal rows
    scaling = Scaling.of(torch.from_numpy(X[Y == 0]))
    normal = torch.cat([data.train_x, data.val_x, data.test_x]).double()
    ratio = normal.std(0, correction=0)  # one scale for all: an affine map of the normal rows
    restored = (normal - normal.mean(0)) / ratio
    torch.testing.assert_close(
        restored[:, 1].sort().values,
        scaling(torch.from_numpy(X[Y == 0]))[:, 1].sort().values,
        atol=1e-5,
        rtol=0,
    )
    assert data.num_classes is None


def test_what_is_constant_in_training_is_centred_and_clipped(root):
    data = make(OneClassTable, root, name="flat", clip=10.0)
    assert (data.train_x[:, 1:] == 0).all() and (data.anomalies_x[:, 2] == 0).all()
    assert (data.anomalies_x[:, 1] == 10).all()


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (Table, {"name": "none"}, "there is no .*none.npz: set data.name to one of cube, flat, own, words"),
        (
            Table,
            {"folder": "nowhere"},
            "there is no table in .*/nowhere: .*prepare_data.py nowhere. says where",
        ),
        (Table, {"name": "cube"}, r"cube.npz holds X of shape \[1, 300, 3\] .* not a table of numbers"),
        (Table, {"name": "flat"}, "columns that are constant .* no density: take 1 "),
        (Table, {"shape": [2]}, r"events of shape \[3\], data.shape says \[2\]"),
        (OneClassTable, {"name": "normal"}, r"must hold y \(n,\) with 0 for normal rows and 1 for anomalies"),
        (OneClassTable, {"name": "bare"}, r"must hold y \(n,\)"),
        (OneClassTable, {"batch_size": 500}, "exceeds the 121 training events of own.npz"),
    ],
)
def test_mistakes_are_told_in_a_sentence(root, kind, arguments, message):
    with pytest.raises(UserError, match=message):
        make(kind, root, **arguments)


@pytest.mark.parametrize("option", ["tabular", "adbench"])
def test_the_config_takes_its_dimension_from_the_file(root, option, monkeypatch):
    monkeypatch.setenv("EBM_LAB_DATA", root)
    resolvers.register()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose(overrides=[f"+data={option}", "+seed=3", "data.name=own", "data.batch_size=50"])
    check_bindings(cfg)
    assert OmegaConf.to_container(cfg.data, resolve=True)["shape"] == [COLUMNS]
    data = hydra.utils.instantiate(cfg.data, _convert_="all")
    data.setup()
    assert next(iter(data.train_dataloader())).x.shape == (50, COLUMNS)
