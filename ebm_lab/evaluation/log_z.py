"""How log Z of a trained model is estimated: the choices of the config group `log_z`."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_lab.domains import DISCRETE
from ebm_lab.energies import AnnealingPath, Energy, path_between
from ebm_lab.evaluation.annealed_importance import (
    climb,
    climb_back,
    forward_estimate,
    reverse_estimate,
    thermodynamic_integral,
)
from ebm_lab.evaluation.bridge import bennett
from ebm_lab.evaluation.discrete import MAX_TERMS, Summable, exact_log_partition, is_summable
from ebm_lab.evaluation.importance import importance_log_partition
from ebm_lab.evaluation.ladder import SCHEDULES, Ladder, check_exact, check_levels, linear
from ebm_lab.evaluation.partition import LogPartition
from ebm_lab.evaluation.pilot import pilot
from ebm_lab.evaluation.quadrature import Quadrature, normalise, placement
from ebm_lab.samplers import Kernel, run_chains

MAX_GRID_DIM = 3
PILOT_LEVELS = 100  # at most, where levels are given: step sizes between them are interpolated


class Question(NamedTuple):
    """A model whose log Z is asked for, and what is known about it.

    Attributes:
        energy: x -> E(x).
        noise: a fitted density that covers the model.
        x: held-out events of the law that the model learned.
        domain: of the data: real, image, nonnegative, unit, binary or categorical.
        half_width: half-width of a box that holds the data.
        num_points: an axis of a grid in two dimensions.
        generator: of all draws.
    """

    energy: Energy
    noise: nn.Module
    x: Float[Tensor, "num *shape"]
    domain: str
    half_width: float
    num_points: int
    generator: torch.Generator

    @property
    def path(self) -> AnnealingPath:
        """From the noise to the model: the energy's own, or the geometric one."""
        return path_between(self.noise, self.energy)


class Bracket(NamedTuple):
    """log Z from one side and, where there is one, from the other, and what keeps them from being believed.

    Attributes:
        estimate: log Z.
        reverse: the estimate that errs on the other side; None for rules that need none or have none.
        beside: further estimates of the same draws, by name.
        doubt: why no likelihood may be claimed, a sentence; None where nothing speaks against it.
        is_counted: whether enough effective samples stand behind the numbers for them to be shown at all.
        quadrature: the grid and the density on it, where there is one.
    """

    estimate: LogPartition
    reverse: LogPartition | None = None
    beside: Mapping[str, LogPartition] = {}
    doubt: str | None = None
    is_counted: bool = True
    quadrature: Quadrature | None = None

    @property
    def error(self) -> float:
        """Error bar that covers both sides: the estimate's own, or the way to the far end of the other."""
        if self.reverse is None:
            return self.estimate.error
        other = abs(self.reverse.value - self.estimate.value) + self.reverse.error
        return max(self.estimate.error, other)


def judged(
    estimate: LogPartition,
    reverse: LogPartition | None,
    beside: Mapping[str, LogPartition],
    min_effective: float,
    max_gap: float,
) -> Bracket:
    """The bracket, with a doubt where a side has too few effective samples or the sides disagree.

    Args:
        min_effective: effective samples that each side needs.
        max_gap: nats by which the sides may differ.
    """
    for side in filter(None, (estimate, reverse)):
        if side.effective_samples < min_effective:
            doubt = (
                f"log Z by {side.method} rests on {side.effective_samples:.1f} effective samples, and "
                f"{min_effective:g} are needed"
            )
            return Bracket(estimate, reverse, beside, doubt, is_counted=False)
    if reverse is not None and abs(reverse.value - estimate.value) > max_gap:
        doubt = (
            f"the two sides of log Z, {estimate.value:.4g} by {estimate.method} and {reverse.value:.4g} by "
            f"{reverse.method}, differ by {abs(reverse.value - estimate.value):.3g} nats, and {max_gap:g} "
            "are allowed"
        )
        return Bracket(estimate, reverse, beside, doubt)
    return Bracket(estimate, reverse, beside)


class LogZ(ABC):
    """A way to estimate log Z."""

    @abstractmethod
    def __call__(self, question: Question) -> Bracket:
        """The estimate; a `UserError` or `ValueError` says in a sentence why there is none."""


