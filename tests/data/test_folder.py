import numpy as np
import pytest
import torch
from PIL import Image

from ebm_lab.data import Folder
from ebm_lab.errors import UserError


def write(folder, name, value, size=6, mode="RGB"):
    folder.mkdir(exist_ok=True)
    pixels = np.full((size, size) if mode == "L" else (size, size, 3), value, dtype=np.uint8)
    Image.fromarray(pixels).save(folder / name)


def load(path, **arguments):
    defaults = {"image_size": 6, "channels": 3, "shape": [3, 6, 6], "order_seed": 0, "batch_size": 4}
    data = Folder(path=str(path), **(defaults | arguments))
    data.setup()
    return data


def levels(data):
    x = torch.cat([data.train_x, data.val_x, data.test_x])
    return sorted(((x + 1) / 2 * 256).floor().flatten(1).mean(1).tolist())


def test_flat_folder_has_no_labels(tmp_path):
    for i in range(10):
        write(tmp_path, f"{i}.png", 20 * i)
    data = load(tmp_path)
    assert levels(data) == [20.0 * i for i in range(10)]
    assert (data.train_labels, data.num_classes, data.levels, data.domain) == (None, None, 256, "image")


def test_subfolders_are_classes(tmp_path):
    for i in range(12):
        write(tmp_path / ("cats" if i % 2 else "apes"), f"{i}.png", 100 + i)
    data = load(tmp_path)
    value = ((data.train_x + 1) / 2 * 256).floor()[:, 0, 0, 0].long()
    assert torch.equal(data.train_labels, value % 2) and data.num_classes == 2


def test_channels_order_and_resizing(tmp_path):
    red = np.zeros((12, 6, 3), dtype=np.uint8)
    red[..., 0] = 200
    for i in range(10):
        Image.fromarray(red).save(tmp_path / f"{i}.png")
    x = load(tmp_path).load().train.x
    assert x.shape[1:] == (3, 6, 6)
    assert x.amin((0, 2, 3)).tolist() == x.amax((0, 2, 3)).tolist() == [200, 0, 0]
    grey = load(tmp_path, channels=1, shape=[1, 6, 6]).load().train.x
    assert grey.unique().tolist() == [round(0.299 * 200)]  # ITU-R 601 luma


def test_mistakes_are_told_in_a_sentence(tmp_path):
    with pytest.raises(UserError, match="there is no .*nothing: set data.path"):
        load(tmp_path / "nothing")
    with pytest.raises(UserError, match="holds no image ending in .png, .jpg, .jpeg"):
        load(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no image"):
        load(tmp_path)
    write(tmp_path, "a.png", 3)
    with pytest.raises(UserError, match="a.png is a file: data.path must name a folder"):
        load(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("keep", [0, 20, -30])
def test_a_damaged_image_is_named(tmp_path, suffix, keep):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    for i in range(8):
        Image.fromarray(noise).save(tmp_path / f"{i}.{suffix}")
    file = tmp_path / f"3.{suffix}"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(UserError, match=rf"3.{suffix} cannot be read as an image .*: replace or remove it"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 2}, r"channels must be 1 \(grey\) or 3 \(colour\), got 2"),
        ({"shape": [3, 8, 8]}, r"shape must be \[3, 6, 6\], got \[3, 8, 8\]"),
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        load(tmp_path, **arguments)
