"""Sums over all events, the pseudo-likelihood, and the numbers of a run on binary data."""

import math

import pytest
import torch
from hydra import compose, initialize_config_dir

from ebm_lab import schema
from ebm_lab.building import build
from ebm_lab.cli import CONFIGS
from ebm_lab.energies import MLP, RBM, Ising, Potts, all_states, enumerated
from ebm_lab.errors import UserError
from ebm_lab.evaluation.discrete import enumerated_kl, exact_log_partition, negative_log_pseudolikelihood

F64 = torch.float64


def pair(coupling: float) -> Ising:
    """Two spins with 2J = `coupling`."""
    ising = Ising((2,)).double()
    ising.pairs.data.fill_(coupling / 2)
    return ising


def four_plus_one_minus() -> torch.Tensor:
    """Pairs of spins with <s1 s2> = .6."""
    return torch.tensor([[0, 0], [1, 1], [0, 0], [1, 1], [0, 1]], dtype=F64)


def test_pseudolikelihood_of_two_spins():
    # E = -J s1 s2: Σ_i softplus(-2 J s1 s2), per site 4/5 softplus(-2J) + 1/5 softplus(2J).
    x = four_plus_one_minus()
    at_zero, _ = negative_log_pseudolikelihood(pair(0.0), x, "binary")
    assert at_zero == pytest.approx(2 * math.log(2), abs=1e-12)
    best, _ = negative_log_pseudolikelihood(pair(math.atanh(0.6)), x, "binary")
    assert best == pytest.approx(1.000804847, abs=1e-9)
    for off in (0.6, 0.8):
        assert negative_log_pseudolikelihood(pair(off), x, "binary")[0] > best


@pytest.mark.parametrize("domain", ["binary", "categorical"])
def test_pseudolikelihood_is_the_sum_of_the_conditionals(domain):
    shape = (3,) if domain == "binary" else (3, 3)
    energy = MLP(shape, width=5, depth=1).double()
    states = torch.cat(list(all_states(shape, domain)))
    log_p = (-enumerated(energy, shape, domain)).log_softmax(0)
    values = states if domain == "binary" else states.argmax(2)
    expected = torch.zeros(len(states), dtype=F64)
    for site in range(3):
        rest = values[:, [i for i in range(3) if i != site]]
        same = (rest[:, None] == rest[None]).all(2)
        of_others = torch.where(same, log_p, -torch.inf).logsumexp(1)
        expected -= log_p - of_others
    value, _ = negative_log_pseudolikelihood(energy, states, domain)
    assert value == pytest.approx(expected.mean().item(), abs=1e-12)


def test_pseudolikelihood_of_drawn_sites_is_unbiased():
    energy = RBM((6,), num_hidden=3, scale=1.0).double()
    x = torch.cat(list(all_states((6,), "binary")))
    exact, _ = negative_log_pseudolikelihood(energy, x, "binary")
    generator = torch.Generator().manual_seed(0)
    draws = [negative_log_pseudolikelihood(energy, x, "binary", 2, generator)[0] for _ in range(200)]
    draws = torch.tensor(draws, dtype=F64)
    assert draws.std() > 0 and abs(draws.mean() - exact) < 4 * draws.std() / math.sqrt(200)


def test_log_z_takes_the_shorter_sum_and_refuses_long_ones():
    rbm = RBM((30,), num_hidden=4, scale=0.5).double()
    known = rbm.log_partition().item()
    assert exact_log_partition(rbm, "binary", F64) == pytest.approx(known, abs=1e-12)
    assert exact_log_partition(pair(0.6), "binary", F64) == pytest.approx(math.log(4 * math.cosh(0.6)))
    assert exact_log_partition(Potts((2, 3)).double(), "categorical", F64) == pytest.approx(math.log(9))
    assert exact_log_partition(Ising((21,)), "binary", torch.float32) is None
    assert exact_log_partition(RBM((30,), num_hidden=25), "binary", torch.float32) is None


def test_enumerated_kl():
    p, q = torch.tensor([0.5, 0.5], dtype=F64), torch.tensor([0.9, 0.1], dtype=F64)
    assert enumerated_kl(p.log(), q.log()) == pytest.approx(0.5108256238, abs=1e-9)


def composed(*overrides: str):
    schema.register()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", overrides=["logger=none", *overrides])


def test_what_is_known_of_a_boltzmann_machine_at_its_truth():
    """Every number of the final evaluation, at the law of the data itself."""
    small = ["data=boltzmann", "data.num_train=200", "data.num_test=4000", "evaluation.num_samples=500"]
    built = build(composed(*small))
    law = built.data.density
    built.objective.energy.set_couplings(law.couplings)
    built.objective.energy.field.data = law.field.float()
    found = {m.name: m for m in built.evaluation(built.objective, built.data).measurements}
    assert found["log_z"].value == pytest.approx(law.exact.log_z, abs=1e-5)
    assert abs(found["nll"].value - law.entropy()) < 4 * found["nll"].error
    assert found["entropy"].value == law.entropy()
    for name in ("kl_data_model", "kl_model_data"):
        assert abs(found[name].value) < 1e-6  # energies are float32
    assert abs(found["mmd"].value) < 4 * found["mmd"].error
    assert found["neg_log_rmse"].value > 15  # float32
    assert {"pseudo_nll", "energy_gap", "mmd_independent"} < found.keys()
    assert not {"fisher", "mmd_gaussian"} & found.keys()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["sampler=langevin"], "sampler: Langevin .* binary: choose sampler=gibbs"),
        (["noise=gaussian"], "noise: Gaussian .* choose noise=bernoulli"),
        (["evaluation=points"], "evaluation.kernel: MALA .* choose evaluation=binary"),
        (["sampler=block_gibbs"], "block Gibbs needs .* Ising does not have: choose energy=rbm"),
        (["objective=dsm"], "DenoisingScoreMatching trains on image or real data, these are binary"),
    ],
)
def test_what_does_not_fit_binary_data_is_one_sentence(overrides, words):
    with pytest.raises(UserError, match=words):
        build(composed("data=boltzmann", "data.num_train=200", *overrides))


def test_a_kernel_for_binary_data_is_refused_on_points():
    with pytest.raises(UserError, match="sampler: Gibbs is for binary data, these are real: choose sampler="):
        build(composed("sampler=gibbs", "data.num_train=200"))
