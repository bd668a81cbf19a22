"""Pictures of a run: arrays in, a matplotlib Figure out, nothing shared between two calls."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torchvision.utils import make_grid

from ebm_lab.data import GrayPoints, InMemoryData
from ebm_lab.domains import BOUNDED

Array = np.ndarray | Tensor

INK, MUTED, RULE = "#1f2933", "#5f6b7a", "#d5dae1"
COLOURS = {"data": "#2b6cb0", "samples": "#dd6b20", "noise": "#8a94a6"}
CYCLE = ["#2b6cb0", "#dd6b20", "#2f855a", "#b83280", "#6b46c1", "#8a94a6"]
DENSITY_COLOURMAP = "magma"
DPI = 120
TICKS_AT_MOST = 5
RAW_POINTS_AT_MOST = 100  # longer curves are drawn pale, with their running mean on top
X_AXIS_KEYS = ("iteration", "step", "epoch")


def save(figure: Figure, path: str | Path) -> Path:
    """Write the figure as a PNG, making the folder if need be."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def landscape(
    model_log_density: Array,
    true_log_density: Array | None,
    half_width: float,
    model_title: str = "model density",
) -> Figure:
    """The model's density on [-L, L]² beside the true one, on one colour scale.

    The scale ends at the largest value of the true density, so that it means the same in every picture of
    a data set; where the model is higher the colour saturates, and the bar says so by its pointed end.

    Args:
        model_log_density: (n, n), x on the first axis, as `Grid.reshape` gives it.
        true_log_density: likewise; None where it is unknown, and then the model stands alone.
        half_width: L.
        model_title: what the first panel shows, "density (normalised on the box)" for one.
    """
    panels = {model_title: np.exp(_array(model_log_density))}
    if true_log_density is not None:
        panels["true density"] = np.exp(_array(true_log_density))
    top = list(panels.values())[-1].max()
    figure, all_axes = _panels(len(panels))
    for axes, (title, density) in zip(all_axes, panels.items(), strict=True):
        image = axes.imshow(
            density.T,
            origin="lower",
            extent=(-half_width, half_width) * 2,
            vmin=0.0,
            vmax=top,
            cmap=DENSITY_COLOURMAP,
            interpolation="bilinear",
        )
        _square(axes, title, half_width)
    saturated = max(density.max() for density in panels.values()) > top
    bar = figure.colorbar(image, ax=all_axes, shrink=0.86, pad=0.02, extend="max" if saturated else "neither")
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=9, colors=MUTED, length=0)
    return figure


def scatter(samples: Array, data: Array, half_width: float) -> Figure:
    """Samples (n, 2) beside data (m, 2) on [-L, L]²; each title counts the points that lie outside."""
    figure, all_axes = _panels(2)
    for axes, (name, points) in zip(all_axes, {"samples": samples, "data": data}.items(), strict=True):
        points = _array(points)
        axes.scatter(*points.T, s=_marker_area(len(points)), color=COLOURS[name], alpha=0.5, linewidths=0)
        outside = int((~(np.abs(points) <= half_width).all(axis=1)).sum())
        _square(axes, f"{name} ({outside} of {len(points)} outside)" if outside else name, half_width)
    return figure


