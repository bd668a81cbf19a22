"""Energies on discrete events against sums over all of them."""

import math

import pytest
import torch
from torch.nn.functional import softplus

from ebm_lab.energies import RBM, Ising, Potts, all_states, enumerated, lattice, num_states
from ebm_lab.energies.states import binary_states, one_hot_states

F64 = torch.float64


def machine() -> RBM:
    """W = [[.5, -1], [.3, .2]], a = (.1, -.2), b = (.4, 0)."""
    rbm = RBM((2,), num_hidden=2).double()
    with torch.no_grad():
        rbm.weight.copy_(torch.tensor([[0.5, -1.0], [0.3, 0.2]], dtype=F64))
        rbm.visible_bias.copy_(torch.tensor([0.1, -0.2], dtype=F64))
        rbm.hidden_bias.copy_(torch.tensor([0.4, 0.0], dtype=F64))
    return rbm


def random_machine(num_visible: int, num_hidden: int) -> RBM:
    rbm = RBM((num_visible,), num_hidden=num_hidden, scale=0.0).double()
    generator = torch.Generator().manual_seed(num_hidden)
    for parameter in rbm.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=F64)
    return rbm


def log_z(energy, domain: str = "binary") -> float:
    return (-enumerated(energy, energy.shape, domain)).logsumexp(0).item()


def test_rbm_by_hand():
    rbm = machine()
    assert rbm(torch.tensor([[1.0, 0.0]], dtype=F64)).item() == pytest.approx(-1.654415562, abs=1e-9)
    assert rbm.log_partition().item() == pytest.approx(3.061534454, abs=1e-9)


@pytest.mark.parametrize(("num_visible", "num_hidden"), [(4, 7), (7, 4), (5, 5)])
def test_rbm_sums_over_its_smaller_layer(num_visible, num_hidden):
    rbm = random_machine(num_visible, num_hidden)
    assert rbm.num_terms == 2 ** min(num_visible, num_hidden)
    assert rbm.log_partition().item() == pytest.approx(log_z(rbm), abs=1e-11)


def test_free_energy_and_conditionals_are_those_of_the_joint_law():
    rbm = random_machine(3, 4)
    v, h = binary_states(3), binary_states(4)
    joint = torch.stack([rbm.joint_energy(v, h[[k]].expand(8, 4)) for k in range(16)], 1)  # (v, h)
    torch.testing.assert_close(rbm(v), -(-joint).logsumexp(1))
    p = (-joint).flatten().softmax(0).view(8, 16)
    torch.testing.assert_close(rbm.hidden_logits(v).sigmoid(), (p @ h) / p.sum(1, keepdim=True))
    torch.testing.assert_close(rbm.visible_logits(h).sigmoid(), (p.T @ v) / p.sum(0)[:, None])


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_path_of_machines(beta):
    """F_β by its formula; at β = 0 independent units and a known Z, at β = 1 the machine."""
    rbm, base = random_machine(4, 3), torch.tensor([0.2, -1.0, 3.0, 0.0], dtype=F64)
    between = rbm.path_from(base, beta)
    v = binary_states(4)
    bias = (1 - beta) * base + beta * rbm.visible_bias
    expected = -(v @ bias) - softplus(beta * (rbm.hidden_bias + v @ rbm.weight)).sum(1)
    torch.testing.assert_close(between(v), expected)
    assert between.log_partition().item() == pytest.approx(log_z(between), abs=1e-11)
    assert not any(p.requires_grad for p in between.parameters())
    if beta == 0:
        assert between.num_terms == 1
        known = softplus(base).sum().item() + 3 * math.log(2)
        assert between.log_partition().item() == pytest.approx(known, abs=1e-12)


