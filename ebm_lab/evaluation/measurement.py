"""One evaluated number with its error bar, and the file that holds a run's numbers."""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Measurement:
    """A number as it is reported: what cannot be known is not made into one.

    Args:
        name: the quantity, as it is listed in results.json and in the report.
        value: the number.
        error: standard error or error bar, ≥ 0; None where the number is exact or has no estimate of it.
        unit: "nats", "bits/dim", ...; empty for a pure number.
        note: what the error covers, and the bias that remains.

    Raises:
        ValueError: when the value or the error is not finite, or the error is negative.
    """

    name: str
    value: float
    error: float | None = None
    unit: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(
                f"{self.name} is {self.value}: only a finite number is a measurement; leave it out"
            )
        if self.error is not None and not (math.isfinite(self.error) and self.error >= 0):
            raise ValueError(f"the error of {self.name} is {self.error}: it must be finite and ≥ 0, or None")


def to_json(measurements: Iterable[Measurement]) -> str:
    """The text of results.json: {"measurements": {name: {value, error, unit, note}}}.

    Raises:
        ValueError: when two measurements have the same name.
    """
    entries: dict[str, dict] = {}
    for measurement in measurements:
        fields = asdict(measurement)
        name = fields.pop("name")
        if name in entries:
            raise ValueError(f"two measurements are called {name!r}; give each its own name")
        entries[name] = fields
    return json.dumps({"measurements": entries}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str) -> list[Measurement]:
    """The measurements in the text of a results.json, in the file's order."""
    return [Measurement(name, **fields) for name, fields in json.loads(text)["measurements"].items()]


def mean_and_error(values: Float[Tensor, " batch"]) -> tuple[float, float]:
    """Mean of independent values and its standard error √(Σ(v-v̄)²/(n(n-1))), in float64.

    Raises:
        ValueError: for fewer than two values, which have no standard error.
    """
    if values.numel() < 2:
        raise ValueError(f"a standard error needs at least 2 values, got {values.numel()}")
    values = values.detach().double()
    return values.mean().item(), values.std().item() / math.sqrt(values.numel())
