"""The likelihood of a trained model: what may be claimed of it, with an error bar for both sides of log Z."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ebm_lab.data import InMemoryData, bits_per_dim
from ebm_lab.domains import DISCRETE
from ebm_lab.energies import Energy
from ebm_lab.errors import UserError
from ebm_lab.evaluation.divergences import negative_log_likelihood
from ebm_lab.evaluation.energies import evaluate_in_chunks
from ebm_lab.evaluation.log_z import Bracket, LogZ, Question
from ebm_lab.evaluation.measurement import Measurement, mean_and_error
from ebm_lab.objectives import Objective

WIDER = 1.2  # first box of the quadrature over the data's own: most models then need no second


def ask(
    estimator: LogZ,
    objective: Objective,
    model: Energy,
    data: InMemoryData,
    x: Tensor,
    generator: torch.Generator,
    num_points: int = 201,
) -> tuple[Bracket | None, list[str]]:
    """The estimator's answer about a trained model, and what keeps it from being believed, a sentence each.

    Args:
        x: held-out events of the law that the method learns.
        generator: of all draws.
        num_points: an axis of a grid in two dimensions.
    """
    question = Question(
        energy=model,
        noise=objective.noise,
        x=x,
        domain=data.domain,
        half_width=box_of(objective, data, x),
        num_points=num_points,
        generator=generator,
    )
    try:
        bracket = estimator(question)
    except (UserError, ValueError) as error:
        return None, [f"No log Z, likelihood or KL: {error}."]
    if bracket.doubt is None:
        return bracket, []
    return bracket, [f"No {'likelihood' if bracket.is_counted else 'log Z or likelihood'}: {bracket.doubt}."]


def box_of(objective: Objective, data: InMemoryData, x: Tensor) -> float:
    """Half-width of a box around the law that the method learns: the density's, or that of its events."""
    is_known = data.density is not None and data.domain not in DISCRETE
    target = objective.target(data.density) if is_known else None
    return WIDER * (float(x.abs().max()) if target is None else target.bounds)


def of_model(
    bracket: Bracket, objective: Objective, model: Energy, data: InMemoryData, x: Tensor
) -> Iterator[Measurement]:
    """log Z and its other side, the likelihood of `x` where it may be claimed, and what stands behind them.

    Args:
        x: held-out events of the law that the method learns.
    """
    found, reverse = bracket.estimate, bracket.reverse
    if bracket.is_counted:
        note = f"of the model, {found.method}{_errs(found.side)}"
        yield Measurement("log_z", found.value, found.error, "nats", note)
    if bracket.is_counted and reverse is not None:
        note = f"{reverse.method}; {reverse.effective_samples:.0f} effective{_errs(reverse.side)}"
        yield Measurement("log_z_reverse", reverse.value, reverse.error, "nats", note)
    if bracket.doubt is None and objective.claims_likelihood():
        yield from _of_events(bracket, objective, model, data, x)
    if math.isfinite(found.effective_samples):
        note = f"effective samples, {found.method}"
        yield Measurement("log_z_ess", found.effective_samples, None, "", note)
    for name, beside in bracket.beside.items() if bracket.is_counted else ():
        yield Measurement(name, beside.value, beside.error, "nats", f"{beside.method}{_errs(beside.side)}")


def by_learned_constant(
    objective: Objective, model: Energy, data: InMemoryData, x: Tensor
) -> Iterator[Measurement]:
    """What the objective's own log Z says, where it has one: the likelihood that needs no estimator.

    A constant that is too small flatters the likelihood, which nothing here can tell: see `log_z` beside it.

    Args:
        x: held-out events of the law that the method learns.
    """
    log_z = objective.log_z()
    if log_z is None:
        return
    constant_error = objective.log_z_error()
    yield Measurement("log_z_learned", log_z, constant_error, "nats", "the objective's own")
    if not objective.claims_likelihood():
        return
    mean_energy, error = mean_and_error(evaluate_in_chunks(model, x, chunk_size=1024))
    of = "noised test events, which the method learns" if objective.sigma else "test events"
    alone = "" if constant_error is not None else "; the constant's error is not known, nor in this one"
    note = f"of {of}, by the learned energy and constant alone{alone}"
    error += constant_error or 0.0
    yield Measurement("nll_learned", mean_energy + log_z, error, "nats", note)
    if data.levels is not None and not objective.sigma:
        of = f"of the integer pixels, by the same{alone}"
        yield _bits_per_dim("bits_per_dim_learned", model, data, x, log_z, constant_error or 0.0, of)


def _of_events(
    bracket: Bracket, objective: Objective, model: Energy, data: InMemoryData, x: Tensor
) -> Iterator[Measurement]:
    """The likelihood of test events and, of integer pixels, their bits/dim."""
    of = "noised test events, which the method learns" if objective.sigma else "test events"
    found = bracket.estimate
    nll, error = negative_log_likelihood(model, found.value, x, bracket.error)
    sides = "" if bracket.reverse is None else "; the error covers both sides of log Z"
    note = f"of {of}, with log Z by {found.method}{_errs(found.side)}{sides}"
    yield Measurement("nll", nll, error, "nats", note)
    if data.levels is not None and not objective.sigma:
        of = f"of the integer pixels{_errs(found.side)}"
        yield _bits_per_dim("bits_per_dim", model, data, x, found.value, bracket.error, of)


def below_the_entropy(measurements: list[Measurement]) -> Iterator[str]:
    """A likelihood below its floor, of log Z or a method's own, is an error of the estimate: say so."""
    named = {m.name: m for m in measurements}
    if "entropy" not in named:
        return
    floor = named["entropy"]
    for name, wrong in {"nll": "log Z", "nll_learned": "constant", "nll_flow": "flow"}.items():
        nll = named.get(name)
        if nll is not None and nll.value + 3 * nll.error < floor.value:
            yield (
                f"The {name} {nll.value:.4g} lies more than three error bars below the entropy "
                f"{floor.value:.4g}, which no model can: its {wrong} is wrong."
            )


def _bits_per_dim(
    name: str, model: Energy, data: InMemoryData, x: Tensor, log_z: float, log_z_error: float, note: str
) -> Measurement:
    """Event by event, as each has its own Jacobian back to integers where the pixels are transformed."""
    log_prob = -evaluate_in_chunks(model, x, chunk_size=1024) - log_z
    bits, error = mean_and_error(bits_per_dim(log_prob, data.log_jacobian_to_levels(x.double()), data.shape))
    error += log_z_error / (math.prod(data.shape) * math.log(2))
    return Measurement(name, bits, error, "bits", note)


def _errs(side: str) -> str:
    return "" if side == "either" else f"; errs {side}"
