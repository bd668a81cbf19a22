"""What becomes of samples when the chain that made them goes on: numbers, and a word by stated thresholds."""

import math
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

SATURATED = 0.99  # |pixel| beyond it is black or white
NEWLY_SATURATED = 0.2  # of the pixels that were free
SPREAD_LEFT = 0.5
CLASSES_LEFT = 0.5
ENERGY_WIDTHS = 2.0


class Look(NamedTuple):
    """A set of images at one moment of its chains.

    Attributes:
        energy: mean of E.
        energy_width: standard deviation of E over the images.
        saturated: share of the pixels with |pixel| > .99.
        spread: root mean square, over pixels, of the standard deviation over the images.
        num_classes: classes that hold more than a fifth of an even share; None without a classifier.
    """

    energy: float
    energy_width: float
    saturated: float
    spread: float
    num_classes: int | None


def look_at(
    pixels: Float[Tensor, "num *shape"], energies: Float[Tensor, " num"], num_classes: int | None
) -> Look:
    """The numbers of one set of images.

    Raises:
        FloatingPointError: when a pixel or an energy is not finite.
    """
    if not (pixels.isfinite().all() and energies.isfinite().all()):
        raise FloatingPointError("the chains hold pixels or energies that are not finite")
    return Look(
        energy=float(energies.double().mean()),
        energy_width=float(energies.double().std()),
        saturated=saturated_share(pixels),
        spread=math.sqrt(float(pixels.double().var(0).mean())),
        num_classes=num_classes,
    )


def saturated_share(pixels: Float[Tensor, "num *shape"]) -> float:
    """Share of the pixels with |pixel| > .99."""
    return float((pixels.abs() > SATURATED).double().mean())


def fate(before: Look, after: Look, data_saturated: float) -> tuple[str, str]:
    """One word for what happened, and the threshold that it was chosen by.

    saturates: of the share of pixels that are free in the samples, or in the data where that is less, more
        than a fifth is black or white now.
    collapses: the spread over images, or the number of classes, is less than half of what it was.
    drifts: none of these, but the mean energy went by more than twice the width of the energies before.
    stays: none of these.

    Args:
        data_saturated: share of saturated pixels in the data.
    """
    usual = max(before.saturated, data_saturated)
    limit = usual + NEWLY_SATURATED * (1 - usual)
    if after.saturated > limit:
        return "saturates", f"saturated pixels {after.saturated:.3f} > {limit:.3f}"
    if after.spread < SPREAD_LEFT * before.spread:
        return "collapses", f"spread over images {after.spread:.3g} < half of {before.spread:.3g}"
    if before.num_classes is not None and after.num_classes < CLASSES_LEFT * before.num_classes:
        return "collapses", f"{after.num_classes} classes < half of {before.num_classes}"
    moved = abs(after.energy - before.energy)
    if moved > ENERGY_WIDTHS * before.energy_width:
        return "drifts", f"mean energy moved by {moved:.3g} > twice the width {before.energy_width:.3g}"
    return "stays", "saturation, spread, classes and mean energy within their thresholds"
