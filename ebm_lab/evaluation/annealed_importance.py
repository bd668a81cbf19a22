"""Annealed importance sampling, the same in reverse, and sequential Monte Carlo: one climb for all three."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_lab.energies import AnnealingPath, frozen
from ebm_lab.evaluation.ladder import Ladder, check_exact
from ebm_lab.evaluation.partition import LogPartition, from_log_weights
from ebm_lab.samplers import Kernel, State
from ebm_lab.samplers.weights import effective_share, log_mean_exp, systematic

RESAMPLE_BELOW = 0.5  # of a population's size, in effective samples


class Climb(NamedTuple):
    """What a climb leaves, detached.

    Attributes:
        log_weights: log w of each population, log Z_0 included, in float64: independent, E[w] = Z.
        integrals: of each chain, the trapezoid rule for log Z_0 - ∫ dE_β/dβ dβ along it, in float64; None
            for populations of more than one chain.
        x: the events at the end, after moves at the last level.
        acceptance: mean acceptance of the moves at each level; None where the kernel has none.
    """

    log_weights: Float[Tensor, " populations"]
    integrals: Float[Tensor, " chains"] | None
    x: Float[Tensor, "chains *shape"]
    acceptance: Float[Tensor, " levels"] | None


def climb(
    path: AnnealingPath,
    kernel: Kernel,
    ladder: Ladder,
    num_chains: int,
    generator: torch.Generator | None,
    *,
    population: int = 1,
    num_steps: int = 1,
) -> Climb:
    """Climb from exact draws of p_0 to the model: AIS, or SMC where chains form populations.

        x_0 ~ p_0;   log w += E_{β_{k-1}}(x_{k-1}) - E_{β_k}(x_{k-1});   x_k ~ K_{β_k}(. | x_{k-1}),  k = 1..K

    where K_β leaves p_β invariant. E[w] = Z / Z_0 for any such kernel, however badly it mixes. In
    populations of n > 1 chains, w is the population's: chains are resampled (systematically) by their
    weights where ESS < n/2, w is the product of the mean weights since the last time, and still
    E[w] = Z / Z_0. Populations are independent of one another, so their spread is an honest error bar.

    Args:
        path: of energies.
        kernel: exact, at temperature 1; its step size is the ladder's.
        ladder: levels and step sizes, fixed beforehand: numbers adapted in the same pass would bias w.
        num_chains: in all, divisible by `population`.
        population: chains that are resampled among themselves; 1 is annealed importance sampling.
        num_steps: steps of the kernel at each level.

    Raises:
        ValueError: a kernel that is not exact, or numbers out of range.
    Cost: at each level one energy (with its gradient where the kernel keeps it) beside the kernel's steps;
        the weights themselves are free where the kernel keeps E. Nothing but the kernel waits for the device.
    Reference: Neal, Annealed importance sampling, Statistics and Computing 2001, arXiv physics/9803008,
        equations 5 to 11; Del Moral, Doucet & Jasra, Sequential Monte Carlo samplers, JRSS B 2006, section
        3; resampling by a threshold keeps Ẑ unbiased: Whiteley, Lee & Heine, Bernoulli 2016.
    """
    if population < 1 or num_steps < 1 or num_chains < 1 or num_chains % population:
        raise ValueError(
            "annealing needs num_steps >= 1 and num_chains divisible by population, got "
            f"{num_steps}, {num_chains} and {population}"
        )
    kernel, betas = ladder.stepping(check_exact(kernel)), ladder.betas
    with torch.no_grad(), frozen(path(0.0), path(1.0)):
        state = State(path.sample(num_chains, generator), None, None, 0)
        populations = _Populations(state.x, population)
        integrals = state.x.new_full((num_chains,), path.log_z_start, dtype=torch.float64)
        acceptance = []
        for level in range(1, len(betas)):
            energy = path(betas[level])
            following = kernel.init(energy, state.x)
            increment = _log_weight(path, state, following, betas[level - 1], betas[level])
            integrals.add_(increment, alpha=_trapezoid(betas, level - 1))
            following = populations.weighted(increment, following, generator)
            state, accepted = _moved(kernel, energy, following, level, num_steps, generator)
            acceptance.append(accepted)
        last = path.weigh(state.x, betas[-1])(betas[-2]).double()
        integrals.sub_(last, alpha=_trapezoid(betas, len(betas) - 1))
    return Climb(
        populations.log_weights() + path.log_z_start,
        integrals if population == 1 else None,
        state.x,
        None if acceptance[0] is None else torch.stack(acceptance),
    )


def climb_back(
    path: AnnealingPath,
    kernel: Kernel,
    ladder: Ladder,
    x: Float[Tensor, "chains *shape"],
    generator: torch.Generator | None,
    *,
    num_steps: int = 1,
) -> Climb:
    """The climb in reverse, from events of the model down to p_0, with the weights of the way up.

        x_K = x;   x_{k-1} ~ K_{β_k}(. | x_k);   log w += E_{β_{k-1}}(x_{k-1}) - E_{β_k}(x_{k-1}),  k = K..1

    For x ~ p exactly, E[1/w] = Z_0 / Z, and so E[log w] ≥ log Z / Z_0: the other side of the bracket.
    For any other x it is a number near log Z that bounds nothing: where x misses a mode that the model
    has, both sides can miss it together. Kernels must be reversible, as MALA, HMC and independence are.

    Args:
        x: events of the model, one a chain; exact ones for a bound.
        others: as of `climb`; `integrals` of the result is None.

    Reference: Grosse, Ghahramani & Adams 2015, arXiv:1511.02543, section 3 (bidirectional Monte Carlo).
    """
    kernel, betas = ladder.stepping(check_exact(kernel)), ladder.betas
    log_weights = x.new_full((len(x),), path.log_z_start, dtype=torch.float64)
    acceptance = []
    with torch.no_grad(), frozen(path(0.0), path(1.0)):
        energy = path(betas[-1])
        state = kernel.init(energy, x.detach())
        for level in range(len(betas) - 1, 0, -1):
            state, accepted = _moved(kernel, energy, state, level, num_steps, generator)
            acceptance.append(accepted)
            energy = path(betas[level - 1])
            following = kernel.init(energy, state.x) if level > 1 else State(state.x, None, None, 0)
            log_weights.sub_(_log_weight(path, state, following, betas[level], betas[level - 1]))
            state = following
    accepted = None if acceptance[0] is None else torch.stack(acceptance[::-1])
    return Climb(log_weights, None, state.x, accepted)


def reverse_log_prob(
    path: AnnealingPath,
    kernel: Kernel,
    ladder: Ladder,
    x: Float[Tensor, "events *shape"],
    generator: torch.Generator | None,
    *,
    chains_per_event: int = 1,
    num_steps: int = 1,
) -> Float[Tensor, " events"]:
    """RAISE: log p̂(x) of given events, conservative: E p̂(x) = p_ann(x), the density of the climb's end.

        log p̂(x) = log (1/M) Σ_m exp(-E(x)) / w_m,   w_m by `climb_back` from x

    p_ann is the law of events that `climb` (without resampling) ends with. It tends to the model's as levels
    are added, and E log p̂(x) ≤ log p_ann(x), whatever x: no model sample is needed.

    Cost: chains_per_event climbs of one chain an event.
    Reference: Burda, Grosse & Salakhutdinov, Accurate and conservative estimates of MRF log-likelihood using
        reverse annealing, AISTATS 2015, arXiv:1412.8566, equations 12 to 14.
    """
    repeated = x.repeat_interleave(chains_per_event, 0)
    log_weights = climb_back(path, kernel, ladder, repeated, generator, num_steps=num_steps).log_weights
    with torch.no_grad(), frozen(path(1.0)):
        log_prob = -path(1.0)(repeated).double() - log_weights
    return log_prob.view(len(x), -1).logsumexp(1) - math.log(chains_per_event)


def thermodynamic_integral(annealed: Climb) -> LogPartition:
    """log Z = log Z_0 - ∫ E_β[dE_β/dβ] dβ by the trapezoid rule over the levels of a climb, for free.

    Exact for chains in equilibrium and many levels. Chains that lag behind β err low on a geometric path,
    where log Z_β is convex; on another path dE/dβ is a difference of neighbouring levels. Error bar: standard
    error over chains, which does not see the lag.

    Reference: Gelman & Meng, Simulating normalizing constants, Statistical Science 1998, equation 6.
    """
    values = annealed.integrals
    error = float(values.std()) / len(values) ** 0.5
    return LogPartition(float(values.mean()), error, len(values), "low", "thermodynamic integration")


def forward_estimate(annealed: Climb, method: str) -> LogPartition:
    """log (1/n) Σ w of a climb: errs low."""
    return from_log_weights(annealed.log_weights, method)


def reverse_estimate(annealed: Climb, method: str) -> LogPartition:
    """-log (1/n) Σ 1/w of a climb in reverse: errs high where the starts were exact events of the model."""
    return from_log_weights(annealed.log_weights, method, "high")


def _moved(
    kernel: Kernel,
    energy: object,
    state: State,
    level: int,
    num_steps: int,
    generator: torch.Generator | None,
) -> tuple[State, Tensor | None]:
    """Steps at one level, whose number is the step that step-size schedules see; their mean acceptance."""
    total = None
    for _ in range(num_steps):
        state, info = kernel.step(energy, state._replace(step=level), generator)
        if info.acceptance is not None:
            mean = info.acceptance.mean() / num_steps
            total = mean if total is None else total + mean
    return state, total


def _log_weight(
    path: AnnealingPath, state: State, following: State, beta: float, next_beta: float
) -> Float[Tensor, " chains"]:
    """E_β(x) - E_β'(x) in float64, from what the kernel knows already where it keeps energies."""
    if state.energy is not None and following.energy is not None:
        return (state.energy - following.energy).double()
    return path.weigh(state.x, beta)(next_beta).double()


