"""The final evaluation of a run: every number that can be known about it, and nothing that cannot."""

import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ebm_lab.data import Density, InMemoryData
from ebm_lab.data.seeding import seeded_generator
from ebm_lab.domains import DISCRETE
from ebm_lab.energies import Energy, ScoreNetwork, enumerated, frozen, num_states, score
from ebm_lab.evaluation.anomalies import detection
from ebm_lab.evaluation.conservativity import score_asymmetry
from ebm_lab.evaluation.discrete import (
    MAX_TERMS,
    enumerated_kl,
    negative_log_pseudolikelihood,
)
from ebm_lab.evaluation.divergences import (
    fisher_divergence,
    grid_entropy,
    grid_kl,
    median_bandwidths,
    mmd,
    score_matching_loss,
)
from ebm_lab.evaluation.energies import energy_gap, evaluate_in_chunks
from ebm_lab.evaluation.likelihood import ask, below_the_entropy, box_of, by_learned_constant, of_model
from ebm_lab.evaluation.log_z import Bracket, LogZ, knows_log_partition
from ebm_lab.evaluation.measurement import Measurement, mean_and_error
from ebm_lab.evaluation.quadrature import Grid
from ebm_lab.noise import Bernoulli, Categorical, Gaussian
from ebm_lab.objectives import Objective
from ebm_lab.samplers import Kernel

EVALUATING = 4  # random stream of a seed
FLOOR = "no nll can be lower in expectation"
MAX_SECOND_DERIVATIVES = 64  # numbers of an event up to which the score's Jacobian is taken
JACOBIANS = 500  # events whose Jacobians tell the asymmetry of a score
PER_CLASS = 10  # samples of each class, where the model has classes
PSEUDO_EVENTS, PSEUDO_SITES = 500, 100  # behind the pseudo-likelihood; with more sites, so many are drawn


class Findings(NamedTuple):
    """Numbers, what to know about them, and the samples and densities that the pictures are made of.

    Attributes:
        log_density: of the model on `grid`, normalised on R² or, where that is impossible, on the grid.
        of_classes: samples of each class (classes, num, *shape), where the model has classes.
    """

    measurements: list[Measurement]
    notes: list[str]
    samples: Tensor
    grid: Grid | None
    log_density: Tensor | None
    of_classes: Tensor | None = None