class ByQuadrature(LogZ):
    """The trapezoid rule, for points of at most three coordinates.

    Args:
        num_points: nodes an axis, odd; null takes as many nodes in all as evaluation.grid_points gives two
            axes.
    """

    def __init__(self, *, num_points: int | None = None) -> None:
        if num_points is not None and (num_points < 11 or num_points % 2 == 0):
            raise ValueError(f"num_points must be odd and at least 11, got {num_points}")
        self.num_points = num_points

    def __call__(self, question: Question) -> Bracket:
        """log Z on the box that holds the mass."""
        dim = math.prod(question.energy.shape)
        num_points = self.num_points or odd_root(question.num_points**2, dim)
        found = normalise(question.energy, question.half_width, num_points)
        return Bracket(found.log_z, quadrature=found)


class ByEnumeration(LogZ):
    """The sum over all events of discrete data, or a shorter one that the energy knows: up to 2^20 terms."""

    def __call__(self, question: Question) -> Bracket:
        """log Z, exactly."""
        if question.domain not in DISCRETE:
            raise ValueError(f"the events of {question.domain} data cannot be enumerated")
        if not is_summable(question.energy, question.domain):
            raise ValueError(
                f"log Z is a sum of more than {MAX_TERMS} terms: estimate it by annealing instead (log_z=ais)"
            )
        log_z = exact_log_partition(question.energy, question.domain, *placement(question.energy))
        if not math.isfinite(log_z):
            raise ValueError(f"log Z is {log_z} by enumeration: check the energy")
        return Bracket(LogPartition(log_z, 0.0, math.inf, "either", "summation"))


class ByClosedForm(LogZ):
    """The formula of an energy that knows one, such as that of a Gaussian."""

    def __call__(self, question: Question) -> Bracket:
        """log Z, exactly."""
        if not knows_log_partition(question.energy):
            raise ValueError(
                f"{type(question.energy).__name__} knows no formula for log Z: estimate it (log_z=auto)"
            )
        log_z = float(question.energy.log_partition().detach())
        if not math.isfinite(log_z):
            raise ValueError(f"log Z is {log_z} by its formula: check the energy")
        return Bracket(LogPartition(log_z, 0.0, math.inf, "either", "its closed form"))


def knows_log_partition(energy: Energy) -> bool:
    """Whether log Z is a formula of the energy's parameters, not a sum with a number of terms."""
    return hasattr(energy, "log_partition") and not isinstance(energy, Summable)


class ByImportance(LogZ):
    """Importance sampling from the run's noise.

    Args:
        num_draws: of the noise, at least 2.
        min_effective: fewer effective ones, and nothing is reported.
    """

    def __init__(self, *, num_draws: int = 50_000, min_effective: float = 1000) -> None:
        if num_draws < 2 or not 0 <= min_effective <= num_draws:
            raise ValueError(
                "importance sampling needs num_draws >= 2 and min_effective between 0 and num_draws, got "
                f"{num_draws} and {min_effective}"
            )
        self.num_draws = num_draws
        self.min_effective = min_effective

    def __call__(self, question: Question) -> Bracket:
        """log Z, without another side."""
        estimate = importance_log_partition(
            question.energy, question.noise, self.num_draws, question.generator
        )
        bracket = judged(estimate, None, {}, self.min_effective, math.inf)
        hint = "a noise more like the model, or annealing (log_z=ais), may do"
        return bracket if bracket.doubt is None else bracket._replace(doubt=f"{bracket.doubt}; {hint}")


class Automatic(LogZ):
    """Quadrature up to three coordinates, sums of up to 2^20 terms, the energy's own formula where it knows
    one, importance sampling beyond.

    Args:
        num_draws, min_effective: as of `ByImportance`.
    """

    def __init__(self, *, num_draws: int = 50_000, min_effective: float = 1000) -> None:
        self.beyond = ByImportance(num_draws=num_draws, min_effective=min_effective)

    def __call__(self, question: Question) -> Bracket:
        """By the first that fits."""
        shape = question.energy.shape
        if question.domain in DISCRETE and is_summable(question.energy, question.domain):
            return ByEnumeration()(question)
        if question.domain == "real" and len(shape) == 1 and shape[0] <= MAX_GRID_DIM:
            return ByQuadrature()(question)
        if knows_log_partition(question.energy):
            return ByClosedForm()(question)
        return self.beyond(question)


