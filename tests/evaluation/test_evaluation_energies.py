import math

import pytest
import torch
from torch import nn

from ebm_lab.energies.energy import Energy
from ebm_lab.evaluation.energies import energy_gap, evaluate_in_chunks


class Linear(Energy):
    """E(x) = Σ w x, with dropout that only evaluation mode turns off."""

    def __init__(self, dim, dtype=torch.float64):
        super().__init__()
        self.shape = (dim,)
        self.weight = nn.Parameter(torch.ones(dim, dtype=dtype))
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        return self.dropout(x) @ self.weight


def test_chunks_give_what_one_call_gives_in_float64_and_leave_the_module_as_it_was():
    energy = Linear(3, torch.float32).train()
    x = torch.arange(30.0).reshape(10, 3)
    values = evaluate_in_chunks(energy, x, chunk_size=4)
    torch.testing.assert_close(values, x.double().sum(1), rtol=0, atol=0)
    assert not values.requires_grad
    assert energy.training and energy.weight.requires_grad


def test_energy_gap_is_data_minus_model():
    x, x_model = torch.tensor([[1.0], [3.0]]).double(), torch.tensor([[0.0], [2.0], [4.0], [6.0]]).double()
    value, error = energy_gap(Linear(1), x, x_model)
    assert value == 2.0 - 3.0
    # squared standard errors: 2/2 of the data, (20/3)/4 of the samples
    assert error == pytest.approx(math.sqrt(1 + 5 / 3), rel=1e-12)
