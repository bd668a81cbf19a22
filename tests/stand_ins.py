"""Small files in the formats of the standard image sets, with random pixels."""

import gzip
import hashlib
import pickle
import struct

import numpy as np
from torchvision.datasets import CIFAR10

NUM_TRAIN, NUM_TEST = 60, 20


def pixels(num, *shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (num, *shape), dtype=np.uint8)


def labels(num):
    return np.arange(num, dtype=np.uint8) % 10


def idx(array):
    """The bytes of an idx file: zeros, type 8, number of axes, big-endian lengths, the array."""
    return struct.pack(f">HBB{array.ndim}i", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(root, folder="MNIST", packed=False, images=None):
    """The four idx files, of 60 training and 20 test images unless others are given; (training, test)."""
    raw = root / folder / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    train, test = images or (pixels(NUM_TRAIN, 28, 28), pixels(NUM_TEST, 28, 28, seed=1))
    for part, of_part in (("train", train), ("t10k", test)):
        for kind, array in (("images-idx3", of_part), ("labels-idx1", labels(len(of_part)))):
            name, content = f"{part}-{kind}-ubyte", idx(array)
            (raw / f"{name}.gz" if packed else raw / name).write_bytes(
                gzip.compress(content) if packed else content
            )
    return train, test


def write_cifar10(root):
    """cifar10.npz; (training images, test images), both (num, height, width, 3)."""
    train, test = pixels(NUM_TRAIN, 32, 32, 3), pixels(NUM_TEST, 32, 32, 3, seed=1)
    np.savez(
        root / "cifar10.npz",
        train_images=train,
        train_labels=labels(NUM_TRAIN).astype(np.int64),
        test_images=test,
        test_labels=labels(NUM_TEST).astype(np.int64),
    )
    return train, test


def write_cifar10_batches(root, monkeypatch):
    """The official pickles, five of 12 images and one of 20, whose sums torchvision is made to expect."""
    folder = root / CIFAR10.base_folder
    folder.mkdir(parents=True)
    train, test = pixels(NUM_TRAIN, 3072), pixels(NUM_TEST, 3072, seed=1)

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    parts = zip(np.split(train, 5), np.split(labels(NUM_TRAIN), 5), strict=True)
    batches = [
        write(f"data_batch_{i}", {"data": data, "labels": list(map(int, label))})
        for i, (data, label) in enumerate(parts, start=1)
    ]
    monkeypatch.setattr(CIFAR10, "train_list", batches)
    held_out = {"data": test, "labels": list(map(int, labels(NUM_TEST)))}
    monkeypatch.setattr(CIFAR10, "test_list", [write("test_batch", held_out)])
    name, md5 = write("batches.meta", {"label_names": list("abcdefghij")})
    monkeypatch.setattr(CIFAR10, "meta", {"filename": name, "key": "label_names", "md5": md5})
    return train.reshape(-1, 3, 32, 32), test.reshape(-1, 3, 32, 32)


def write_all(root):
    """Everything that data=mnist, fashion_mnist, binary_mnist and cifar10 read."""
    write_mnist(root)
    write_mnist(root, "FashionMNIST")
    write_cifar10(root)
