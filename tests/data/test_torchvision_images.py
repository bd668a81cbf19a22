import itertools
import os
from pathlib import Path

import pytest
import torch
from stand_ins import write_all

from ebm_lab.data import BinaryMnist, TorchvisionImages
from ebm_lab.data.image_files import IMAGE_FILES
from ebm_lab.data.torchvision_images import SHAPES, mirrored


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_all(folder)
    return str(folder)


def load(root, name="mnist", **arguments):
    defaults = {"shape": SHAPES[name], "order_seed": 0, "num_val": 10, "batch_size": 10}
    data = TorchvisionImages(name=name, root=root, **(defaults | arguments))
    data.setup()
    return data


def load_binary(root, **arguments):
    data = BinaryMnist(root=root, **({"order_seed": 0, "num_val": 10, "batch_size": 50} | arguments))
    data.setup()
    return data


def integers(x):
    return ((x + 1) / 2 * 256).floor()


def origins(x, images):
    """Whether each event is one of the images, and which; a pixel in 10^5 is rounded into the next bin."""
    distances = torch.cdist(integers(x).flatten(1), images.float().flatten(1), p=1)
    return distances.min(1).values <= 3, distances.argmin(1)  # other images are 10^5 away


@pytest.mark.parametrize("name", SHAPES)
def test_common_surface(root, name):
    data = load(root, name)
    assert (data.shape, data.domain, data.levels, data.num_classes) == (SHAPES[name], "image", 256, 10)
    assert [len(x) for x in (data.train_x, data.val_x, data.test_x)] == [50, 10, 20]
    assert torch.equal(integers(data.test_x), IMAGE_FILES[name].read(Path(root), train=False).x.float())


@pytest.mark.parametrize("name", SHAPES)
def test_training_and_validation_are_the_official_training_part_with_its_labels(root, name):
    data, official = load(root, name), IMAGE_FILES[name].read(Path(root), train=True)
    found, origin = origins(torch.cat([data.train_x, data.val_x]), official.x)
    assert found.all() and sorted(origin.tolist()) == list(range(60))
    assert torch.equal(torch.cat([data.train_labels, data.val_labels]), official.label[origin])


def test_the_split_is_the_same_whatever_the_runs_seed(root):
    first, second = load(root), load(root, order_seed=5)
    assert torch.equal(first.val_x, second.val_x)
    assert not torch.equal(load(root, split_seed=1).val_x, first.val_x)


def test_pixels_of_logits_are_the_pixels(root):
    logit, plain = load(root, "cifar10", transform="logit", alpha=0.05), load(root, "cifar10")
    assert float(logit.test_x.max()) > 2
    torch.testing.assert_close(logit.pixels(logit.test_x), plain.test_x, rtol=0, atol=1e-5)


def test_flips_mirror_half_of_the_events_and_whole_events():
    x = torch.arange(24).view(1, 2, 3, 4).expand(4000, -1, -1, -1)
    flipped = mirrored(x, torch.Generator().manual_seed(0))
    is_mirrored = (flipped == x[0].flip(-1)).flatten(1).all(1)
    assert (is_mirrored ^ (flipped == x[0]).flatten(1).all(1)).all()
    assert abs(int(is_mirrored.sum()) - 2000) < 4 * 31.6  # Binomial(4000, ½) has a deviation of 31.6


def test_training_batches_are_flipped_and_held_out_data_are_not(root):
    """Each event of a batch is an official image or its mirror image, and half of all are mirrored."""
    data = load(root, "cifar10", flip=True)
    official = data.load().train.x
    seen = torch.cat([b.x for b in itertools.islice(data.train_dataloader(), 40)])  # 8 epochs
    plain, mirrored_ones = (origins(seen, images)[0] for images in (official, official.flip(-1)))
    assert (plain ^ mirrored_ones).all()
    assert abs(int(mirrored_ones.sum()) - 200) < 4 * 10  # Binomial(400, ½) has a deviation of 10
    unflipped = load(root, "cifar10")
    for split in ("train_x", "val_x", "test_x"):
        assert torch.equal(getattr(data, split), getattr(unflipped, split))


