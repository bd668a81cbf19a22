"""Kernels on discrete events by their full transition matrices, out of the kernels' own code.

Every state of 2³ binary or 3² categorical events is a row. The proposal's probabilities are those from which
`step` draws, the acceptance is that of `step` with the draw handed in, and what `step` moves to is checked.
"""

import pytest
import torch
from torch import Tensor

from ebm_lab.domains import check_domain
from ebm_lab.energies import MLP, RBM, Energy, Ising, Potts, all_states, energy_and_gradient, enumerated
from ebm_lab.errors import UserError
from ebm_lab.samplers import BlockGibbs, DiscreteLangevin, Gibbs, GibbsWithGradients, run_chains

F64 = torch.float64
SHAPES = {"binary": (3,), "categorical": (2, 3)}
TINY, NEARLY_ONE = 1e-12, 1 - 1e-12


def randomised(energy: Energy) -> Energy:
    generator = torch.Generator().manual_seed(3)
    for parameter in energy.double().parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=F64)
    return energy.requires_grad_(False)


PAIRWISE = {
    "binary": randomised(Ising((3,), field=True)),
    "categorical": randomised(Potts((2, 3))),
}
PAIRWISE["binary"].pairs.data *= 0.3
PAIRWISE["categorical"].pairs.data *= 0.5
NETWORK = {domain: randomised(MLP(shape, width=6, depth=1)) for domain, shape in SHAPES.items()}


def states_of(energy: Energy, domain: str) -> Tensor:
    return torch.cat(list(all_states(energy.shape, domain)))


def law(energy: Energy, domain: str, temperature: float = 1.0) -> Tensor:
    return (-enumerated(energy, energy.shape, domain) / temperature).softmax(0)


def number_of(x: Tensor, states: Tensor) -> Tensor:
    """Row of each event among the states."""
    same = (x[:, None] == states[None]).flatten(2).all(2)
    assert same.sum(1).eq(1).all()
    return same.long().argmax(1)


def with_rejections(proposals: Tensor, acceptance: Tensor) -> Tensor:
    matrix = proposals * acceptance
    return matrix + torch.diag(1 - matrix.sum(1))


def gwg_matrix(kernel, energy, domain) -> Tensor:
    states = states_of(energy, domain)
    _, gradient = energy_and_gradient(energy, states)
    q = kernel.log_proposal(states, gradient).exp()
    torch.testing.assert_close(q.sum(1), torch.ones(len(states), dtype=F64))
    proposals, acceptance = (
        torch.zeros(len(states), len(states), dtype=F64),
        torch.zeros(len(states), len(states), dtype=F64),
    )
    for move in range(q.shape[1]):
        possible = q[:, move] > 0
        rows = possible.nonzero().squeeze(1)
        start = kernel.init(energy, states[rows])
        moves = torch.full((len(rows),), move)
        after, info = kernel.step(energy, start, None, (moves, torch.full((len(rows),), TINY, dtype=F64)))
        columns = number_of(after.x, states)
        assert (columns != rows).all()  # accepted where u is tiny
        assert (after.x != states[rows]).flatten(1).any(1).all()
        proposals[rows, columns] += q[rows, move]
        acceptance[rows, columns] = info.acceptance
    return with_rejections(proposals, acceptance)


def langevin_matrix(kernel, energy, domain) -> Tensor:
    states = states_of(energy, domain)
    num = len(states)
    _, gradient = energy_and_gradient(energy, states)
    factors = kernel.log_factors(states, gradient)
    proposals, acceptance = torch.ones(2, num, num, dtype=F64)
    cumulated = factors.exp().cumsum(-1)
    for column in range(num):
        target = states[[column]].expand_as(states)
        value = (target if domain == "binary" else target.argmax(-1)).long()[..., None]
        middle = (cumulated - factors.exp() / 2).gather(2, value).squeeze(2)
        u = 1 - middle if domain == "binary" else middle  # a binary site is 1 where u < q(1)
        start = kernel.init(energy, states)
        after, info = kernel.step(energy, start, None, (u, torch.full((num,), TINY, dtype=F64)))
        assert torch.equal(after.x, target)
        proposals[:, column] = kernel.moves.log_prob(factors, target).exp()
        if info.acceptance is not None:
            acceptance[:, column] = info.acceptance
    torch.testing.assert_close(proposals.sum(1), torch.ones(num, dtype=F64))
    return with_rejections(proposals, acceptance) if kernel.adjusted else proposals


