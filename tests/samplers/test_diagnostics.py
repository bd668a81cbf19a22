"""R-hat and effective draws against numbers by hand and laws of known autocorrelation."""

import math

import pytest
import torch

from ebm_lab.samplers import effective_draws, rank_normalised_rhat, split_rhat

DOUBLE = torch.float64


def autoregressive(correlation: float, chains: int, draws: int, generator) -> torch.Tensor:
    """Stationary x_t = ρ x_{t-1} + √(1 - ρ²) z."""
    z = torch.randn(draws, chains, generator=generator, dtype=DOUBLE)
    x = [z[0]]
    for noise in z[1:]:
        x.append(correlation * x[-1] + math.sqrt(1 - correlation**2) * noise)
    return torch.stack(x, 1)


def test_split_rhat_by_hand():
    # halves of means .5, 2.5, 4.5, 6.5: W = 1/2, B/n = 20/3, so √(1/2 + 40/3)
    chains = torch.arange(8, dtype=DOUBLE).view(2, 4)
    assert split_rhat(chains).item() == pytest.approx(3.719318934, abs=1e-9)


def test_ranks_are_what_is_compared():
    chains = torch.arange(8, dtype=DOUBLE).view(2, 4)
    by_rank = rank_normalised_rhat(chains)
    torch.testing.assert_close(rank_normalised_rhat(chains.exp()), by_rank)  # ranks of a monotone map
    scores = torch.special.ndtri((torch.arange(1, 9, dtype=DOUBLE) - 0.375) / 8.25).view(2, 4)
    torch.testing.assert_close(by_rank, split_rhat(scores))


def test_equal_values_share_a_rank():
    chains = torch.tensor([[0.0, 1, 1, 2], [2, 1, 1, 0]], dtype=DOUBLE)
    # ranks 1.5 (0, 0), 4.5 (1, 1, 1, 1), 7.5 (2, 2): symmetric, so halves [-s, 0], [0, s], [s, 0], [0, -s]
    s = torch.special.ndtri(torch.tensor((7.5 - 0.375) / 8.25, dtype=DOUBLE))
    halves = torch.tensor([[-1.0, 0, 0, 1], [1, 0, 0, -1]], dtype=DOUBLE) * s
    torch.testing.assert_close(rank_normalised_rhat(chains), split_rhat(halves))


def test_chains_of_one_location_and_two_scales_do_not_agree(generator):
    chains = torch.randn(4, 1000, generator=generator, dtype=DOUBLE)
    assert rank_normalised_rhat(chains) < 1.01
    chains[2:] *= 3
    assert split_rhat(chains) < 1.01 < 1.1 < rank_normalised_rhat(chains)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_effective_draws_of_an_autoregression(correlation, generator):
    """m n (1 - ρ) / (1 + ρ); the estimate of τ over windows of τ draws is good to 10 % here."""
    chains = autoregressive(correlation, 8, 20_000, generator)
    expected = chains.numel() * (1 - correlation) / (1 + correlation)
    assert effective_draws(chains).item() == pytest.approx(expected, rel=0.1)


def test_chains_that_stay_apart_are_worth_few_draws(generator):
    chains = torch.randn(4, 1000, generator=generator, dtype=DOUBLE)
    together = effective_draws(chains)
    assert effective_draws(chains + torch.arange(4)[:, None]) < 0.01 * together


def test_three_draws_have_no_halves():
    with pytest.raises(ValueError, match="at least 4 draws a chain, got 3"):
        split_rhat(torch.zeros(2, 3))