def _trapezoid(betas: tuple[float, ...], level: int) -> float:
    """Weight of the increment at a level: half the neighbouring gaps over the gap that it was taken over."""
    before = betas[level] - betas[level - 1] if level > 0 else 0.0
    after = betas[level + 1] - betas[level] if level < len(betas) - 1 else 0.0
    return (before + after) / (2 * (after if level < len(betas) - 1 else before))


class _Populations:
    """Log weights of chains within their populations, and of the populations at their last resampling."""

    def __init__(self, x: Tensor, size: int) -> None:
        self.size = size
        self.of_chains = x.new_zeros(len(x) // size, size, dtype=torch.float64)
        self.before = x.new_zeros(len(x) // size, dtype=torch.float64)

    def weighted(self, increment: Tensor, state: State, generator: torch.Generator | None) -> State:
        """Take the increments in, and resample the populations that need it."""
        self.of_chains += increment.view(-1, self.size)
        if self.size == 1:
            return state
        degenerate = effective_share(self.of_chains) < RESAMPLE_BELOW
        u = torch.rand(len(self.before), generator=generator, dtype=torch.float64, device=self.before.device)
        drawn = systematic(self.of_chains, u)
        own = torch.arange(self.size, device=drawn.device).expand_as(drawn)
        first = torch.arange(len(drawn), device=drawn.device)[:, None] * self.size
        parents = (first + torch.where(degenerate[:, None], drawn, own)).flatten()
        self.before += torch.where(degenerate, log_mean_exp(self.of_chains), 0.0)
        self.of_chains = self.of_chains.masked_fill(degenerate[:, None], 0.0)
        picked = [None if kept is None else kept[parents] for kept in (state.x, state.energy, state.gradient)]
        return State(*picked, state.step)

    def log_weights(self) -> Float[Tensor, " populations"]:
        return self.before + log_mean_exp(self.of_chains)