def site_matrix(kernel, energy, domain, site: int) -> Tensor:
    """One update of a site: a landing has the width of the interval of u that leads to it."""
    states = states_of(energy, domain)
    matrix = torch.zeros(len(states), len(states), dtype=F64)
    for row, x in enumerate(states):
        state = kernel.init(energy, x[None])

        def landing(u: float, state=state) -> int:
            draw = torch.full((1, 1), site), torch.full((1, 1), u, dtype=F64)
            return int(number_of(kernel.step(energy, state, None, draw)[0].x, states))

        for column, width in pieces(landing, 0.0, 1.0 - 2**-53):
            matrix[row, column] += width
    return matrix


def pieces(function, low: float, high: float, ends=None):
    """Values and widths of the pieces of a function whose pieces do not come back, by bisection."""
    first, last = ends or (function(low), function(high))
    if first == last:
        yield first, high - low
    elif high - low > 1e-14:
        middle = (low + high) / 2
        between = function(middle)
        yield from pieces(function, low, middle, (first, between))
        yield from pieces(function, middle, high, (between, last))


def block_matrix(energy: RBM) -> Tensor:
    """Σ_h p(h | v) p(v' | h), with draws that lead `step` through every pair of h and v'."""
    kernel, states, hidden = BlockGibbs(), states_of(energy, "binary"), states_of_hidden(energy)
    num = len(states)
    matrix = torch.zeros(num, num, dtype=F64)
    p_hidden = energy.hidden_logits(states).sigmoid()
    for h in hidden:
        p_of_h = torch.where(h == 1, p_hidden, 1 - p_hidden).prod(1)
        p_visible = energy.visible_logits(h[None]).sigmoid()
        for column, y in enumerate(states):
            # u below p gives a 1, above it a 0
            u_hidden = torch.where(h == 1, p_hidden / 2, (1 + p_hidden) / 2)
            u_visible = torch.where(y == 1, p_visible / 2, (1 + p_visible) / 2).expand(num, -1)
            after, info = kernel.step(energy, kernel.init(energy, states), None, (u_hidden, u_visible))
            assert torch.equal(after.x, y.expand(num, -1))
            torch.testing.assert_close(info.energy, energy(states))
            matrix[:, column] += p_of_h * torch.where(y == 1, p_visible, 1 - p_visible).prod()
    return matrix


def states_of_hidden(energy: RBM) -> Tensor:
    return torch.cat(list(all_states((len(energy.hidden_bias),), "binary")))


def check_exact(matrix: Tensor, pi: Tensor, tolerance: float = 1e-12) -> None:
    assert matrix.min() > -tolerance and (matrix.sum(1) - 1).abs().max() < tolerance
    assert (pi @ matrix - pi).abs().max() < tolerance
    flow = pi[:, None] * matrix
    assert (flow - flow.T).abs().max() < tolerance
    # it moves: the law is the only one
    assert (torch.linalg.matrix_power(matrix, 4000) - pi).abs().max() < 1e-8


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("energies", [PAIRWISE, NETWORK], ids=["pairwise", "network"])
@pytest.mark.parametrize("domain", SHAPES)
def test_gibbs_with_gradients_is_exact(domain, energies, temperature):
    kernel, energy = GibbsWithGradients(domain, temperature), energies[domain]
    check_exact(gwg_matrix(kernel, energy, domain), law(energy, domain, temperature))


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("energies", [PAIRWISE, NETWORK], ids=["pairwise", "network"])
@pytest.mark.parametrize("domain", SHAPES)
def test_adjusted_discrete_langevin_is_exact(domain, energies, temperature):
    kernel, energy = DiscreteLangevin(0.7, domain=domain, temperature=temperature), energies[domain]
    check_exact(langevin_matrix(kernel, energy, domain), law(energy, domain, temperature))


@pytest.mark.parametrize("domain", SHAPES)
def test_unadjusted_discrete_langevin_is_biased_and_less_so_for_smaller_steps(domain):
    energy, distances = PAIRWISE[domain], []
    for step_size in (1.0, 0.2):
        matrix = langevin_matrix(DiscreteLangevin(step_size, adjusted=False, domain=domain), energy, domain)
        stationary = torch.linalg.matrix_power(matrix, 2**20)[0]
        assert (stationary @ matrix - stationary).abs().max() < 1e-12
        distances.append(0.5 * (stationary - law(energy, domain)).abs().sum().item())
    assert distances[0] > distances[1] > 1e-3


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("domain", SHAPES)
def test_gibbs_is_exact(domain, temperature):
    """Each site satisfies detailed balance; so does their mixture, and their product leaves π invariant."""
    energy, kernel = PAIRWISE[domain], Gibbs(domain=domain, temperature=temperature)
    pi, num_sites = law(energy, domain, temperature), SHAPES[domain][0]
    sites = [site_matrix(kernel, energy, domain, site) for site in range(num_sites)]
    for matrix in sites:
        flow = pi[:, None] * matrix
        assert (pi @ matrix - pi).abs().max() < 1e-12 and (flow - flow.T).abs().max() < 1e-12
    check_exact(torch.stack(sites).mean(0), pi)
    sweep = torch.linalg.multi_dot(sites) if len(sites) > 1 else sites[0]
    assert (pi @ sweep - pi).abs().max() < 1e-12
    flow = pi[:, None] * sweep
    assert (flow - flow.T).abs().max() > 1e-4  # a sweep is not reversible


