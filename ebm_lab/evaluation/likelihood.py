"""The likelihood of a trained model: what may be claimed of it, with an error bar for both sides of log Z."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ebm_lab.data import InMemoryData, bits_per_dim
from ebm_lab.domains import DISCRETE
from ebm_lab.energies import Energy
from ebm_lab.errors import UserError
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
        yield from _by_bracket(bracket, objective, model, data, x)
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
    error = objective.log_z_error()
    yield Measurement("log_z_learned", log_z, error, "nats", "the objective's own")
    if objective.claims_likelihood():
        alone = "" if error is not None else "; the constant's error is not known, nor in this one"
        by = f"by the learned energy and constant alone{alone}", f", by the same{alone}"
        yield from _of_events("_learned", objective, model, data, x, log_z, error or 0.0, by)


def _by_bracket(
    bracket: Bracket, objective: Objective, model: Energy, data: InMemoryData, x: Tensor
) -> Iterator[Measurement]:
    """The likelihood of test events and bits/dim with an estimated log Z."""
    found, errs = bracket.estimate, _errs(bracket.estimate.side)
    sides = "" if bracket.reverse is None else "; the error covers both sides of log Z"
    by = f"with log Z by {found.method}{errs}{sides}", errs
    yield from _of_events("", objective, model, data, x, found.value, bracket.error, by)


def _of_events(
    suffix: str,
    objective: Objective,
    model: Energy,
    data: InMemoryData,
    x: Tensor,
    log_z: float,
    log_z_error: float,
    by: tuple[str, str],
) -> Iterator[Measurement]:
    """The likelihood of test events and, of integer pixels, their bits/dim; `by` ends the note of each."""
    of = "noised test events, which the method learns" if objective.sigma else "test events"
    energies = evaluate_in_chunks(model, x, chunk_size=1024)
    mean_energy, error = mean_and_error(energies)
    yield Measurement(f"nll{suffix}", mean_energy + log_z, error + log_z_error, "nats", f"of {of}, {by[0]}")
    if data.levels is not None and not objective.sigma:
        bits, error = _bits_per_dim(energies + log_z, data, x, log_z_error)
        yield Measurement(f"bits_per_dim{suffix}", bits, error, "bits", f"of the integer pixels{by[1]}")


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


def _bits_per_dim(nll: Tensor, data: InMemoryData, x: Tensor, log_z_error: float) -> tuple[float, float]:
    """Event by event, as each has its own Jacobian back to integers where the pixels are transformed."""
    bits, error = mean_and_error(bits_per_dim(-nll, data.log_jacobian_to_levels(x.double()), data.shape))
    return bits, error + log_z_error / (math.prod(data.shape) * math.log(2))


def _errs(side: str) -> str:
    return "" if side == "either" else f"; errs {side}"