class AIS(LogZ):
    """Annealed importance sampling from the noise to the model, and the same in reverse.

    A pilot climb finds levels and step sizes, the measured one keeps them. The reverse starts from held-out
    events after `reverse_steps` steps at the model: only where these are exact events of the model does
    it bound log Z from above. Where both sides agree, Bennett's ratio of the two and the thermodynamic
    integral stand beside them.

    Args:
        kernel: exact, such as MALA or HMC; its step size is adapted.
        num_chains: chains of each climb, at least 2.
        num_temperatures: levels.
        schedule: of levels: adaptive (each loses as many effective chains as the others), linear or sigmoid.
        num_steps: of the kernel at each level.
        target_acceptance: that step sizes are adapted to.
        reverse_steps: of the kernel before the way down.
        min_effective: effective chains that each side needs.
        max_gap: nats by which the sides may differ for a likelihood to be claimed.

    Raises:
        ValueError: a kernel that is not exact, or numbers out of range.
    """

    def __init__(
        self,
        *,
        kernel: Kernel,
        num_chains: int = 200,
        num_temperatures: int = 1000,
        schedule: Literal["adaptive", "linear", "sigmoid"] = "adaptive",
        num_steps: int = 1,
        target_acceptance: float = 0.65,
        reverse_steps: int = 200,
        min_effective: float = 20,
        max_gap: float = 1.0,
    ) -> None:
        check_levels(num_temperatures)
        self.climbing = Climbing(kernel, num_steps, target_acceptance, reverse_steps, min_effective, max_gap)
        if num_chains < 2 or schedule not in ("adaptive", *SCHEDULES):
            raise ValueError(
                "ais needs num_chains >= 2 and a schedule that is adaptive, linear or sigmoid, got "
                f"{num_chains} and {schedule!r}"
            )
        self.num_chains = num_chains
        self.num_temperatures = num_temperatures
        self.schedule = schedule

    def __call__(self, question: Question) -> Bracket:
        """The climb and its reverse."""
        method = (
            f"annealed importance sampling, {self.num_chains} chains, {self.num_temperatures} temperatures"
        )
        return self.climbing.bracket(question, self._ladder(question), method, self.num_chains)

    def _ladder(self, question: Question) -> Ladder:
        if self.schedule == "adaptive":
            return self.climbing.ladder(question, self.num_chains).refined(self.num_temperatures)
        betas = SCHEDULES[self.schedule](self.num_temperatures)
        few = SCHEDULES[self.schedule](min(PILOT_LEVELS, self.num_temperatures))
        return Ladder(betas, self.climbing.ladder(question, self.num_chains, few).step_sizes_at(betas))


class SMC(LogZ):
    """Sequential Monte Carlo from the noise to the model in independent populations; in reverse, AIS.

    A pilot climb finds levels by bisection of CESS, and step sizes; the measured one keeps them.

    Args:
        kernel: exact, such as MALA or HMC; its step size is adapted.
        num_populations: independent ones, whose spread is the error bar, at least 2.
        population: chains of each, resampled where fewer than half are effective.
        share: of chains that stay effective from level to level (CESS / N), in (0, 1).
        num_steps, target_acceptance, reverse_steps, max_gap: as of `AIS`.
        min_effective: effective populations that are needed; in reverse, effective chains.

    Raises:
        ValueError: a kernel that is not exact, or numbers out of range.
    """

    def __init__(
        self,
        *,
        kernel: Kernel,
        num_populations: int = 20,
        population: int = 20,
        share: float = 0.99,
        num_steps: int = 1,
        target_acceptance: float = 0.65,
        reverse_steps: int = 200,
        min_effective: float = 5,
        max_gap: float = 1.0,
    ) -> None:
        self.climbing = Climbing(kernel, num_steps, target_acceptance, reverse_steps, min_effective, max_gap)
        if num_populations < 2 or population < 2 or not 0 < share < 1:
            raise ValueError(
                "smc needs num_populations >= 2, population >= 2 and a share between 0 and 1, got "
                f"{num_populations}, {population} and {share}"
            )
        self.num_populations = num_populations
        self.population = population
        self.share = share

    def __call__(self, question: Question) -> Bracket:
        """The climb with resampling, and a reverse without."""
        num_chains = self.num_populations * self.population
        ladder = self.climbing.ladder(question, num_chains, share=self.share)
        method = (
            f"sequential Monte Carlo, {self.num_populations} populations of {self.population}, "
            f"{ladder.num_levels} temperatures"
        )
        return self.climbing.bracket(question, ladder, method, num_chains, self.population)