def image_grid(x: Array, num_columns: int = 8, upscale: int | None = None) -> Figure:
    """Images (n, C, H, W) in [-1, 1] in rows, each pixel a crisp block of `upscale` × `upscale`.

    Without `upscale` an image is at most 64 pixels wide, or its own size where it is larger. Values beyond
    [-1, 1] are shown as black or white.

    Raises:
        ValueError: when x has not 1 or 3 channels, or is not a number somewhere.
    """
    images = torch.as_tensor(x).detach().cpu().float()
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            f"image_grid needs images (n, C, H, W) with 1 or 3 channels, got {tuple(images.shape)}"
        )
    if images.isnan().any():
        raise ValueError("image_grid got images with NaN: the chains that drew them have diverged")
    upscale = upscale or max(1, 64 // images.shape[-1])
    blocks = images.repeat_interleave(upscale, dim=-1).repeat_interleave(upscale, dim=-2)
    pixels = make_grid(blocks.add(1).div(2).clamp(0, 1), nrow=num_columns, padding=2, pad_value=0.5)
    height, width = pixels.shape[1:]
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    figure.figimage(pixels.permute(1, 2, 0).numpy())
    return figure


def histogram(values: Mapping[str, Array], label: str = "energy") -> Figure:
    """Densities of several sets of numbers on shared bins: {"data": E(x), "samples": ..., "noise": ...}.

    The first set is the reference: the axis covers the middle 99 % of every set, but goes at most
    three widths of the reference beyond it. The legend tells how much of a set lies outside.
    """
    sets = {name: _array(numbers).ravel() for name, numbers in values.items()}
    bins = _shared_bins(list(sets.values()))
    figure = Figure(figsize=(6.4, 3.6), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    for (name, numbers), spare in zip(sets.items(), CYCLE * len(sets), strict=False):
        share = np.full(len(numbers), 1 / (len(numbers) * (bins[1] - bins[0])))
        style = {"bins": bins, "weights": share, "color": COLOURS.get(name, spare)}
        axes.hist(numbers, histtype="stepfilled", alpha=0.25, **style)
        outside = np.mean((numbers < bins[0]) | (numbers > bins[-1]))
        shown = name if outside < 0.015 else f"{name} ({outside:.0%} outside)"
        axes.hist(numbers, histtype="step", linewidth=1.6, label=shown, **style)
    axes.set_xlim(bins[0], bins[-1])
    axes.set_xlabel(label, color=INK, fontsize=10)
    axes.set_ylabel("density", color=INK, fontsize=10)
    _tidy(axes)
    _legend(axes)
    return figure


def curves(rows: Sequence[Mapping[str, object]]) -> Figure:
    """Training curves from the rows of metrics.csv, small multiples over the iteration.

    Metrics whose name after the last "/" begins with the same word share a panel: train/energy_data with
    train/energy_samples, train/loss with val/loss. Empty cells and metrics without a number are skipped. Long
    curves are pale, with their running mean on top.

    Raises:
        ValueError: when no row holds a number, or none of "iteration", "step", "epoch" is a column.
    """
    groups = _groups(_series(rows))
    num_columns = min(3, len(groups))
    num_rows = math.ceil(len(groups) / num_columns)
    figure = Figure(figsize=(4.0 * num_columns, 2.7 * num_rows), dpi=DPI, layout="constrained")
    for position, (group, metrics) in enumerate(groups.items(), start=1):
        axes = figure.add_subplot(num_rows, num_columns, position)
        for (key, (x, y)), colour in zip(metrics.items(), CYCLE * len(metrics), strict=False):
            _curve(axes, x, y, key, colour)
        title = group if len(metrics) > 1 else next(iter(metrics))
        axes.set_title(title, fontsize=11, color=INK, loc="left")
        _tidy(axes)
        if len(metrics) > 1:
            _legend(axes)
        if position > len(groups) - num_columns:
            axes.set_xlabel(_x_axis_key(rows), fontsize=10, color=INK)
    return figure


def _shared_bins(sets: list[np.ndarray]) -> np.ndarray:
    """Edges over the middle 99 % of all sets, at most three widths of the first one beyond it."""
    low, high = np.transpose([np.quantile(numbers, (0.005, 0.995)) for numbers in sets])
    reach = 3 * (high[0] - low[0])
    left, right = max(low.min(), low[0] - reach), min(high.max(), high[0] + reach)
    return np.linspace(left, right, 81) if right > left else np.linspace(left - 0.5, left + 0.5, 81)


def _series(rows: Sequence[Mapping[str, object]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Each metric's (x, y), from the rows in which it has a value."""
    x_key = _x_axis_key(rows)
    keys = dict.fromkeys(key for row in rows for key in row if key not in X_AXIS_KEYS)
    points = {key: [(r[x_key], r[key]) for r in rows if r.get(key) not in (None, "")] for key in keys}
    series = {key: tuple(np.array(p, dtype=float).T) for key, p in points.items() if p}
    drawable = {key: (x, y) for key, (x, y) in series.items() if np.isfinite(y).any()}
    if not drawable:
        raise ValueError("the metrics hold no number to draw")
    return drawable


def _x_axis_key(rows: Sequence[Mapping[str, object]]) -> str:
    for key in X_AXIS_KEYS:
        if any(row.get(key) not in (None, "") for row in rows):
            return key
    raise ValueError(f"the metrics need one of the columns {', '.join(X_AXIS_KEYS)} to be drawn over")


def _groups(series: Mapping[str, tuple]) -> dict[str, dict[str, tuple]]:
    """Metrics by the first word of their name after the last "/"."""
    groups: dict[str, dict[str, tuple]] = defaultdict(dict)
    for key, points in series.items():
        groups[key.rsplit("/", 1)[-1].split("_")[0]][key] = points
    return groups


def _curve(axes: Axes, x: np.ndarray, y: np.ndarray, label: str, colour: str) -> None:
    if len(y) <= RAW_POINTS_AT_MOST:
        marker = "o" if len(y) <= 20 else None
        axes.plot(x, y, color=colour, linewidth=1.6, marker=marker, markersize=3.5, label=label)
        return
    axes.plot(x, y, color=colour, linewidth=0.8, alpha=0.3)
    window = len(y) // 40
    inside = slice(window // 2, window // 2 + len(y) - window + 1)
    axes.plot(
        x[inside],
        np.convolve(y, np.full(window, 1 / window), "valid"),
        color=colour,
        linewidth=1.6,
        label=label,
    )


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    """Square panels side by side."""
    figure = Figure(figsize=(4.0 * count + 0.6, 4.2), dpi=DPI, layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(1, count, sharey=True)))


def _square(axes: Axes, title: str, half_width: float) -> None:
    axes.set(xlim=(-half_width, half_width), ylim=(-half_width, half_width), aspect="equal")
    axes.set_title(title, fontsize=12, color=INK)
    _tidy(axes)
    axes.grid(False)


def _tidy(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(RULE)
    axes.tick_params(labelsize=9, colors=MUTED, length=0)
    axes.locator_params(nbins=TICKS_AT_MOST)
    axes.grid(True, color=RULE, linewidth=0.6, alpha=0.7)
    axes.set_axisbelow(True)


def _legend(axes: Axes) -> None:
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)


def _marker_area(num_points: int) -> float:
    """Points² of one marker: large for few points, small for many."""
    return float(np.clip(20_000 / max(num_points, 1), 2.0, 16.0))


def _array(values: Array) -> np.ndarray:
    return torch.as_tensor(values).detach().cpu().numpy()


def picture(samples: Tensor, held_out: Tensor, data: InMemoryData) -> Figure | None:
    """A grid of images, or points beside points; None for vectors of other than two numbers."""
    if data.domain == "image" or (data.domain == "binary" and len(data.shape) == 3):
        return image_grid(data.pixels(samples[:64]).cpu())
    if isinstance(data, GrayPoints) and data.source.dim == 2:
        points = [data.points(x).cpu() for x in (samples, held_out[: len(samples)])]
        return scatter(*points, data.half_width)
    if data.shape == (2,) and data.domain in {"real"} | BOUNDED:
        half_width = data.density.bounds if data.density is not None else float(held_out.abs().max()) * 1.1
        return scatter(samples.cpu(), held_out[: len(samples)].cpu(), half_width)
    return None


def class_rows(samples: Tensor, data: InMemoryData) -> Figure | None:
    """Images of each class (classes, num, C, H, W), one row a class; None for data that are no images."""
    if data.domain != "image":
        return None
    return image_grid(data.pixels(samples.flatten(0, 1)).cpu(), num_columns=samples.shape[1])
