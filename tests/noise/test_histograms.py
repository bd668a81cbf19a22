"""Histograms of independent coordinates: exact densities, draws of them, their edges."""

import math

import pytest
import torch

from ebm_lab.noise import Histograms

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def fitted():
    """Two bins a coordinate, [-1, 1) and [1, 3): three of four events in the first, and two of four."""
    noise = Histograms((2,), num_bins=2, smoothing=1.0, margin=1.0).double()
    noise.fit(torch.tensor([[0, 0], [0, 0], [0.5, 2], [2, 2]], dtype=F64))
    return noise


def test_densities_are_smoothed_shares_over_widths():
    x = torch.tensor([[0.0, 0.0], [2.0, 2.9], [-1.0, 1.0]], dtype=F64)
    first, second = 4 / 6 / 2, 2 / 6 / 2  # (3 + 1)/(4 + 2) over the width 2, and (1 + 1)/(4 + 2)
    expected = [first / 4, second / 4, first / 4]  # the other coordinate: ½ over the width 2
    assert fitted().log_prob(x).exp().tolist() == pytest.approx(expected, abs=1e-14)


def test_outside_the_bins_there_is_no_density():
    x = torch.tensor([[3.0, 0.0], [0.0, -1.001], [0.0, math.inf]], dtype=F64)
    assert fitted().log_prob(x).tolist() == [-math.inf] * 3
    assert not Histograms.has_full_support


def test_it_integrates_to_one():
    noise = Histograms((2,), num_bins=5, margin=0.3).double()
    noise.fit(torch.randn(50, 2, generator=seeded(), dtype=F64))
    line = [noise.low[i] + (torch.arange(50, dtype=F64) + 0.5) * noise.width[i] / 10 for i in range(2)]
    cell = (noise.width / 10).prod()
    assert (noise.log_prob(torch.cartesian_prod(*line)).exp().sum() * cell).item() == pytest.approx(
        1, abs=1e-12
    )


def test_draws_fill_the_bins_by_their_shares():
    num, noise = 30_000, fitted()
    state = torch.get_rng_state()
    x = noise.sample(num, seeded(1))
    assert torch.equal(torch.get_rng_state(), state)
    assert (noise.log_prob(x) > -math.inf).all()
    for coordinate, share in enumerate((4 / 6, 0.5)):
        found = (x[:, coordinate] < 1).double().mean().item()
        assert found == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / num))
    # uniform on [-1, 1) within the first bin: variance 1/3, of standard error √(4/45 n)
    inside = x[x[:, 0] < 1, 0]
    assert inside.var().item() == pytest.approx(1 / 3, abs=4 * math.sqrt(4 / 45 / len(inside)))


def test_draws_at_the_end_of_the_last_bin_are_inside(monkeypatch):
    """With u the largest float below 1 and all mass in the last bin: low + (bins + u) width is rounded up."""
    x = 10 * torch.randn(3, 500, generator=seeded(3))
    noise = Histograms((500,), num_bins=7)
    noise.fit(x)
    noise.log_probabilities[:, :-1] = -torch.inf
    monkeypatch.setattr("ebm_lab.noise.histograms.uniform", lambda shape, *_: torch.full(shape, 1 - 2**-24))
    draws = noise.sample(2, seeded())
    assert (noise.low + (6 + torch.tensor(1 - 2**-24)) * noise.width >= noise.high).any()
    # every coordinate in its last bin, of mass e^l: Σ_i l_i - log width_i
    expected = (noise.log_probabilities[:, -1] - noise.width.log()).sum().item()
    assert noise.log_prob(draws).tolist() == pytest.approx([expected] * 2, rel=1e-5)
    assert (noise.high - draws <= 4e-6).all()  # no further in than a rounding or two at numbers of 30


def test_inside_is_from_the_first_edge_on_and_up_to_the_last():
    noise = fitted()
    edges = torch.tensor([[-1.0, 0.0], [3.0, 0.0], [0.0, 3.0]], dtype=F64)
    assert noise.high.tolist() == [3.0, 3.0]
    assert noise.log_prob(edges).isfinite().tolist() == [True, False, False]
    before = edges.nextafter(torch.zeros_like(edges))
    assert noise.log_prob(before).isfinite().all()
    assert noise.log_prob(before).exp().tolist() == pytest.approx([1 / 12, 1 / 24, 1 / 12], abs=1e-14)


def test_a_constant_coordinate_and_an_image_shape():
    """Four bins on [-1.5, -.5]; all hundred events are at -1, in the third."""
    noise = Histograms((1, 2, 2), num_bins=4).double()
    x = torch.rand(100, 1, 2, 2, generator=seeded(), dtype=F64)
    moved = x.clone()
    x[:, 0, 0, 0], moved[:, 0, 0, 0] = -1.0, -1.1
    noise.fit(x)
    fullest, emptier = math.log(101 / 104 / 0.25), math.log(1 / 104 / 0.25)
    difference = noise.log_prob(x) - noise.log_prob(moved)
    torch.testing.assert_close(difference, torch.full((100,), fullest - emptier, dtype=F64))
    draws = noise.sample(1000, seeded())
    assert draws.shape == (1000, 1, 2, 2) and ((draws[:, 0, 0, 0] + 1).abs() <= 0.5).all()


def test_use_before_the_fit_and_bad_numbers_are_refused():
    with pytest.raises(RuntimeError, match="Histograms has not been fitted"):
        Histograms((2,)).sample(1, seeded())
    with pytest.raises(ValueError, match="smoothing and margin positive"):
        Histograms((2,), margin=0.0)
