"""The final evaluation of a run: every number that can be known about it, and nothing that cannot."""

import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ebm_lab.data import Density, InMemoryData, bits_per_dim
from ebm_lab.data.seeding import seeded_generator
from ebm_lab.domains import DISCRETE
from ebm_lab.energies import Energy, enumerated, frozen, num_states, score
from ebm_lab.evaluation.discrete import (
    MAX_TERMS,
    enumerated_kl,
    exact_log_partition,
    negative_log_pseudolikelihood,
)
from ebm_lab.evaluation.divergences import (
    fisher_divergence,
    grid_entropy,
    grid_kl,
    median_bandwidths,
    mmd,
    negative_log_likelihood,
)
from ebm_lab.evaluation.energies import energy_gap, evaluate_in_chunks
from ebm_lab.evaluation.importance import ImportanceEstimate, importance_log_partition
from ebm_lab.evaluation.measurement import Measurement, mean_and_error
from ebm_lab.evaluation.quadrature import Grid, LogPartition, NotIntegrable, log_partition
from ebm_lab.noise import Bernoulli, Categorical, Gaussian
from ebm_lab.objectives import Objective
from ebm_lab.samplers import Kernel

EVALUATING = 4  # random stream of a seed
WIDER = 1.2  # first box of the quadrature over the data's own: most models then need no second
NUM_IMPORTANCE = 50_000  # noise samples behind log Z by importance sampling
PSEUDO_EVENTS, PSEUDO_SITES = 500, 100  # behind the pseudo-likelihood; with more sites, so many are drawn
MIN_EFFECTIVE = 1_000  # fewer effective ones, and neither log Z nor its error bar is reported


class Findings(NamedTuple):
    """Numbers, what to know about them, and the samples and densities that the pictures are made of.

    Attributes:
        log_density: of the model on `grid`, normalised on R² or, where that is impossible, on the grid.
    """

    measurements: list[Measurement]
    notes: list[str]
    samples: Tensor
    grid: Grid | None
    log_density: Tensor | None


