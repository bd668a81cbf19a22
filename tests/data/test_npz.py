import numpy as np
import pytest
import torch

from ebm_lab.data import Npz
from ebm_lab.errors import UserError

X = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "own.npz"
    np.savez(
        file,
        x=X,
        label=np.arange(50) % 4,
        bad=np.where(X > 2, np.nan, X),
        pixels=np.tile(np.arange(50, dtype=np.uint8)[:, None, None, None], (1, 1, 2, 2)),
        wide=np.arange(100, dtype=np.uint16).reshape(50, 2),
        swapped=X.astype(">f8"),
        bits=X > 0,
        hot=np.stack([X > 0, X > 1], 2),
        text=np.array(["a"] * 50),
    )
    return str(file)


def load(path, **arguments):
    data = Npz(**({"path": path, "shape": [3], "order_seed": 0, "batch_size": 8} | arguments))
    data.setup()
    return data


def rows(data):
    return sorted(torch.cat([data.train_x, data.val_x, data.test_x]).tolist())


@pytest.mark.parametrize("key", ["x", "swapped"])
def test_every_event_is_in_one_split(path, key):
    data = load(path, key=key)
    assert [len(s) for s in (data.train_x, data.val_x, data.test_x)] == [40, 5, 5]
    assert rows(data) == sorted(X.tolist())
    assert (data.domain, data.levels, data.density) == ("real", None, None)


def test_labels_stay_with_their_events(path):
    data = load(path, label_key="label")
    index = [X.tolist().index(row) for row in data.train_x.tolist()]
    assert data.train_labels.tolist() == [i % 4 for i in index] and data.num_classes == 4


def test_integer_images_are_dequantised(path):
    data = load(path, key="pixels", shape=[1, 2, 2], domain="image", levels=256)
    assert sorted(((data.train_x + 1) / 2 * 256).floor()[:, 0, 0, 0].tolist()) == sorted(
        data.load().train.x[:, 0, 0, 0].tolist()
    )


def test_integers_are_numbers(path):
    assert load(path, key="wide", shape=[2]).train_x.max() == 99


def test_truth_values_are_binary_events_and_one_hot_ones_categorical(path):
    assert rows(load(path, key="bits", domain="binary")) == sorted((X > 0).astype(float).tolist())
    hot = load(path, key="bits", shape=[3], domain="binary").train_x
    file = path.replace("own", "hot")
    np.savez(file, x=np.stack([X > 0, X <= 0], 2))
    classes = load(file, shape=[3, 2], domain="categorical").train_x
    assert classes.shape == (40, 3, 2) and torch.equal(classes[..., 0], hot)


def test_relative_paths_are_found_under_the_root(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path.parent)
    assert rows(load("own.npz", root=str(tmp_path))) == sorted(X.tolist())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"key": "y"}, "own.npz has no array y: set the key to one of x, label, bad"),
        ({"label_key": "y"}, "own.npz has no array y"),
        ({"label_key": "x"}, "must hold 50 integers from 0 on under data.label_key=x"),
        ({"shape": [2]}, r"events of shape \[3\], data.shape says \[2\]"),
        ({"key": "bad"}, r"split of .*own.npz has \d+ NaN and 0 infinite"),
        ({"key": "text"}, "holds <U1 under text: numbers"),
        ({"key": "pixels", "shape": [1, 2, 2], "domain": "image"}, "reach from 0 to 49: scale them"),
        ({"domain": "binary"}, "must hold 0 and 1 for data.domain=binary"),
        ({"key": "hot", "shape": [3, 2], "domain": "categorical"}, "must hold one 1 at every site"),
        ({"batch_size": 41}, "data.batch_size=41 on 1 .* exceeds the 40 training events"),
        (
            {"path": "nowhere.npz"},
            "there is no .*nowhere.npz nor .*data/nowhere.npz: set data.path, or data.root",
        ),
    ],
)
def test_mistakes_are_told_in_a_sentence(path, arguments, message):
    with pytest.raises(UserError, match=message):
        load(**({"path": path} | arguments))


@pytest.mark.parametrize("keep", [0, 10, 500])
def test_a_file_cut_short(path, keep):
    content = open(path, "rb").read()
    open(path, "wb").write(content[:keep])
    with pytest.raises(
        UserError, match=r"own.npz cannot be read .* cut short: write it again with numpy.savez"
    ):
        load(path)


def test_a_file_damaged_inside(path):
    content = bytearray(open(path, "rb").read())
    content[300:310] = bytes(10)
    open(path, "wb").write(content)
    with pytest.raises(UserError, match="own.npz cannot be read"):
        load(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"val_fraction": 1.0}, "val_fraction must lie between 0 and 1, got 1.0"),
        (
            {"domain": "bits"},
            "binary, categorical, got 'bits'",
        ),
        ({"levels": 256}, "levels belongs to images"),
    ],
)
def test_arguments_out_of_range_are_refused(path, arguments, message):
    with pytest.raises(ValueError, match=message):
        load(path, **arguments)