class Evaluation:
    """What is measured at the end of a run.

    Args:
        kernel: draws the samples, where the objective has no way of its own.
        log_z: how log Z is estimated.
        num_steps: its steps, from the run's noise.
        num_samples: how many samples are drawn and how many held-out events they are compared with.
        grid_points: points an axis of a grid in two dimensions; in one and three, as many nodes in all.
        seed: of the generator; evaluation never touches the training's.

    Raises:
        ValueError: for a number out of its range.
    """

    def __init__(
        self,
        *,
        kernel: Kernel,
        log_z: LogZ,
        num_steps: int = 500,
        num_samples: int = 2000,
        grid_points: int = 201,
        seed: int = 0,
    ) -> None:
        if num_steps < 1 or num_samples < 3 or grid_points < 11 or grid_points % 2 == 0:
            raise ValueError(
                "evaluation needs num_steps >= 1, num_samples >= 3 and an odd grid_points >= 11, got "
                f"{num_steps}, {num_samples} and {grid_points}"
            )
        self.kernel = kernel
        self.num_steps = num_steps
        self.num_samples = num_samples
        self.grid_points = grid_points
        self.log_z = log_z
        self.seed = seed

    def __call__(self, objective: Objective, data: InMemoryData) -> Findings:
        """Measure a trained (or untrained) objective on the test set."""
        generator = seeded_generator(self.seed, EVALUATING, device=objective.device)
        with objective.uncounted(), objective.drawing_from(generator):
            return self._measure(objective, data, generator)

    def _finite(self, samples: Tensor) -> Tensor:
        """The samples; a kernel whose step is too large for the model leaves none to measure."""
        lost = int((~samples.flatten(1).isfinite()).any(1).sum())
        if lost:
            raise ValueError(
                f"{lost} of {len(samples)} samples are not finite, the {type(self.kernel).__name__} chains "
                "diverged: set a smaller evaluation.kernel.step_size"
            )
        return samples

    def _measure(self, objective: Objective, data: InMemoryData, generator: torch.Generator) -> Findings:
        test_x = data.test_x.to(objective.device, objective.dtype)
        draws = self._finite(objective.walk(self.num_samples, self.kernel, self.num_steps, generator))
        samples = self._finite(objective.jump(draws))
        model = objective.model()
        measurements = list(_compare_samples(samples, test_x[: self.num_samples], data, generator))
        notes: list[str] = []
        bracket = None
        if isinstance(model, Energy):
            x = objective.corrupted(test_x)
            gap, error = energy_gap(model, x[: self.num_samples], draws)
            noised = ", both with the noise that was learned" if objective.sigma else ""
            note = f"mean E(test) - mean E(samples){noised}"
            measurements.append(Measurement("energy_gap", gap, error, "nats", note))
            bracket, notes = ask(self.log_z, objective, model, data, x, generator, self.grid_points)
            if bracket is not None:
                measurements = [*_of_model(bracket, objective, model, data, x), *measurements]
            measurements += by_learned_constant(objective, model, data, x)
            if data.domain in DISCRETE and objective.claims_likelihood():
                measurements.append(_pseudo_likelihood(model, data, test_x, generator))
        if data.density is not None and data.domain not in DISCRETE:
            if knows_log_partition(model) and objective.claims_likelihood():
                measurements.append(nll_gap(model, data.density, test_x))
            measurements += _fisher(objective, model, data, generator, self.num_samples)
        if data.density is None and _has_few_second_derivatives(model, data):
            x = objective.corrupted(test_x)[: self.num_samples]
            of = "noised test events" if objective.sigma else "test events"
            note = f"E[tr ∇s + ½‖s‖²] of {of}: the Fisher divergence up to a constant of the data"
            measurements.append(Measurement("score_matching_loss", *score_matching_loss(model, x), "", note))
        if data.anomalies_x is not None and isinstance(model, Energy):
            measurements += detection(model, data.train_x.to(test_x), test_x, data.anomalies_x)
        own = objective.measurements(data) | data.measurements(model)
        measurements += [Measurement(name, *numbers) for name, numbers in own.items()]
        if isinstance(model, ScoreNetwork) and math.prod(data.shape) <= MAX_SECOND_DERIVATIVES:
            x = objective.corrupted(test_x[:JACOBIANS])  # after all draws of which other numbers are made
            of = "noised test events" if objective.sigma else "test events"
            measurements.append(_asymmetry(model, x, of))
        notes += below_the_entropy(measurements)
        of_classes = objective.conditional_samples(PER_CLASS, self.kernel, self.num_steps, generator)
        landscape = self._landscape(objective, model, data, bracket)
        return Findings(measurements, notes, samples, *landscape, of_classes)

    def _landscape(
        self, objective: Objective, model: Any, data: InMemoryData, bracket: Bracket | None
    ) -> tuple[Grid | None, Tensor | None]:
        """A grid of two dimensions where the data's density is known, and the model's log-density on it."""
        in_a_plane = data.shape == (2,) and data.domain == "real"
        if not isinstance(model, Energy) or not in_a_plane or data.density is None:
            return None, None
        half_width = box_of(objective, data, data.test_x)
        grid = Grid(half_width, self.grid_points, 2, objective.dtype, objective.device)
        log_density = -grid.evaluate(model)
        if bracket is None or not bracket.is_counted:
            return grid, log_density - grid.log_integrate(log_density)[0]
        return grid, log_density - bracket.estimate.value


def _has_few_second_derivatives(model: Any, data: InMemoryData) -> bool:
    few = math.prod(data.shape) <= MAX_SECOND_DERIVATIVES
    return data.domain == "real" and few and model.twice_differentiable


def _asymmetry(model: ScoreNetwork, x: Tensor, of: str) -> Measurement:
    note = f"‖(J - Jᵀ)/2‖ over ‖J‖ of the score's Jacobian J at {len(x)} {of}: 0 for an energy's gradient"
    return Measurement("score_asymmetry", *score_asymmetry(model, x), "", note)


def _of_model(
    bracket: Bracket, objective: Objective, model: Energy, data: InMemoryData, x: Tensor
) -> Iterator[Measurement]:
    """log Z and likelihood; of data of known density also the entropy, and by quadrature or a sum both KL."""
    yield from of_model(bracket, objective, model, data, x)
    if data.density is None or bracket.doubt is not None or not objective.claims_likelihood():
        return
    target = objective.target(data.density)
    if target is None:
        return
    of = "the data" if target is data.density else "the noised data, which the method learns"
    if bracket.quadrature is not None:
        _, grid, log_model = bracket.quadrature
        log_data = grid.evaluate(target.log_prob)
        yield _entropy(target, of, log_data, grid)
        yield from _divergences(log_data, log_model, grid)
        yield log_density_mse(model, bracket.estimate.value, data.density, data.test_x.to(x))
    elif target.entropy() is not None:
        yield Measurement("entropy", target.entropy(), 0.0, "nats", f"of {of}: {FLOOR}")
    if data.domain in DISCRETE and bracket.estimate.error == 0:
        yield from _by_summation(model, target, bracket.estimate.value, data.domain, x)


def _entropy(target: Density, of: str, log_data: Tensor, grid: Grid) -> Measurement:
    exact = target.entropy()
    value, error = (exact, 0.0) if exact is not None else grid_entropy(log_data, grid)
    return Measurement("entropy", value, error, "nats", f"of {of}: {FLOOR}")