class Evaluation:
    """What is measured at the end of a run.

    Args:
        kernel: draws the samples, where the objective has no way of its own.
        num_steps: its steps, from the run's noise.
        num_samples: how many samples are drawn and how many held-out events they are compared with.
        grid_points: points an axis of the quadrature in two dimensions.
        seed: of the generator; evaluation never touches the training's.

    Raises:
        ValueError: for a number out of its range.
    """

    def __init__(
        self,
        *,
        kernel: Kernel,
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
        samples = self._finite(objective.generate(self.num_samples, self.kernel, self.num_steps, generator))
        model = objective.model()
        measurements = list(_compare_samples(samples, test_x[: self.num_samples], data, generator))
        if isinstance(model, Energy):
            gap, error = energy_gap(model, test_x[: self.num_samples], samples)
            measurements.append(
                Measurement("energy_gap", gap, error, "nats", "mean E(test) - mean E(samples)")
            )
        grid = log_density = None
        notes: list[str] = []
        if data.domain in DISCRETE and isinstance(model, Energy):
            found = _of_discrete_events(objective, model, data, test_x, generator)
            measurements = list(found) + measurements
        elif isinstance(model, Energy) and data.shape == (2,) and data.density is not None:
            half_width = WIDER * objective.target(data.density).bounds
            grid = Grid(half_width, self.grid_points, 2, objective.dtype, objective.device)
            log_density = -grid.evaluate(model)
            try:
                log_z = log_partition(model, grid.half_width, grid.num_points)
            except (NotIntegrable, ValueError) as error:
                notes.append(f"No log Z, likelihood or KL: {error}.")
                log_density = log_density - grid.log_integrate(log_density)[0]
            else:
                log_density = log_density - log_z.value
                measurements = _by_quadrature(objective, data, test_x, log_z, grid.spacing) + measurements
        elif isinstance(model, Energy):
            measurements = list(_by_importance(objective, model, data, test_x, generator)) + measurements
        if data.density is not None and data.domain not in DISCRETE:
            measurements += _fisher(objective, model, data, generator, self.num_samples)
        own = objective.measurements(data) | data.measurements(model)
        measurements += [Measurement(name, *numbers) for name, numbers in own.items()]
        return Findings(measurements, notes, samples, grid, log_density)


def _by_quadrature(
    objective: Objective, data: InMemoryData, test_x: Tensor, log_z: LogPartition, spacing: float
) -> list[Measurement]:
    """Likelihood and both divergences, exact up to the stated error of the grid."""
    num_points = 2 * round(log_z.half_width / spacing) + 1
    grid = Grid(log_z.half_width, num_points, 2, objective.dtype, objective.device)
    found = list(_log_z(objective, log_z))
    if not objective.claims_likelihood():
        return found
    target = objective.target(data.density)
    log_model = -grid.evaluate(objective.model()) - log_z.value
    log_data = grid.evaluate(target.log_prob)
    of = "the data" if target is data.density else "the noised data, which the method learns"
    nll, error = negative_log_likelihood(
        objective.model(), log_z.value, objective.corrupted(test_x), log_z.error
    )
    return [
        *found,
        Measurement("nll", nll, error, "nats", f"of {of}, test events, with log Z by quadrature"),
        _entropy(target, of, log_data, grid),
        *_divergences(log_data, log_model, grid),
    ]


def _log_z(objective: Objective, log_z: LogPartition) -> Iterator[Measurement]:
    box = f"quadrature on [-{log_z.half_width:.3g}, {log_z.half_width:.3g}]²"
    yield Measurement("log_z", log_z.value, log_z.error, "nats", f"of the model, {box}")
    if objective.log_z() is not None:
        yield Measurement("log_z_learned", objective.log_z(), None, "nats", "the objective's own")


def _entropy(target: Density, of: str, log_data: Tensor, grid: Grid) -> Measurement:
    exact = target.entropy()
    value, error = (exact, 0.0) if exact is not None else grid_entropy(log_data, grid)
    return Measurement("entropy", value, error, "nats", f"of {of}: no nll can be lower in expectation")


def _divergences(log_data: Tensor, log_model: Tensor, grid: Grid) -> Iterator[Measurement]:
    forward, error = grid_kl(log_data, log_model, grid)
    yield Measurement("kl_data_model", forward, error, "nats", "KL(data ‖ model) by quadrature")
    backward, error = grid_kl(log_model, log_data, grid)
    yield Measurement("kl_model_data", backward, error, "nats", "KL(model ‖ data) by quadrature")


def _of_discrete_events(
    objective: Objective, model: Energy, data: InMemoryData, test_x: Tensor, generator: torch.Generator
) -> Iterator[Measurement]:
    """By sums over all events or an RBM's smaller layer, by importance sampling where these are long."""
    log_z = exact_log_partition(model, data.domain, objective.dtype, objective.device)
    if log_z is None:
        yield from _by_importance(objective, model, data, test_x, generator)
    else:
        yield Measurement("log_z", log_z, 0.0, "nats", "of the model, by summation")
    if not objective.claims_likelihood():
        return
    if log_z is not None:
        yield from _by_summation(objective, model, data, test_x, log_z)
    value, error = negative_log_pseudolikelihood(
        model, data.val_x[:PSEUDO_EVENTS].to(test_x), data.domain, PSEUDO_SITES, generator
    )
    note = "-Σ log p(site | others) of validation events, which needs no log Z: what settings are chosen by"
    yield Measurement("pseudo_nll", value, error, "nats", note)


def _by_summation(
    objective: Objective, model: Energy, data: InMemoryData, test_x: Tensor, log_z: float
) -> Iterator[Measurement]:
    """Likelihood, and where the law of the data is known its entropy and both divergences."""
    nll, error = negative_log_likelihood(model, log_z, test_x)
    yield Measurement("nll", nll, error, "nats", "test events, with log Z by summation")
    if data.density is None:
        return
    entropy = data.density.entropy()
    if entropy is not None:
        yield Measurement("entropy", entropy, 0.0, "nats", "no nll can be lower in expectation")
    if num_states(data.shape, data.domain) <= MAX_TERMS:
        space = (data.shape, data.domain, objective.dtype, objective.device)
        with frozen(model):
            log_model = -enumerated(model, *space) - log_z
        log_data = enumerated(data.density.log_prob, *space)
        yield Measurement(
            "kl_data_model", enumerated_kl(log_data, log_model), 0.0, "nats", "KL(data ‖ model), all events"
        )
        yield Measurement(
            "kl_model_data", enumerated_kl(log_model, log_data), 0.0, "nats", "KL(model ‖ data), all events"
        )


def _by_importance(
    objective: Objective, model: Energy, data: InMemoryData, test_x: Tensor, generator: torch.Generator
) -> Iterator[Measurement]:
    """log Z from the run's noise and the likelihood that follows, where enough samples carry the weight."""
    if objective.log_z() is not None:
        yield Measurement("log_z_learned", objective.log_z(), None, "nats", "the objective's own")
    log_z = importance_log_partition(model, objective.noise, NUM_IMPORTANCE, generator)
    if log_z.effective_samples < MIN_EFFECTIVE:
        return
    note = f"importance sampling from the noise, {log_z.effective_samples:.0f} effective samples; errs low"
    yield Measurement("log_z", log_z.value, log_z.error, "nats", note)
    if not objective.claims_likelihood():
        return
    x = objective.corrupted(test_x)
    of = "test events" if x is test_x else "noised test events, which the method learns"
    nll, error = negative_log_likelihood(model, log_z.value, x, log_z.error)
    yield Measurement("nll", nll, error, "nats", f"{of}, with log Z by importance sampling; errs low")
    if data.levels is not None and x is test_x:
        yield _bits_per_dim(model, data, x, log_z)
    entropy = objective.target(data.density).entropy() if data.density is not None else None
    if entropy is not None:
        yield Measurement("entropy", entropy, 0.0, "nats", "no nll can be lower in expectation")


def _bits_per_dim(model: Energy, data: InMemoryData, x: Tensor, log_z: ImportanceEstimate) -> Measurement:
    """Event by event, as each has its own Jacobian back to integers where the pixels are transformed."""
    log_prob = -evaluate_in_chunks(model, x, chunk_size=1024) - log_z.value
    bits, error = mean_and_error(bits_per_dim(log_prob, data.log_jacobian_to_levels(x.double()), data.shape))
    error += log_z.error / (math.prod(data.shape) * math.log(2))
    return Measurement("bits_per_dim", bits, error, "bits", "of the integer pixels; errs low")


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
    densities = {"fisher": (target, "to the density that the method learns")}
    if target is not data.density:
        densities["fisher_data"] = (data.density, "to the data's own density")
    found = []
    for name, (density, note) in densities.items():
        x = density.sample(num, generator, objective.dtype).to(objective.device)
        with frozen(model):
            value, error = fisher_divergence(functools.partial(score, model), density, x)
        found.append(Measurement(name, value, error, "", f"½ E‖score - true score‖² {note}"))
    return found
