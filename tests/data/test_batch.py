import pytest
import torch

from ebm_lab.data import Batch


def test_chunks_are_equal_consecutive_parts():
    batch = Batch(torch.arange(12.0).view(6, 2), torch.arange(6))
    parts = batch.chunks(3)
    assert [p.x.tolist() for p in parts] == [batch.x[i : i + 2].tolist() for i in (0, 2, 4)]
    assert [p.label.tolist() for p in parts] == [[0, 1], [2, 3], [4, 5]]


def test_chunks_without_labels():
    assert [p.label for p in Batch(torch.zeros(4, 1)).chunks(2)] == [None, None]


@pytest.mark.parametrize("n", [0, 4, 7])
def test_a_batch_that_does_not_divide_is_refused(n):
    with pytest.raises(ValueError, match=f"6 events does not divide into {n} equal parts"):
        Batch(torch.zeros(6, 2)).chunks(n)
