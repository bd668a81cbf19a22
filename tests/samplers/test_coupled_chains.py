"""Coupled chains: laws of either chain, meetings that last, and an estimate without bias, exactly."""

import math

import pytest
import torch

from ebm_lab.energies import RBM, Ising, Potts, all_states, enumerated
from ebm_lab.samplers import (
    HMC,
    MALA,
    BlockGibbs,
    CoupledFiniteChain,
    CoupledJumps,
    CoupledLangevin,
    CoupledMALA,
    Geometric,
    Gibbs,
    Independence,
    Langevin,
    coupled,
    run_coupled_chains,
)

F64 = torch.float64
TWO_STATES = torch.tensor([[0.7, 0.3], [0.2, 0.8]], dtype=F64)
NUM = 20_000


def name(kernel):
    return f"{type(kernel).__name__}-T{kernel.temperature:g}"


def quadratic(precision):
    return lambda x: 0.5 * (precision * x.square()).flatten(1).sum(1)


def double_well(x):
    return (x.square() - 1).square().flatten(1).sum(1)


def starts_at_zero(num):
    return torch.tensor([1.0, 0.0], dtype=F64).expand(num, 2)


def exact_estimate(transition, burn_in, num_steps, max_steps):
    """E[H_{k:m}] of h(x) = 1{x = 1} from X₀ = Y₀ = 0, and E[τ], by the joint law of (X_t, Y_{t-1})."""
    length = num_steps - burn_in + 1
    law_x = torch.tensor([1.0, 0.0], dtype=F64)
    pair = torch.outer(law_x @ transition, law_x)  # (X₁, Y₀)
    mean, meeting = 0.0 if burn_in else law_x[1] / length, 1.0
    for step in range(1, max_steps + 1):
        law_x = law_x @ transition
        apart = pair - torch.diag(pair.diagonal())
        meeting += apart.sum()  # P(τ > step)
        if burn_in <= step <= num_steps:
            mean += law_x[1] / length
        if step > burn_in:
            mean += min(1.0, (step - burn_in) / length) * (apart[1].sum() - apart[:, 1].sum())
        pair = sum(apart[i, j] * maximal(transition[i], transition[j]) for i in (0, 1) for j in (0, 1))
    return float(mean), float(meeting)


def maximal(p, q):
    """The joint law of the maximal coupling: the overlap on the diagonal, the residuals independent."""
    overlap = torch.minimum(p, q)
    distance = 1 - overlap.sum()
    if distance < 1e-15:
        return torch.diag(overlap)
    return torch.diag(overlap) + torch.outer(p - overlap, q - overlap) / distance


@pytest.mark.parametrize(("burn_in", "num_steps"), [(0, 1), (0, 3), (2, 2), (1, 6)])
def test_two_states_by_enumeration(burn_in, num_steps):
    mean, meeting = exact_estimate(TWO_STATES, burn_in, num_steps, 200)
    assert mean == pytest.approx(0.6, abs=1e-12)
    assert meeting == pytest.approx(1.6, abs=1e-12)


def test_a_cap_leaves_the_law_after_so_many_steps():
    for cap in (1, 2, 5):
        mean, _ = exact_estimate(TWO_STATES, 0, 1, cap)
        expected = torch.linalg.matrix_power(TWO_STATES, cap)[0, 1].item()
        assert mean == pytest.approx(expected, abs=1e-12)


