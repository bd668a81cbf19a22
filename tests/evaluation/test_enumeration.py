import math

import pytest
import torch
from torch.nn.functional import softplus

from ebm_lab.energies import Energy
from ebm_lab.evaluation import enumeration
from ebm_lab.evaluation.enumeration import binary_events, enumerated_log_partition


class FreeEnergy(Energy):
    """F(v) = -aᵀv - Σ_j softplus(b_j + W_jᵀv) of the restricted Boltzmann machine of two by two units."""

    shape = (2,)

    def __init__(self):
        super().__init__()
        numbers = {"weight": [[0.5, -1.0], [0.3, 0.2]], "visible": [0.1, -0.2], "hidden": [0.4, 0.0]}
        for name, values in numbers.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64))

    def forward(self, v):
        return -(v @ self.visible) - softplus(self.hidden + v @ self.weight).sum(1)


class Independent(Energy):
    """E(x) = -Σ_i a_i x_i, so that log Z = Σ_i softplus(a_i)."""

    def __init__(self, logits, shape):
        super().__init__()
        self.shape = shape
        self.register_buffer("logits", logits)

    def forward(self, x):
        return -(x.flatten(1) @ self.logits)


def test_a_restricted_boltzmann_machine_of_four_units():
    energy = FreeEnergy()
    found = enumerated_log_partition(energy)
    assert found.value == pytest.approx(3.061534454, abs=1e-9)  # the digits that are quoted
    assert energy(torch.tensor([[1.0, 0.0]]).double()).item() == pytest.approx(-1.654415562, abs=1e-9)
    assert (found.error, found.effective_samples) == (0.0, math.inf)
    assert found.method == "the sum over all 2^2 events"
    # the same sum over visible and hidden units together
    v, h = (binary_events(2, torch.arange(4)) for _ in range(2))
    joint = -(v @ energy.visible)[:, None] - (h @ energy.hidden) - v @ energy.weight @ h.T
    assert torch.logsumexp(-joint.flatten(), 0).item() == pytest.approx(found.value, abs=1e-12)


def test_events_are_the_bits_of_their_numbers():
    assert binary_events(3, torch.tensor([0, 1, 6])).tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 1]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_many_chunks_of_an_image_shape(dtype, monkeypatch):
    monkeypatch.setattr(enumeration, "CHUNK", 100)  # 2^12 events, the last chunk is not full
    logits = torch.linspace(-3, 4, 12).to(dtype)
    found = enumerated_log_partition(Independent(logits, (1, 3, 4)))
    assert found.value == pytest.approx(softplus(logits.double()).sum().item(), abs=1e-6)


def test_more_than_twenty_bits_are_refused():
    with pytest.raises(ValueError, match="21 bits.*log_z=ais"):
        enumerated_log_partition(Independent(torch.zeros(21), (21,)))


def test_an_energy_that_is_not_a_number_is_refused():
    with pytest.raises(ValueError, match="log Z is nan"):
        enumerated_log_partition(Independent(torch.tensor([0.0, math.nan]), (2,)))