def test_block_gibbs_is_exact():
    energy = randomised(RBM((3,), num_hidden=2))
    check_exact(block_matrix(energy), law(energy, "binary"))


@pytest.mark.parametrize("domain", SHAPES)
def test_first_order_changes_are_exact_where_the_energy_is_multilinear(domain):
    energy, moves = PAIRWISE[domain], GibbsWithGradients(domain).moves
    states = states_of(energy, domain)
    energies, gradient = energy_and_gradient(energy, states)
    changes = moves.changes(states, gradient)
    for move in range(changes.shape[1]):
        rows = changes[:, move].isfinite()
        step = torch.full((int(rows.sum()),), move)
        y = moves.moved(states[rows], step)
        torch.testing.assert_close(changes[rows, move], energy(y) - energies[rows])
        assert torch.equal(moves.moved(y, moves.reverse(states[rows], step)), states[rows])


def test_proposals_by_hand():
    # E = -3 x_1 + x_2 at (0, 1) and T = 2: flips change E by -3 and -1.
    x, gradient = torch.tensor([[0.0, 1.0]], dtype=F64), torch.tensor([[-3.0, 1.0]], dtype=F64)
    q = GibbsWithGradients(temperature=2.0).log_proposal(x, gradient)
    torch.testing.assert_close(q, torch.tensor([[0.75, 0.25]], dtype=F64).log_softmax(1))
    factors = DiscreteLangevin(0.5, temperature=2.0).log_factors(x, gradient)
    flips = torch.tensor([0.75 - 1, 0.25 - 1], dtype=F64).sigmoid()  # Δ/(2T) less 1/(2α)
    torch.testing.assert_close(factors.exp()[0, [0, 1], [1, 0]], flips)
    # One site of three classes, at the first: Δ = (0, 2, -1), ‖e_c - x‖² = 2.
    x, gradient = torch.tensor([[[1.0, 0, 0]]], dtype=F64), torch.tensor([[[1.0, 3.0, 0.0]]], dtype=F64)
    q = GibbsWithGradients("categorical").log_proposal(x, gradient)
    torch.testing.assert_close(q[0, 1:], torch.tensor([-1.0, 0.5], dtype=F64).log_softmax(0))
    assert q[0, 0] == -torch.inf
    factors = DiscreteLangevin(0.5, domain="categorical").log_factors(x, gradient)
    torch.testing.assert_close(factors[0, 0], torch.tensor([0.0, -3.0, -1.5], dtype=F64).log_softmax(0))


KERNELS = {
    "sweep": lambda domain: Gibbs(domain=domain),
    "random scan": lambda domain: Gibbs(2, "random", domain),
    "gwg": GibbsWithGradients,
    "dmala": lambda domain: DiscreteLangevin(0.7, domain=domain),
}


@pytest.mark.parametrize("domain", SHAPES)
@pytest.mark.parametrize("name", KERNELS)
def test_chains_visit_states_as_often_as_they_should(name, domain):
    """Independent chains from the all-zero state: binomial standard errors, 4 of them for some ten states."""
    energy, kernel, num = PAIRWISE[domain], KERNELS[name](domain), 20_000
    states, pi = states_of(energy, domain), law(energy, domain)
    start = states[:1].expand(num, *energy.shape)
    x = run_chains(kernel, energy, start, 40, torch.Generator().manual_seed(5)).x
    seen = torch.bincount(number_of(x, states), minlength=len(states)).double() / num
    assert ((seen - pi).abs() < 4 * (pi * (1 - pi) / num).sqrt()).all()


