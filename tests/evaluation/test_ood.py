import math

import pytest
import torch

from ebm_lab.energies import Energy
from ebm_lab.evaluation.ood import auroc, energy_scores


@pytest.mark.parametrize(
    ("inside", "outside", "area"),
    [
        ([2, 3], [0, 1], 1.0),
        ([0, 1], [2, 3], 0.0),
        ([1, 1], [1, 1], 0.5),
        ([1, 3], [0, 1, 2], (1.5 + 3) / 6),  # one tie counts half
        ([2, 2, 5], [2, 2], (1 + 1 + 2) / 6),
        ([math.inf, 1], [-math.inf, 1], (2 + 1.5) / 4),
    ],
)
def test_auroc_of_small_sets(inside, outside, area):
    value, _ = auroc(torch.tensor(inside).double(), torch.tensor(outside).double())
    assert value == pytest.approx(area, abs=1e-15)


def test_auroc_s_error_is_delong_s():
    # Placements by hand: of the inside 1/3·1.5 and 1, of the outside 1, ¾ and ½.
    _, error = auroc(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0, 2.0]))
    assert error == pytest.approx(math.sqrt(0.125 / 2 + 0.0625 / 3))


def test_auroc_of_two_gaussians():
    """Φ(1/√2) in expectation, spread as its error says: 200 sets of 60 and 90."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(200):
        inside = 1 + torch.randn(60, generator=generator, dtype=torch.float64)
        found.append(auroc(inside, torch.randn(90, generator=generator, dtype=torch.float64)))
    values, errors = torch.tensor(found).double().T
    spread = float(values.std())
    assert float(values.mean()) == pytest.approx(0.760249939, abs=4 * spread / math.sqrt(200))
    assert float(errors.square().mean().sqrt()) == pytest.approx(spread, rel=0.15)  # 5 % is one deviation


def test_auroc_refuses_what_it_cannot_rank():
    with pytest.raises(FloatingPointError, match="not a number"):
        auroc(torch.tensor([0.0, math.nan]), torch.zeros(2))
    with pytest.raises(ValueError, match="at least 2 scores a side, got 1 and 2"):
        auroc(torch.zeros(1), torch.zeros(2))


class Cubic(Energy):
    """E(x) = Σ a x³, so that -‖∇E‖ = -3a‖x²‖."""

    shape = (2,)

    def __init__(self):
        super().__init__()
        self.a = torch.nn.Parameter(torch.tensor(2.0).double())

    def forward(self, x):
        return (self.a * x**3).sum(1)


def test_energy_scores_are_minus_energy_and_minus_the_gradient_s_norm():
    energy, x = Cubic(), torch.tensor([[1.0, 2.0], [0.0, 0.0], [-1.0, 1.0]]).double()
    scores = energy_scores(energy, x, chunk_size=2)
    assert scores["energy"].tolist() == [-18.0, 0.0, 0.0]
    assert scores["gradient"].tolist() == pytest.approx([-6 * math.sqrt(17), 0.0, -6 * math.sqrt(2)])
    assert energy.a.requires_grad and energy.a.grad is None
