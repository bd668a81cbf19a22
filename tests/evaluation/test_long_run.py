import math

import pytest
import torch

from ebm_lab.evaluation.long_run import Look, fate, look_at, saturated_share

BEFORE = Look(energy=-5.0, energy_width=1.0, saturated=0.1, spread=0.6, num_classes=10)


@pytest.mark.parametrize(
    ("changed", "of_data", "word"),
    [
        ({}, 0.1, "stays"),
        ({"saturated": 0.279}, 0.1, "stays"),
        ({"saturated": 0.281}, 0.1, "saturates"),  # beyond .1 + .2 · .9
        ({"saturated": 0.281}, 0.5, "stays"),  # the data themselves are black and white
        ({"saturated": 0.61}, 0.5, "saturates"),
        ({"saturated": 0.99, "spread": 0.0, "num_classes": 1}, 0.1, "saturates"),
        ({"spread": 0.31}, 0.1, "stays"),
        ({"spread": 0.29}, 0.1, "collapses"),
        ({"num_classes": 5}, 0.1, "stays"),
        ({"num_classes": 4}, 0.1, "collapses"),
        ({"energy": -6.9}, 0.1, "stays"),
        ({"energy": -7.1}, 0.1, "drifts"),
        ({"energy": -2.9}, 0.1, "drifts"),
    ],
)
def test_fate_at_both_sides_of_every_threshold(changed, of_data, word):
    assert fate(BEFORE, BEFORE._replace(**changed), of_data)[0] == word


def test_fate_without_a_classifier():
    before = BEFORE._replace(num_classes=None)
    assert fate(before, before, 0.1)[0] == "stays"


def test_a_look_s_numbers():
    pixels = torch.tensor([[0.0, 1.0], [0.5, -1.0], [1.0, 0.98]]).reshape(3, 1, 1, 2).double()
    look = look_at(pixels, torch.tensor([1.0, 2.0, 3.0]), num_classes=2)
    variances = 0.25, float(torch.tensor([1.0, -1.0, 0.98]).double().var())
    assert look == Look(
        energy=2.0, energy_width=1.0, saturated=0.5, spread=pytest.approx(math.sqrt(sum(variances) / 2)),
        num_classes=2,
    )  # fmt: skip


def test_saturation_counts_what_lies_beyond():
    assert saturated_share(torch.tensor([-3.0, -0.995, -0.98, 0.0, 2.0])) == pytest.approx(0.6)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_what_is_not_finite_has_no_numbers(broken):
    fine = torch.zeros(2, 1, 1, 1)
    with pytest.raises(FloatingPointError, match="not finite"):
        look_at(fine + broken, torch.zeros(2), None)
    with pytest.raises(FloatingPointError, match="not finite"):
        look_at(fine, torch.full((2,), broken), None)