@pytest.mark.parametrize("load_data", [
    lambda root: load(root, "cifar10", flip=True), lambda root: load_binary(root, dynamic=True),
])  # fmt: skip
def test_a_batch_is_a_function_of_seed_and_iteration(root, load_data):
    whole = [batch.x for batch in itertools.islice(load_data(root).train_dataloader(), 9)]
    resumed = load_data(root).train_dataloader()
    resumed.load_state_dict({"iteration": 7})
    assert torch.equal(next(iter(resumed)).x, whole[7])
    assert torch.equal(resumed.batch(2).x, whole[2])


def test_binary_pixels_have_the_mean_of_their_intensity(root):
    """Over 400 dynamic epochs of 50 images: z scores of 39200 pixels, each within 5, their mean square 1."""
    data = load_binary(root, dynamic=True)
    p = data.load().train.x / 255
    loader = data.train_dataloader()
    mean = torch.zeros(50, 1, 28, 28)
    for t in range(400):
        mean.index_add_(0, loader._permutation(t), loader.batch(t).x / 400)
    inside = (p > 0.05) & (p < 0.95)
    z = ((mean - p) / (p * (1 - p) / 400).sqrt())[inside]
    assert z.abs().max() < 5 and abs(float(z.square().mean()) - 1) < 0.05
    assert torch.equal(mean[p == 0], p[p == 0]) and (mean[p == 1] > 1 - 1e-5).all()


@pytest.mark.parametrize("dynamic", [False, True])
def test_binary_data_are_zeros_and_ones_and_held_out_data_are_fixed(root, dynamic):
    data, again = load_binary(root, dynamic=dynamic), load_binary(root, order_seed=3)
    assert (data.domain, data.levels, data.num_classes, data.transform) == ("binary", None, 10, None)
    for split in ("train_x", "val_x", "test_x"):
        x = getattr(data, split)
        assert x.dtype == torch.float32 and set(x.unique().tolist()) == {0.0, 1.0}
        assert torch.equal(x, getattr(again, split))
    assert data.pixels(data.val_x).unique().tolist() == [-1.0, 1.0]
    first, second = (batch.x.sum(0) for batch in itertools.islice(data.train_dataloader(), 2))  # epochs
    assert torch.equal(first, second) is not dynamic


def test_binary_mnist_splits_and_labels_as_mnist_does(root):
    plain, binary = load(root), load_binary(root)
    for split in ("train_labels", "val_labels", "test_labels"):
        assert torch.equal(getattr(plain, split), getattr(binary, split))
    assert torch.equal(plain.load().val.x, binary.load().val.x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"name": "svhn", "shape": [3, 32, 32]},
            "name must be one of mnist, fashion_mnist, cifar10, got 'svhn'",
        ),
        ({"shape": [3, 32, 32]}, r"shape must be \[1, 28, 28\], got \[3, 32, 32\]"),
        ({"num_val": 0}, "num_val must be an integer, at least 1, got 0"),
        ({"split_seed": -1}, "split_seed must be an integer, at least 0, got -1"),
        ({"transform": "log"}, "transform must be null or logit, got 'log'"),
        ({"transform": "logit", "alpha": 0.5}, "alpha must lie between 0 and 0.5, got 0.5"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TorchvisionImages(**({"name": "mnist", "shape": [1, 28, 28], "order_seed": 0} | arguments))


def test_binary_mnist_refuses_another_shape():
    with pytest.raises(ValueError, match=r"shape must be \[1, 28, 28\], got \[784\]"):
        BinaryMnist(shape=[784], order_seed=0)


def test_real_mnist_has_its_published_mean():
    """Mean intensity .1307 of the training images, 5923 zeros among them."""
    folder = os.environ.get("EBM_LAB_DATA", "data")
    if not IMAGE_FILES["mnist"].complete(Path(folder)):
        pytest.skip(f"EBM_LAB_DATA has no mnist in {folder}: python scripts/prepare_data.py mnist")
    data = load(folder, num_val=5000)
    x, label = torch.cat([data.train_x, data.val_x]), torch.cat([data.train_labels, data.val_labels])
    assert (len(data.train_x), len(data.val_x), len(data.test_x)) == (55000, 5000, 10000)
    assert float(integers(x).double().mean() / 255) == pytest.approx(0.1307, abs=5e-5)
    assert int((label == 0).sum()) == 5923