def test_both_triangles_count_an_edge():
    # Two spins of coupling J: Z = 2 e^{2J} + 2 e^{-2J}, <s1 s2> = tanh 2J.
    ising = Ising((2,)).double()
    ising.set_couplings(torch.tensor([[0.0, 0.3], [0.3, 0.0]], dtype=F64))
    assert log_z(ising) == pytest.approx(math.log(4 * math.cosh(0.6)), abs=1e-12)
    x = torch.tensor([[1.0, 1.0], [0.0, 1.0]], dtype=F64)
    torch.testing.assert_close(ising(x), torch.tensor([-0.6, 0.6], dtype=F64))


def test_couplings_and_field_are_those_of_the_quadratic_form():
    ising = Ising((2, 3), field=True).double()
    generator = torch.Generator().manual_seed(0)
    couplings = torch.randn(6, 6, generator=generator, dtype=F64).triu(1)
    couplings = couplings + couplings.T
    ising.set_couplings(couplings)
    ising.field.data = torch.randn(6, generator=generator, dtype=F64)
    assert torch.equal(ising.couplings, couplings)
    x = binary_states(6).view(-1, 2, 3)
    s = 2 * x.flatten(1) - 1
    expected = -torch.einsum("bi,ij,bj->b", s, couplings, s) - s @ ising.field
    torch.testing.assert_close(ising(x), expected)
    with pytest.raises(ValueError, match="symmetric matrix with a zero diagonal"):
        ising.set_couplings(torch.ones(6, 6, dtype=F64))


def test_potts_of_two_classes_is_an_ising_model():
    # J(c, c') = J (2δ - 1) of a pair: one-hot (1 - x, x) has the energies of the spins.
    ising, potts = Ising((3,)).double(), Potts((3, 2)).double()
    ising.pairs.data = torch.tensor([0.3, -0.7, 1.1], dtype=F64)
    potts.pairs.data = ising.pairs.data[:, None, None] * torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=F64)
    x = binary_states(3)
    torch.testing.assert_close(potts(torch.stack([1 - x, x], 2)), ising(x))


def test_potts_by_the_classes():
    potts = Potts((2, 3)).double()
    generator = torch.Generator().manual_seed(1)
    for parameter in potts.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=F64)
    x = one_hot_states(2, 3)
    first, second = x.argmax(2).T
    expected = -2 * potts.pairs[0, first, second] - potts.field[0, first] - potts.field[1, second]
    torch.testing.assert_close(potts(x), expected)


def test_lattice():
    ring = lattice(4)
    assert torch.equal(ring, ring.T) and ring.sum(1).eq(4).all() and not ring.diagonal().any()
    assert ring[0].nonzero().flatten().tolist() == [1, 3, 4, 12]
    assert lattice(3, periodic=False).sum(1).tolist() == [2, 3, 2, 3, 4, 3, 2, 3, 2]
    with pytest.raises(ValueError, match="side must be at least 3"):
        lattice(2)


def test_all_states_come_once_and_in_order():
    assert binary_states(3)[6].tolist() == [0, 1, 1] and one_hot_states(2, 3)[5].argmax(1).tolist() == [2, 1]
    binary = torch.cat(list(all_states((2, 7), "binary")))
    assert binary.shape == (2**14, 2, 7) and len(binary.unique(dim=0)) == 2**14
    categorical = torch.cat(list(all_states((2, 2, 3), "categorical")))
    assert categorical.shape == (81, 2, 2, 3) and categorical.sum(3).eq(1).all()
    assert len(categorical.unique(dim=0)) == num_states((2, 2, 3), "categorical") == 81
    with pytest.raises(ValueError, match=r"at most 2\^25 are summed"):
        next(all_states((26,), "binary"))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: RBM((3,), num_hidden=0), "num_hidden must be at least 1"),
        (lambda: random_machine(26, 26).log_partition(), "at most 2"),
        (lambda: machine().path_from(torch.zeros(2), 1.5), "beta must lie in"),
        (lambda: Ising((1,)), "at least 2 sites"),
        (lambda: Potts((3,)), r"shape must be \[\*sites, classes\]"),
    ],
)
def test_mistakes_are_told_in_a_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
