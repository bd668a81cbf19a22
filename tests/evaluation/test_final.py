import math

import pytest
import torch
from stand_ins import write_mnist

from ebm_lab.data import TorchvisionImages
from ebm_lab.energies import Energy
from ebm_lab.evaluation.likelihood import _bits_per_dim
from ebm_lab.evaluation.log_z import Bracket
from ebm_lab.evaluation.partition import LogPartition

D = 28 * 28


class UniformInPixels(Energy):
    """E(y) = -log |dx/dy| + d log 2: the law of events whose pixels are uniform on [-1, 1], with Z = 1."""

    def __init__(self, data):
        super().__init__()
        self.data = data

    def forward(self, y):
        slope = torch.zeros(len(y)) if self.data.transform is None else self.data.transform.log_slope(y)
        return D * math.log(2) - slope


@pytest.mark.parametrize("transform", [None, "logit"])
def test_uniform_pixels_cost_eight_bits_in_every_event(tmp_path, transform):
    """So their mean has no error of its own, though log |dy/dk| differs by hundreds of nats among them."""
    write_mnist(tmp_path)
    data = TorchvisionImages(
        name="mnist", shape=[1, 28, 28], order_seed=0, root=str(tmp_path), num_val=10, batch_size=10,
        transform=transform,
    )  # fmt: skip
    data.setup()
    log_z = Bracket(LogPartition(3.0, 0.5, 1e4, "low", "by hand"))  # as if Z were e³: 3 / (d log 2) bits more
    bits = _bits_per_dim(UniformInPixels(data), data, data.test_x, log_z)
    assert bits.value == pytest.approx(8 + 3 / (D * math.log(2)), abs=1e-6)
    assert bits.error == pytest.approx(0.5 / (D * math.log(2)), abs=1e-6)