def simulate(kernel, energy, start, h, seeds=range(20), **steps):
    """Mean and standard error of the estimate over independent batches, and all meeting times."""
    found, times, capped = [], [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        chains = run_coupled_chains(kernel, energy, start, generator, **steps)
        assert chains.weights.sum().item() == pytest.approx(1.0, abs=1e-9)
        found.append((chains.weights * h(chains.x)).sum().item())
        times.append(chains.meeting_times)
        capped.append(chains.capped)
    found = torch.tensor(found, dtype=F64)
    return found.mean().item(), (found.std() / len(found) ** 0.5).item(), torch.cat(times), torch.cat(capped)


@pytest.mark.parametrize(("burn_in", "num_steps"), [(0, 1), (2, 4)])
def test_two_states_by_the_loop(burn_in, num_steps):
    """E[H] = .6 and E[τ] = 1.6 within 4 standard errors; off by one lag they are .5 or 2.6."""
    mean, error, times, capped = simulate(
        CoupledFiniteChain(TWO_STATES), None, starts_at_zero(1000), lambda x: x[:, 1],
        burn_in=burn_in, num_steps=num_steps, max_steps=1000,
    )  # fmt: skip
    assert abs(mean - 0.6) < 4 * error and error < 0.01
    times = times.double()
    assert abs(times.mean() - 1.6) < 4 * times.std() / math.sqrt(len(times))
    assert not capped.any()


def test_the_loop_cut_short_has_the_law_of_its_cap():
    mean, error, times, capped = simulate(
        CoupledFiniteChain(TWO_STATES), None, starts_at_zero(1000), lambda x: x[:, 1],
        burn_in=0, num_steps=1, max_steps=2,
    )  # fmt: skip
    assert abs(mean - torch.linalg.matrix_power(TWO_STATES, 2)[0, 1].item()) < 4 * error
    share = 0.3 * 0.5  # apart after the first step, and again after the second
    assert abs(capped.double().mean() - share) < 4 * math.sqrt(share * (1 - share) / len(capped))
    assert times.max() == 2 and (times[capped] == 2).all()


@pytest.mark.parametrize("coupling", ["reflection", "maximal"])
@pytest.mark.parametrize("kernel", [Langevin(0.2), MALA(0.4), MALA(0.4, 2.0)], ids=name)
def test_gaussian_second_moment_without_bias(kernel, coupling):
    """Chains far from stationary, at x = 2, give the stationary variance of their own kernel."""
    T = kernel.temperature
    expected = T / (1 - 0.2 / 2) if isinstance(kernel, Langevin) else T
    start = torch.full((1000, 1), 2.0, dtype=F64)
    mean, error, times, capped = simulate(
        coupled(kernel, coupling), quadratic(1.0), start, lambda x: x.square()[:, 0],
        burn_in=1, num_steps=3, max_steps=1000,
    )  # fmt: skip
    assert abs(mean - expected) < 4 * error and error < 0.1
    assert not capped.any() and times.min() >= 1


def test_a_double_well_from_one_side():
    """E[x] = 0 from starts in one well, where plain chains of as many steps say .77."""
    start = torch.ones(2000, 1, dtype=F64)
    mean, error, times, _ = simulate(
        coupled(MALA(0.3)), double_well, start, lambda x: x[:, 0], burn_in=0, num_steps=2, max_steps=10_000
    )
    assert abs(mean) < 4 * error and error < 0.2


class Box:
    """The uniform density on [-2, 2]."""

    def sample(self, num, generator):
        return 4 * torch.rand(num, 1, generator=generator, dtype=F64) - 2

    def log_prob(self, x):
        return torch.full((len(x),), -math.log(4.0), dtype=F64)


def test_jumps_bring_pairs_of_steep_wells_together():
    """E[x] = 0 of wells that MALA does not leave: 12 times the double well, whose barrier is 12."""

    def steep(x):
        return 12 * double_well(x)

    start = torch.ones(2000, 1, dtype=F64)
    local = coupled(MALA(0.02))
    jumping = CoupledJumps(local, Independence(Box()), 1)
    steps = {"burn_in": 0, "num_steps": 2, "max_steps": 1000}
    mean, error, times, capped = simulate(jumping, steep, start, lambda x: x[:, 0], **steps)
    assert abs(mean) < 4 * error and error < 0.05
    assert not capped.any() and times.double().mean() < 20
    mean, error, *_ = simulate(local, steep, start, lambda x: x[:, 0], seeds=range(4), **steps)
    assert mean > 0.8


def test_a_pair_whose_chains_take_the_same_jump_has_met(generator):
    """Where q is the model every proposal is taken, so that all pairs meet in their first joint step."""
    kernel = CoupledJumps(coupled(MALA(0.1)), Independence(Box()), 1)
    starts = (torch.full((50, 1), place, dtype=F64) for place in (-1.0, 1.5))
    x, y = (kernel.init(flat, start) for start in starts)
    x, y, _ = kernel.step_pair(flat, x, y, generator)
    assert torch.equal(x.x, y.x) and len(x.x.unique()) == 50
    assert torch.equal(x.gradient, y.gradient) and x.step == 1


def flat(x):
    return 0 * x.sum(1)


@pytest.mark.parametrize("make", [CoupledLangevin, CoupledMALA])
@pytest.mark.parametrize("coupling", ["reflection", "maximal"])
def test_either_chain_of_a_pair_moves_by_the_kernel_alone(make, coupling, generator):
    """First two moments after a joint step are those of lone chains from the same place."""
    kernel = (Langevin if make is CoupledLangevin else MALA)(0.3)
    pair = make(kernel, coupling)
    x, y = (pair.init(double_well, torch.full((NUM, 2), v, dtype=F64)) for v in (0.4, 0.9))
    for state, after in zip((x, y), pair.step_pair(double_well, x, y, generator)[:2], strict=True):
        alone, _ = kernel.step(double_well, state, generator)
        for moment in (lambda v: v, torch.square, lambda v: v.prod(1, keepdim=True)):
            a, b = moment(after.x), moment(alone.x)
            error = ((a.var(0) + b.var(0)) / NUM).sqrt()
            assert ((a.mean(0) - b.mean(0)).abs() < 4 * error).all()


@pytest.mark.parametrize("kernel", [Langevin(0.3), MALA(0.3)], ids=name)
def test_one_step_meets_with_the_overlap_of_its_proposals(kernel, generator):
    """2 Φ(-‖Δ‖/2s), times the chance that MALA takes the common proposal twice."""
    pair, energy = coupled(kernel), quadratic(1.0)
    x, y = (pair.init(energy, torch.full((NUM, 1), v, dtype=F64)) for v in (0.2, 0.7))
    after_x, after_y, _ = pair.step_pair(energy, x, y, generator)
    met = (after_x.x == after_y.x).double().mean().item()
    h, s = 0.3, math.sqrt(0.6)
    overlap = math.erfc(0.5 * (1 - h) / (2 * s) / math.sqrt(2))
    if isinstance(kernel, MALA):  # by quadrature: log α = -(h/4)(y² - x²), min over both of min(1, α)
        grid = torch.linspace(-8, 8, 200_001, dtype=F64)
        densities = [torch.distributions.Normal(v * (1 - h), s).log_prob(grid).exp() for v in (0.2, 0.7)]
        taken = [(-h / 4 * (grid.square() - v * v)).clamp(max=0).exp() for v in (0.2, 0.7)]
        overlap = torch.trapezoid(torch.minimum(*densities) * torch.minimum(*taken), grid).item()
    assert abs(met - overlap) < 4 * math.sqrt(overlap * (1 - overlap) / NUM)


@pytest.mark.parametrize("kernel", [Langevin(0.02), MALA(0.3)], ids=name)
def test_pairs_that_stand_together_stay_together(kernel, generator):
    pair = coupled(kernel)
    x = pair.init(double_well, 0.5 * torch.randn(200, 2, generator=generator, dtype=F64))
    y = x
    for _ in range(20):
        x, y, _ = pair.step_pair(double_well, x, y, generator)
        assert torch.equal(x.x, y.x)


def test_pairs_meet_at_times_of_their_own(generator):
    """Starts near and far in one batch: the near pairs' times are those of a batch without the far ones."""
    start = torch.cat([torch.zeros(4000, 1, dtype=F64), torch.full((4000, 1), 6.0, dtype=F64)])
    kernel, energy, steps = coupled(MALA(0.1)), double_well, dict(burn_in=0, num_steps=2, max_steps=2000)
    both = run_coupled_chains(kernel, energy, start, generator, **steps).meeting_times.double()
    near = run_coupled_chains(kernel, energy, start[:4000], generator, **steps).meeting_times.double()
    error = math.sqrt((both[:4000].var() + near.var()) / 4000)
    assert abs(both[:4000].mean() - near.mean()) < 4 * error
    assert abs(both[4000:].mean() - near.mean()) > 10 * error


def randomised(energy, scale):
    """Large couplings, so that no conditional is near ½."""
    generator = torch.Generator().manual_seed(3)
    for parameter in energy.double().parameters():
        parameter.data = scale * torch.randn(parameter.shape, generator=generator, dtype=F64)
    return energy.requires_grad_(False)


SPINS = randomised(Ising((3,), field=True), 0.6)
DISCRETE = {
    "block": (BlockGibbs(), randomised(RBM((3,), num_hidden=2), 1.5), "binary"),
    "site": (Gibbs(num_sites=1, scan="random", temperature=1.5), SPINS, "binary"),
    "sweep": (Gibbs(), SPINS, "binary"),
    "twice": (Gibbs(num_sites=5, scan="random"), SPINS, "binary"),
    "classes": (Gibbs(domain="categorical"), randomised(Potts((2, 3)), 0.8), "categorical"),
}  # fmt: skip
discrete = pytest.mark.parametrize("which", DISCRETE)


def states_of(energy, domain):
    return torch.cat(list(all_states(energy.shape, domain)))


def layer_tables(rbm):
    """p(h | v), (v, h), and p(v | h), (h, v), of an RBM of 3 and 2 units."""
    states, hidden = states_of(rbm, "binary"), states_of(Ising((2,)), "binary")
    p, q = rbm.hidden_logits(states).sigmoid()[:, None], rbm.visible_logits(hidden).sigmoid()[:, None]
    return torch.where(hidden == 1, p, 1 - p).prod(2), torch.where(states == 1, q, 1 - q).prod(2)


def test_either_chain_of_a_pair_of_layers_moves_by_the_kernel_alone(generator):
    """From the first and the last state: where the pair lands, against p(v' | v) = Σ_h p(h | v) p(v' | h).

    Frequencies of all 8 states within 4 standard errors: 1 false alarm in a thousand for all of them.
    """
    kernel, rbm, _ = DISCRETE["block"]
    states, pair = states_of(rbm, "binary"), coupled(kernel)
    of_hidden, of_visible = layer_tables(rbm)
    transition = of_hidden @ of_visible
    starts = [pair.init(rbm, states[row].expand(NUM, 3)) for row in (0, -1)]
    for row, after in zip((0, -1), pair.step_pair(rbm, *starts, generator)[:2], strict=True):
        found = (after.x[:, None] == states).all(2).double().mean(0)
        p = transition[row]
        assert ((found - p).abs() <= 4 * (p * (1 - p) / NUM).sqrt()).all()


@pytest.mark.parametrize("which", ["site", "sweep", "twice", "classes"])
def test_either_chain_of_a_gibbs_pair_is_a_lone_chain_of_the_same_draws(which):
    kernel, energy, domain = DISCRETE[which]
    states, pair = states_of(energy, domain), coupled(kernel)
    starts = [pair.init(energy, states[row].expand(100, *energy.shape)) for row in (0, -1)]
    same = lambda: torch.Generator().manual_seed(5)  # noqa: E731
    for start, after in zip(starts, pair.step_pair(energy, *starts, same())[:2], strict=True):
        alone, _ = kernel.step(energy, start, same())
        assert torch.equal(after.x, alone.x) and (after.x != start.x).any()
        torch.testing.assert_close(after.energy, energy(after.x))


@discrete
def test_discrete_pairs_that_stand_together_stay_together(which, generator):
    kernel, energy, domain = DISCRETE[which]
    states, pair = states_of(energy, domain), coupled(kernel)
    x = y = pair.init(energy, states.repeat(50, *[1] * len(energy.shape)))
    for _ in range(10):
        x, y, _ = pair.step_pair(energy, x, y, generator)
        assert torch.equal(x.x, y.x)


def test_layers_meet_as_often_as_the_drawn_hidden_layers_allow(generator):
    """Σ over (h, h') of their law under uniforms in common, times Σ_v min(p(v | h), p(v | h'))."""
    kernel, rbm, _ = DISCRETE["block"]
    states, hidden = states_of(rbm, "binary"), states_of(Ising((2,)), "binary")
    p, q = rbm.hidden_logits(states[[0, -1]]).sigmoid()
    overlaps = torch.minimum(*(layer_tables(rbm)[1][side] for side in (slice(None), (slice(None), None))))
    # of units (h_j, h'_j): both 1 with min(p, q), one alone with what its probability has more
    units = torch.stack(
        [1 - torch.maximum(p, q), (q - p).clamp(min=0), (p - q).clamp(min=0), torch.minimum(p, q)]
    )
    kinds = (2 * hidden[:, None] + hidden).long()
    expected = (units.gather(0, kinds.view(-1, 2)).prod(1) * overlaps.sum(2).flatten()).sum().item()
    pair = coupled(kernel)
    starts = [pair.init(rbm, states[row].expand(NUM, 3)) for row in (0, -1)]
    x, y, _ = pair.step_pair(rbm, *starts, generator)
    met = (x.x == y.x).all(1).double().mean().item()
    assert abs(met - expected) < 4 * math.sqrt(expected * (1 - expected) / NUM) and 0.1 < expected < 0.9


def test_events_that_differ_in_one_site_meet_when_it_is_visited(generator):
    """Their conditionals are one there: 1 in 3 steps of one site."""
    kernel, energy, _ = DISCRETE["site"]
    pair = coupled(kernel)
    starts = [pair.init(energy, torch.tensor(v, dtype=F64).expand(NUM, 3)) for v in ((0, 1, 1), (0, 0, 1))]
    x, y, _ = pair.step_pair(energy, *starts, generator)
    met = (x.x == y.x).all(1).double().mean().item()
    assert abs(met - 1 / 3) < 4 * math.sqrt(2 / 9 / NUM)


@discrete
def test_discrete_means_without_bias(which):
    """E[Σ_i i x_i] under the law, from starts in one corner, within 4 standard errors.

    They are of batches, as a systematic scan starts at one site for a whole batch.
    """
    kernel, energy, domain = DISCRETE[which]
    states = states_of(energy, domain)
    law = (-enumerated(energy, energy.shape, domain) / kernel.temperature).softmax(0)
    weights = torch.arange(1, states[0].numel() + 1, dtype=F64)
    expected = law @ states.flatten(1) @ weights
    start = states[0].expand(400, *energy.shape)
    mean, error, _, capped = simulate(
        coupled(kernel), energy, start, lambda x: x.flatten(1) @ weights,
        burn_in=0, num_steps=2, max_steps=10_000, seeds=range(40),
    )  # fmt: skip
    assert abs(mean - expected) < 4 * error and error < 0.1
    assert not capped.any()


def test_what_cannot_be_coupled_is_refused():
    for kernel in (BlockGibbs(), Gibbs()):
        with pytest.raises(ValueError, match="has one coupling, and Gaussian .* set objective.coupling=null"):
            coupled(kernel, "maximal")
    with pytest.raises(ValueError, match="HMC has no coupled form: choose sampler=mala"):
        coupled(HMC(0.1))
    for kernel in (Langevin(0.1, clamp=(-1, 1)), Langevin(0.1, 0.0), MALA(Geometric(0.1, 0.01, 5))):
        with pytest.raises(ValueError, match="one law for all steps"):
            coupled(kernel)
    with pytest.raises(ValueError, match="coupling must be one of reflection, maximal, got 'common'"):
        coupled(MALA(0.1), "common")
    with pytest.raises(ValueError, match="rows sum to 1"):
        CoupledFiniteChain(torch.ones(2, 2))
    with pytest.raises(ValueError, match="max_steps must be at least num_steps=3"):
        run_coupled_chains(coupled(MALA(0.1)), double_well, torch.zeros(1, 1), None,
                           burn_in=0, num_steps=3, max_steps=2)  # fmt: skip