class Climbing:
    """What AIS and SMC share: kernel, pilot, both ways, and the judgement.

    Raises:
        ValueError: a kernel that is not exact, or numbers out of range.
    """

    def __init__(
        self,
        kernel: Kernel,
        num_steps: int,
        target_acceptance: float,
        reverse_steps: int,
        min_effective: float,
        max_gap: float,
    ) -> None:
        self.kernel = check_exact(kernel)
        if num_steps < 1 or reverse_steps < 0 or not 0 < target_acceptance < 1:
            raise ValueError(
                "annealing needs num_steps >= 1, reverse_steps >= 0 and a target_acceptance between 0 and 1, "
                f"got {num_steps}, {reverse_steps} and {target_acceptance}"
            )
        if min_effective < 0 or not max_gap > 0:
            raise ValueError(
                f"min_effective must be at least 0 and max_gap positive, got {min_effective} and {max_gap}"
            )
        self.num_steps = num_steps
        self.target_acceptance = target_acceptance
        self.reverse_steps = reverse_steps
        self.min_effective = min_effective
        self.max_gap = max_gap

    def ladder(
        self,
        question: Question,
        num_chains: int,
        betas: tuple[float, ...] | None = None,
        share: float = 0.9,
    ) -> Ladder:
        """By the pilot climb."""
        return pilot(
            question.path,
            self.kernel.on(question.noise),
            num_chains,
            question.generator,
            betas=betas,
            share=share,
            target_acceptance=self.target_acceptance,
        )

    def bracket(
        self, question: Question, ladder: Ladder, method: str, num_chains: int, population: int = 1
    ) -> Bracket:
        """The measured climb, its reverse, and what stands beside them."""
        path, generator, num_steps = question.path, question.generator, self.num_steps
        kernel, jittered = self.kernel.on(question.noise), ladder.jittered(generator)
        up = climb(path, kernel, jittered, num_chains, generator, population=population, num_steps=num_steps)
        x = self._at_the_model(question, ladder, num_chains)
        down = climb_back(path, kernel, jittered, x, generator, num_steps=num_steps)
        estimate = forward_estimate(up, method)
        reverse = reverse_estimate(
            down,
            f"annealing {len(x)} held-out events after {self.reverse_steps} steps at the model in reverse",
        )
        beside = {}
        if up.integrals is not None:
            beside["log_z_bar"] = bennett(
                up.log_weights, down.log_weights, "Bennett's acceptance ratio of both ways"
            )
            beside["log_z_ti"] = thermodynamic_integral(up)
        return judged(estimate, reverse, beside, self.min_effective, self.max_gap)

    def _at_the_model(self, question: Question, ladder: Ladder, num_chains: int) -> Tensor:
        """Held-out events after steps at the model, of the last level's size."""
        num = self.reverse_steps + 1
        sizes = None if ladder.step_sizes is None else ladder.step_sizes[-1:] * (num + 1)
        ladder = Ladder(linear(num), sizes).jittered(question.generator)
        kernel = ladder.stepping(self.kernel.on(question.noise))
        start = question.x[:num_chains]
        return run_chains(kernel, question.energy, start, self.reverse_steps, question.generator).x


def odd_root(num_nodes: int, dim: int) -> int:
    """Nodes an axis so that there are about `num_nodes` in all: odd, at least 11.

    Example:
        >>> odd_root(201**2, 2), odd_root(201**2, 3)
        (201, 35)
    """
    return max(2 * round((num_nodes ** (1 / dim) - 1) / 2) + 1, 11)
