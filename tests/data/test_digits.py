import pytest
import torch
from sklearn.datasets import load_digits

from ebm_lab.data import Digits


@pytest.fixture(scope="module")
def digits():
    data = Digits(order_seed=0)
    data.setup()
    return data


def test_common_surface(digits):
    assert (digits.shape, digits.domain, digits.levels, digits.num_classes) == ((1, 8, 8), "image", 17, 10)
    assert digits.density is None
    assert [len(x) for x in (digits.train_x, digits.val_x, digits.test_x)] == [1297, 200, 300]
    assert digits.train_x.min() >= -1 and digits.train_x.max() <= 1


def test_splits_are_disjoint_and_keep_the_official_labels(digits):
    """Every original image with its label is in exactly one split."""
    official = load_digits()
    expected = sorted(
        zip(map(tuple, official.data.astype(int).tolist()), official.target.tolist(), strict=True)
    )
    found = []
    for split in (digits.load().train, digits.load().val, digits.load().test):
        found += zip(map(tuple, split.x.flatten(1).tolist()), split.label.tolist(), strict=True)
    assert sorted(found) == expected


def test_dequantised_digits_are_the_digits(digits):
    assert torch.equal(((digits.test_x + 1) / 2 * 17).floor(), digits.load().test.x.float())


def test_resumed_batches_are_dequantised_as_they_would_have_been(digits):
    batches, resumed = digits.train_dataloader(), digits.train_dataloader()
    resumed.load_state_dict({"iteration": 13})
    whole = [batch.x for batch, _ in zip(batches, range(15), strict=False)]
    assert torch.equal(next(iter(resumed)).x, whole[13])


def test_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"shape must be \[1, 8, 8\], got \[64\]"):
        Digits(shape=[64], order_seed=0)
