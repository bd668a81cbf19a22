"""Weighted draws: shares, means and resampling."""

import math

import pytest
import torch

from ebm_lab.samplers.weights import effective_share, log_mean_exp, systematic


def uniforms(seed):
    return torch.rand(2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_systematic_resampling_gives_whole_numbers_of_children_that_average_to_the_shares():
    shares = torch.tensor([[0.5, 0.25, 0.25, 0.0], [0.1, 0.3, 0.3, 0.3]]).double()
    parents = torch.stack([systematic(shares.log(), uniforms(s)) for s in range(4000)])
    assert (parents[:, 0].sort().values == torch.tensor([0, 0, 1, 2])).all()  # whole numbers of children
    children = torch.stack([(parents[:, 1] == i).double().sum(1) for i in range(4)], 1)
    assert children.min() >= 0 and children[:, 1:].min() >= 1 and children.max() <= 2
    torch.testing.assert_close(children.mean(0), 4 * shares[1], atol=4 * 0.5 / math.sqrt(4000), rtol=0)


def test_systematic_resampling_gives_every_walker_its_share():
    weights = torch.tensor([0.5, 0.05, 0.25, 0.2], dtype=torch.float64)
    combs = torch.linspace(0, 1, 1001, dtype=torch.float64)[:-1]
    counts = torch.stack([systematic(weights.log(), u).bincount(minlength=4) for u in combs]).double()
    assert ((counts - 4 * weights).abs() < 1).all()  # floor or ceiling of n w
    torch.testing.assert_close(counts.mean(0), 4 * weights, atol=2e-3, rtol=0)


def test_effective_share():
    assert effective_share(torch.zeros(7)).item() == pytest.approx(1)
    assert effective_share(torch.tensor([0.0, -1e9, -1e9, -1e9])).item() == pytest.approx(0.25)


def test_the_share_of_effective_chains():
    # w = 1, 3: (mean w)² / mean w² = 4/5
    assert effective_share(torch.tensor([0.0, math.log(3)])) == pytest.approx(0.8, rel=1e-6)


def test_the_mean_of_weights_whose_exponentials_overflow():
    assert log_mean_exp(torch.tensor([1000.0, 1000 + math.log(3)])).item() == pytest.approx(
        1000 + math.log(2)
    )