def _divergences(log_data: Tensor, log_model: Tensor, grid: Grid) -> Iterator[Measurement]:
    forward, error = grid_kl(log_data, log_model, grid)
    yield Measurement("kl_data_model", forward, error, "nats", "KL(data ‖ model) by quadrature")
    backward, error = grid_kl(log_model, log_data, grid)
    yield Measurement("kl_model_data", backward, error, "nats", "KL(model ‖ data) by quadrature")


def log_density_mse(model: Energy, log_z: float, density: Density, x: Tensor) -> Measurement:
    """mean (log p_model(x) - log p(x))² over events of the data: unlike in a KL, no sign cancels.

    Always to the data's own density: of methods that learn noised data, the noise is a part of it.
    """
    value, error = mean_and_error(_log_ratio(density, model, log_z, x).square())
    return Measurement(
        "log_density_mse", value, error, "nats²", "mean (log p_model - log p_data)², test events"
    )


def _by_summation(
    model: Energy, density: Density, log_z: float, domain: str, like: Tensor
) -> Iterator[Measurement]:
    """Both divergences to a known law of discrete data, where all events can be listed."""
    if num_states(model.shape, domain) > MAX_TERMS:
        return
    space = (model.shape, domain, like.dtype, like.device)
    with frozen(model):
        log_model = -enumerated(model, *space) - log_z
    log_data = enumerated(density.log_prob, *space)
    for name, p, q, of in (
        ("kl_data_model", log_data, log_model, "KL(data ‖ model)"),
        ("kl_model_data", log_model, log_data, "KL(model ‖ data)"),
    ):
        yield Measurement(name, enumerated_kl(p, q), 0.0, "nats", f"{of}, all events")


def nll_gap(model: Energy, density: Density, x: Tensor) -> Measurement:
    """mean log p(x) - log p_model(x) over events of the data, for a model whose log Z is a formula.

    An unbiased estimate of KL(data ‖ model) of which chance differences of the events cancel: near the truth
    its error is far below that of the nll. Of methods that learn noised data, the noise is a part of it.
    """
    with frozen(model):
        log_z = float(model.log_partition())
    value, error = mean_and_error(_log_ratio(density, model, log_z, x))
    return Measurement("nll_gap", value, error, "nats", "nll - that of the data's own density, same events")


def _log_ratio(density: Density, model: Energy, log_z: float, x: Tensor) -> Tensor:
    """log p(x) - log p_model(x) of each event, in float64."""
    return evaluate_in_chunks(density.log_prob, x.double()) + evaluate_in_chunks(model, x) + log_z


def _pseudo_likelihood(
    model: Energy, data: InMemoryData, like: Tensor, generator: torch.Generator
) -> Measurement:
    value, error = negative_log_pseudolikelihood(
        model, data.val_x[:PSEUDO_EVENTS].to(like), data.domain, PSEUDO_SITES, generator
    )
    note = "-Σ log p(site | others) of validation events, which needs no log Z: what settings are chosen by"
    return Measurement("pseudo_nll", value, error, "nats", note)


def _compare_samples(
    samples: Tensor, test_x: Tensor, data: InMemoryData, generator: torch.Generator
) -> Iterator[Measurement]:
    """MMD² of the samples, and beside it of the simplest law that is fitted to the training data.

    That is a Gaussian with their mean and covariance; of discrete events, independent sites.
    """
    bandwidths = median_bandwidths(data.test_x)
    value, error = mmd(samples, test_x, *bandwidths)
    note = (
        f"MMD² of {len(samples)} samples to {len(test_x)} test events, mean of Gaussian kernels of widths "
        f"{bandwidths[0]:.2g} to {bandwidths[-1]:.2g}"
    )
    yield Measurement("mmd", value, error, "", note)
    name, law, words = {
        "binary": ("mmd_independent", Bernoulli, "independent sites"),
        "categorical": ("mmd_independent", Categorical, "independent sites"),
    }.get(data.domain, ("mmd_gaussian", Gaussian, "a Gaussian"))
    simplest = law(data.shape).to(samples)
    simplest.fit(data.train_x.to(samples))
    value, error = mmd(simplest.sample(len(samples), generator), test_x, *bandwidths)
    yield Measurement(name, value, error, "", f"the same for {words} fitted to the training data")


def _fisher(
    objective: Objective,
    model: Any,
    data: InMemoryData,
    generator: torch.Generator,
    num: int,
) -> list[Measurement]:
    """Fisher divergence to the density that the method learns, and to the data's own where that differs."""
    target = objective.target(data.density)
    densities = {}
    if target is not None:
        densities["fisher"] = (target, "to the density that the method learns")
    if target is not data.density:
        densities["fisher_data"] = (data.density, "to the data's own density")
    found = []
    for name, (density, note) in densities.items():
        x = density.sample(num, generator, objective.dtype).to(objective.device)
        with frozen(model):
            value, error = fisher_divergence(functools.partial(score, model), density, x)
        found.append(Measurement(name, value, error, "", f"½ E‖score - true score‖² {note}"))
    return found