def test_block_gibbs_visits_states_as_often_as_it_should():
    energy, num = randomised(RBM((3,), num_hidden=2)), 20_000
    pi, states = law(energy, "binary"), states_of(energy, "binary")
    x = run_chains(BlockGibbs(), energy, states[:1].expand(num, 3), 40, torch.Generator().manual_seed(6)).x
    seen = torch.bincount(number_of(x, states), minlength=8).double() / num
    assert ((seen - pi).abs() < 4 * (pi * (1 - pi) / num).sqrt()).all()


@pytest.mark.parametrize("kernel", [Gibbs(), GibbsWithGradients(), DiscreteLangevin(0.5), BlockGibbs()])
def test_events_of_any_shape_and_dtype_stay_binary(kernel):
    energy = RBM((1, 2, 3), num_hidden=4, scale=1.0)
    x = torch.zeros(5, 1, 2, 3)
    chains = run_chains(kernel, energy, x, 3, torch.Generator().manual_seed(0), record_every=1)
    assert chains.samples.shape == (3, 5, 1, 2, 3) and chains.x.dtype == torch.float32
    assert ((chains.samples == 0) | (chains.samples == 1)).all() and chains.x.any()
    torch.testing.assert_close(chains.energies[0], energy(x).mean().detach())


def test_chains_are_accepted_one_by_one():
    """The same move from the same state with different u: each event by its own."""
    kernel, energy = DiscreteLangevin(0.7), NETWORK["binary"]
    x = states_of(energy, "binary")[[2, 2, 2, 2]]
    u_sites = torch.full((4, 3), 0.01, dtype=F64)
    state = kernel.init(energy, x)
    _, info = kernel.step(energy, state, None, (u_sites, torch.full((4,), 0.5, dtype=F64)))
    alpha = info.acceptance[0].item()
    assert 0 < alpha < 1
    u = torch.tensor([alpha - 1e-6, alpha + 1e-6, 0.0, NEARLY_ONE], dtype=F64)
    after, _ = kernel.step(energy, state, None, (u_sites, u))
    assert (after.x != x).any(1).tolist() == [True, False, True, False]
    fresh = kernel.init(energy, after.x)
    torch.testing.assert_close((after.energy, after.gradient), (fresh.energy, fresh.gradient))


def test_a_systematic_scan_starts_anywhere_and_a_random_one_takes_any_site():
    x = torch.zeros(4, 5)
    sites, _ = Gibbs(7).draw(x, torch.Generator().manual_seed(0))
    assert (sites == sites[:, :1]).all() and sorted(sites[:5, 0].tolist()) == [0, 1, 2, 3, 4]
    starts = {int(Gibbs(1).draw(x, torch.Generator().manual_seed(s))[0][0, 0]) for s in range(40)}
    assert starts == {0, 1, 2, 3, 4}
    sites, u = Gibbs(200, "random").draw(x, torch.Generator().manual_seed(0))
    assert (sites[:, 0] != sites[:, 1]).any() and u.unique().numel() > 700
    assert sites.flatten().bincount(minlength=5).min() > 100


def test_a_nan_stops_the_chains():
    def broken(x):
        return torch.where(x[:, 0] > 0, torch.nan, x.sum(1))

    x = torch.zeros(3, 2)
    for kernel in (Gibbs(), DiscreteLangevin(5.0)):
        with pytest.raises(FloatingPointError):
            run_chains(kernel, broken, x, 20, torch.Generator().manual_seed(0))
    with pytest.raises(FloatingPointError, match="Gibbs cannot start at"):
        Gibbs().init(broken, x + 1)


@pytest.mark.parametrize(
    ("act", "error", "words"),
    [
        (lambda: Gibbs(0), ValueError, "num_sites must be at least 1, or null for a sweep"),
        (lambda: Gibbs(scan="sweep"), ValueError, "scan must be one of systematic, random"),
        (lambda: GibbsWithGradients("image"), ValueError, "domain must be binary or categorical"),
        (lambda: DiscreteLangevin(0.0), ValueError, "step_size must be positive"),
        (lambda: Gibbs(temperature=0.0), ValueError, "temperature must be a finite number, positive"),
        (lambda: BlockGibbs().check(Ising((2,))), UserError, "Ising does not have: choose energy=rbm"),
        (lambda: DiscreteLangevin(0.1).gaussian_precision(torch.ones(())), ValueError, "no Gaussian"),
        (lambda: check_domain("sampler", Gibbs(), "real"), UserError, "sampler=langevin"),
        (lambda: check_domain("sampler", Gibbs(), "categorical"), UserError, "sampler.domain=categorical"),
    ],
)
def test_mistakes_are_told_in_a_sentence(act, error, words):
    with pytest.raises(error, match=words):
        act()
