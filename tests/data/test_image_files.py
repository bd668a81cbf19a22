import hashlib
import shutil
import threading

import numpy as np
import pytest
import torch
from stand_ins import labels, pixels, write_cifar10, write_cifar10_batches, write_mnist
from torchvision.datasets import CIFAR10, MNIST

from ebm_lab.data.image_files import IMAGE_FILES, read_images
from ebm_lab.errors import UserError

FOLDERS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}


def same(batch, images):
    assert batch.x.dtype == torch.uint8 and np.array_equal(batch.x.numpy(), images)
    assert batch.label.tolist() == labels(len(images)).tolist()


@pytest.mark.parametrize("packed", [False, True], ids=["unpacked", "packed"])
@pytest.mark.parametrize("name", FOLDERS)
def test_idx_files_are_read(tmp_path, name, packed):
    images = write_mnist(tmp_path, FOLDERS[name], packed)
    for batch, expected in zip(read_images(name, str(tmp_path), download=False), images, strict=True):
        same(batch, expected[:, None])


def test_the_home_folder_may_be_written_short(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_mnist(tmp_path)
    assert len(read_images("mnist", "~", download=False)[0].x) == 60


def test_an_npz_file_is_read_colours_first(tmp_path):
    images = write_cifar10(tmp_path)
    for batch, expected in zip(read_images("cifar10", str(tmp_path), download=False), images, strict=True):
        same(batch, expected.transpose(0, 3, 1, 2))


def test_pickled_batches_are_read_and_an_npz_file_is_preferred(tmp_path, monkeypatch):
    images = write_cifar10_batches(tmp_path, monkeypatch)
    for batch, expected in zip(read_images("cifar10", str(tmp_path), download=False), images, strict=True):
        same(batch, expected)
    train, _ = write_cifar10(tmp_path)
    same(read_images("cifar10", str(tmp_path), download=False)[0], train.transpose(0, 3, 1, 2))


def test_a_packed_archive_is_unpacked_where_its_sum_is_right(tmp_path, monkeypatch):
    train, _ = write_cifar10_batches(tmp_path, monkeypatch)
    archive = tmp_path / CIFAR10.filename
    shutil.make_archive(
        str(archive).removesuffix(".tar.gz"), "gztar", root_dir=tmp_path, base_dir=CIFAR10.base_folder
    )
    shutil.rmtree(tmp_path / CIFAR10.base_folder)
    with pytest.raises(UserError, match=r"cifar-10-python.tar.gz is not as published .*: remove it and run"):
        read_images("cifar10", str(tmp_path), download=False)
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    same(read_images("cifar10", str(tmp_path), download=False)[0], train)


def test_a_batch_with_another_sum_is_not_unpickled(tmp_path, monkeypatch):
    write_cifar10_batches(tmp_path, monkeypatch)
    (tmp_path / CIFAR10.base_folder / "data_batch_3").write_bytes(b"cos\nsystem\n")
    with pytest.raises(UserError, match="cifar-10-batches-py is not as published .*: remove it and run"):
        read_images("cifar10", str(tmp_path), download=False)


@pytest.mark.parametrize("name", IMAGE_FILES)
def test_missing_files_are_told_in_a_sentence(tmp_path, name):
    with pytest.raises(UserError) as error:
        read_images(name, str(tmp_path), download=False)
    folder = tmp_path / IMAGE_FILES[name].folder
    assert str(error.value) == (
        f"the files of {name} are not all in {folder} (data.download is false): run "
        f"`python scripts/prepare_data.py {name}` where there is a network, put the files there, or set "
        "EBM_LAB_DATA to the folder that has them"
    )


@pytest.mark.parametrize("name", IMAGE_FILES)
@pytest.mark.parametrize("error", [OSError("no route\nto host"), RuntimeError("Error downloading")])
def test_a_failed_download_is_told_in_the_same_sentence(tmp_path, monkeypatch, name, error):
    def fail(self, root, download):
        raise error

    monkeypatch.setattr(IMAGE_FILES[name]._dataset(), "__init__", fail)
    with pytest.raises(
        UserError, match=r"\(the download failed, (no route to host|Error downloading)\): run"
    ):
        read_images(name, str(tmp_path), download=True)


@pytest.mark.parametrize("present", [True, False])
def test_only_missing_files_are_downloaded(tmp_path, monkeypatch, present):
    write_mnist(tmp_path)
    if not present:
        (tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    asked = []

    def download(self, root, download):
        asked.append(root)
        write_mnist(tmp_path)

    monkeypatch.setattr(MNIST, "__init__", download)
    assert len(read_images("mnist", str(tmp_path), download=True)[1].label) == 20
    assert asked == ([] if present else [str(tmp_path)])


@pytest.mark.parametrize("packed", [False, True], ids=["unpacked", "packed"])
@pytest.mark.parametrize("keep", [0, 3, 9, 100, -1])
def test_an_idx_file_cut_short(tmp_path, packed, keep):
    write_mnist(tmp_path, packed=packed)
    file = tmp_path / "MNIST" / "raw" / f"t10k-images-idx3-ubyte{'.gz' if packed else ''}"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(UserError, match="t10k-images.* cannot be read as an idx file .*: remove it and run"):
        read_images("mnist", str(tmp_path), download=False)


def test_an_idx_file_of_another_kind(tmp_path):
    write_mnist(tmp_path)
    raw = tmp_path / "MNIST" / "raw"
    shutil.copy(raw / "train-labels-idx1-ubyte", raw / "train-images-idx3-ubyte")
    with pytest.raises(UserError, match=r"train-images.*\(no array of bytes with 3 axes\): remove"):
        read_images("mnist", str(tmp_path), download=False)


def test_labels_must_be_one_an_image(tmp_path):
    write_mnist(tmp_path)
    raw = tmp_path / "MNIST" / "raw"
    shutil.copy(raw / "t10k-labels-idx1-ubyte", raw / "train-labels-idx1-ubyte")
    with pytest.raises(UserError, match=r"raw has 60 images and labels of shape \[20\]: one an image"):
        read_images("mnist", str(tmp_path), download=False)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (pixels(60, 32, 32, 3).astype(np.float32), "holds images of type torch.float32 .*: write uint8"),
        (pixels(60, 3072), r"torch.uint8 and shape \[60, 3072\]: write uint8 and \(num, height, width, 3\)"),
    ],
)
def test_an_npz_file_of_another_kind(tmp_path, images, message):
    np.savez(tmp_path / "cifar10.npz", train_images=images, train_labels=labels(60))
    with pytest.raises(UserError, match=message):
        read_images("cifar10", str(tmp_path), download=False)


def test_an_npz_file_without_its_arrays(tmp_path):
    np.savez(tmp_path / "cifar10.npz", x=pixels(3, 32, 32, 3))
    with pytest.raises(UserError, match="cifar10.npz has no array train_images"):
        read_images("cifar10", str(tmp_path), download=False)


def test_of_two_processes_one_downloads_and_the_other_waits(tmp_path, monkeypatch):
    """The second to ask finds the lock taken and, when it is free, the files complete."""
    calls, started, finish = [], threading.Event(), threading.Event()

    def download(root, download):
        calls.append(root)
        started.set()
        assert finish.wait(10)
        write_mnist(tmp_path)

    monkeypatch.setattr("torchvision.datasets.MNIST", download)
    threads = [threading.Thread(target=IMAGE_FILES["mnist"].prepare, args=(tmp_path,)) for _ in range(2)]
    threads[0].start()
    assert started.wait(10)
    threads[1].start()
    threads[1].join(0.2)
    assert threads[1].is_alive() and len(calls) == 1
    finish.set()
    for thread in threads:
        thread.join(10)
    assert len(calls) == 1 and IMAGE_FILES["mnist"].complete(tmp_path)
