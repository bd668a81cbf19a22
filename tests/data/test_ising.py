"""Laws of spins against sums over all states, and draws against them."""

import math

import pytest
import torch

from ebm_lab.data.ising import Enumeration, IsingLaw, TransferMatrix, ising_lattice, random_boltzmann
from ebm_lab.energies import Ising, enumerated, lattice

F64 = torch.float64


def lattice_by_enumeration(side: int, sigma: float) -> IsingLaw:
    couplings, field = sigma * lattice(side), torch.zeros(side**2, dtype=F64)
    return IsingLaw(couplings, field, (1, side, side), Enumeration(couplings, field))


@pytest.mark.parametrize("sigma", [0.2, -0.3, 0.5])
@pytest.mark.parametrize("side", [3, 4])
def test_transfer_matrix_is_the_sum_over_all_states(side, sigma):
    law, listed = ising_lattice(side, sigma), lattice_by_enumeration(side, sigma)
    assert law.exact.log_z == pytest.approx(listed.exact.log_z, abs=1e-9)
    assert law.entropy() == pytest.approx(listed.entropy(), abs=1e-9)


def test_log_z_of_the_largest_lattice_near_its_critical_point():
    # Onsager: log Z / N -> log 2 / 2 + (2/π) G at K_c; a torus adds .6399 / N (Ferdinand & Fisher 1969).
    law = ising_lattice(10, math.log(1 + math.sqrt(2)) / 4)
    per_site = math.log(2) / 2 + 2 / math.pi * 0.915965594177
    assert law.exact.log_z == pytest.approx(100 * per_site + 0.6399, abs=2e-2)


def test_without_couplings_all_states_are_alike():
    law = TransferMatrix(5, 0.0)
    assert law.log_z == pytest.approx(25 * math.log(2), abs=1e-10)
    assert law.entropy == pytest.approx(25 * math.log(2), abs=1e-10)


@pytest.mark.parametrize("law", [random_boltzmann(4), ising_lattice(3, 0.15)], ids=["boltzmann", "lattice"])
def test_mass_entropy_and_draws(law):
    log_p = enumerated(law.log_prob, law.shape, "binary")
    assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-10)
    assert law.entropy() == pytest.approx(-(log_p.exp() * log_p).sum().item(), abs=1e-10)
    num = 40_000
    x = law.sample(num, torch.Generator().manual_seed(0))
    assert x.shape == (num, *law.shape) and x.dtype == torch.float32
    numbers = (x.flatten(1).long() * 2 ** torch.arange(law.dim)).sum(1)
    seen = torch.bincount(numbers, minlength=2**law.dim).double()
    # χ² has the states' number less one degrees of freedom, and a variance of twice that: 4 standard errors
    chi2, freedom = ((seen - num * log_p.exp()).square() / (num * log_p.exp())).sum().item(), len(log_p) - 1
    assert abs(chi2 - freedom) < 4 * math.sqrt(2 * freedom)


def test_lattice_draws_have_its_correlations_in_every_direction():
    """Neighbours in rows, in columns and around both ends, against one exact number."""
    side, sigma, num = 6, 0.18, 20_000
    law = ising_lattice(side, sigma)
    s = 2 * law.sample(num, torch.Generator().manual_seed(1), F64)[:, 0] - 1
    expected = (law.exact.log_z - law.entropy()) / (
        2 * sigma * 2 * side**2
    )  # of 72 edges, each counted twice
    for axis in (1, 2):
        products = s * s.roll(1, axis)
        for edges in (products, products.select(axis, 0)):
            per_event = edges.flatten(1).mean(1)
            assert abs(per_event.mean() - expected) < 4 * per_event.std() / math.sqrt(num)


def test_the_energy_of_the_law_has_its_log_prob():
    law = random_boltzmann(5, seed=2)
    energy = Ising((5,), field=True).double()
    energy.set_couplings(law.couplings)
    energy.field.data = law.field
    x = law.sample(7, torch.Generator().manual_seed(0), F64)
    torch.testing.assert_close(-energy(x) - law.exact.log_z, law.log_prob(x))


def test_error_of_the_couplings_counts_every_entry():
    # J off by .1 on 4 of 9² entries (two pairs, both triangles): -log √(4 · .01 / 81).
    law = ising_lattice(3, 0.2)
    energy = Ising((1, 3, 3)).double()
    energy.set_couplings(law.couplings)
    energy.pairs.data[:2] += 0.1
    value, error, _, _ = law.measurements(energy)["neg_log_rmse"]
    assert value == pytest.approx(-0.5 * math.log(4 * 0.01 / 81), abs=1e-9) and error is None
    assert law.measurements(torch.nn.Linear(2, 1)) == {}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ising_lattice(2), "side must be an integer, at least 3"),
        (lambda: ising_lattice(12), "side must be at most 11"),
        (lambda: ising_lattice(4, math.inf), "sigma must be a finite number"),
        (lambda: random_boltzmann(21), "dim must be at most 20"),
        (lambda: random_boltzmann(3, scale=0.0), "scale must be a positive number"),
    ],
)
def test_numbers_out_of_range_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
