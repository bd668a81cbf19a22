import math

import matplotlib.image
import numpy as np
import pytest
import torch

from ebm_lab.data import InMemoryData, Logit
from ebm_lab.evaluation import plots
from ebm_lab.evaluation.quadrature import Grid


def bump(grid, x, y):
    centre = torch.tensor([x, y]).double()
    return grid.reshape(grid.evaluate(lambda p: -2 * (p - centre).square().sum(1)) - math.log(math.pi / 2))


def pixel(array, panel, half_width, x, y):
    """The panel's value at the data coordinates (x, y)."""
    rows, columns = array.shape
    left, right, bottom, top = panel.get_extent()
    assert panel.origin == "lower"
    column = round((x - left) / (right - left) * (columns - 1))
    row = round((y - bottom) / (top - bottom) * (rows - 1))
    return array[row, column]


def test_landscape_puts_x_on_the_horizontal_axis_and_shares_the_colours():
    grid = Grid(3.0, 61, 2)
    figure = plots.landscape(bump(grid, 1.5, -1.0), bump(grid, -1.0, 2.0), 3.0)
    model, true = (axes.images[0] for axes in figure.axes[:2])
    assert [axes.get_title() for axes in figure.axes[:2]] == ["model density", "true density"]
    peak = 2 / math.pi
    assert pixel(model.get_array(), model, 3.0, 1.5, -1.0) == pytest.approx(peak)
    assert pixel(model.get_array(), model, 3.0, -1.0, 1.5) < 1e-3
    assert pixel(true.get_array(), true, 3.0, -1.0, 2.0) == pytest.approx(peak)
    assert model.get_clim() == true.get_clim() == (0.0, pytest.approx(peak))


def test_landscape_scale_is_the_true_density_s_and_marks_a_model_above_it():
    grid = Grid(3.0, 61, 2)
    spike = bump(grid, 0.0, 0.0) + math.log(5)
    model, true = (axes.images[0] for axes in plots.landscape(spike, bump(grid, 0.0, 0.0), 3.0).axes[:2])
    assert model.get_clim()[1] == pytest.approx(2 / math.pi)
    assert true.colorbar.extend == "max"
    _, below = (axes.images[0] for axes in plots.landscape(spike - 3, bump(grid, 0.0, 0.0), 3.0).axes[:2])
    assert below.colorbar.extend == "neither"


def test_landscape_stands_alone_without_a_true_density():
    figure = plots.landscape(bump(Grid(3.0, 61, 2), 0.0, 0.0), None, 3.0, "density on the box")
    assert [axes.get_title() for axes in figure.axes if axes.images] == ["density on the box"]


def test_scatter_draws_every_point_and_counts_those_outside():
    samples = torch.tensor([[0.0, 1.0], [0.5, -3.0], [math.nan, 0.0]])
    figure = plots.scatter(samples, torch.zeros(5, 2), 2.0)
    left, right = figure.axes
    assert left.get_title() == "samples (2 of 3 outside)"  # one beyond the box, one not a number
    assert right.get_title() == "data"
    assert left.collections[0].get_offsets()[0].tolist() == [0.0, 1.0]
    assert len(right.collections[0].get_offsets()) == 5


def test_image_grid_shows_each_pixel_as_an_exact_block(tmp_path):
    levels = torch.linspace(-1, 1, 17)
    x = levels[torch.arange(64 * 64) % 17].reshape(64, 1, 8, 8)
    path = plots.save(plots.image_grid(x, num_columns=8, upscale=4), tmp_path / "new" / "grid.png")
    drawn = matplotlib.image.imread(path)
    assert drawn.shape[:2] == (8 * 34 + 2, 8 * 34 + 2)
    second = drawn[2:34, 36:68, 0]  # first row, second column
    blocks = np.kron((x[1, 0].numpy() + 1) / 2, np.ones((4, 4)))
    assert np.abs(second - blocks).max() < 1.01 / 255


def test_image_grid_keeps_colours_and_clips_what_is_beyond_the_range(tmp_path):
    x = torch.tensor([-1.0, 0.0, 3.0]).reshape(1, 3, 1, 1)
    drawn = matplotlib.image.imread(plots.save(plots.image_grid(x, 1, 6), tmp_path / "grid.png"))
    assert np.abs(drawn[4, 4, :3] - [0.0, 0.5, 1.0]).max() < 1.01 / 255


class Pictured(InMemoryData):
    """Knows its shape and domain; is never loaded."""

    def __init__(self, domain, **kwargs):
        super().__init__(shape=(1, 2, 2), batch_size=1, order_seed=0, domain=domain, **kwargs)

    def load(self):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("data", "to_events"),
    [
        (Pictured("image", levels=256), lambda x: x),
        (Pictured("image", levels=256, transform=Logit(0.05)), Logit(0.05).forward),
        (Pictured("binary"), lambda x: (x + 1) / 2),
    ],
)
def test_picture_shows_pixels_whatever_the_model_sees(data, to_events, tmp_path):
    x = torch.tensor([-1.0, 1.0, 1.0, -1.0]).reshape(1, 1, 2, 2)
    drawn = matplotlib.image.imread(plots.save(plots.picture(to_events(x), x, data), tmp_path / "grid.png"))
    corners = drawn[[0, 0, -1, -1], [0, -1, 0, -1], 0]
    assert corners == pytest.approx([0, 1, 1, 0], abs=1.01 / 255)


@pytest.mark.parametrize(("width", "drawn_width"), [(8, 64), (28, 56), (100, 100)])
def test_image_grid_picks_a_whole_number_of_pixels(width, drawn_width):
    figure = plots.image_grid(torch.zeros(3, 1, width, width), num_columns=3)
    assert figure.get_size_inches()[0] * figure.dpi == pytest.approx(3 * (drawn_width + 2) + 2)


def test_image_grid_refuses_other_channels_and_numbers_that_are_not():
    with pytest.raises(ValueError, match="1 or 3 channels"):
        plots.image_grid(torch.zeros(4, 2, 8, 8))
    with pytest.raises(ValueError, match="NaN"):
        plots.image_grid(torch.full((4, 1, 8, 8), math.nan))


def bar_areas(figure):
    """The area of every filled histogram."""
    (axes,) = figure.axes
    areas = []
    for patch in axes.patches[::2]:
        corners = patch.get_xy()
        x, y = corners[:, 0], corners[:, 1]
        areas.append(0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))))
    return areas


def test_histogram_areas_are_the_shares_that_are_shown():
    data = torch.linspace(0, 1, 1001)
    noise = torch.cat([data, data + 100])  # half of it far beyond three widths of the data
    figure = plots.histogram({"data": data, "noise": noise})
    assert bar_areas(figure) == [pytest.approx(1.0, abs=0.011), pytest.approx(0.5, abs=0.011)]
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["data", "noise (50% outside)"]


def test_histogram_of_a_constant():
    assert bar_areas(plots.histogram({"data": torch.zeros(10)})) == [pytest.approx(1.0)]


ROWS = [
    {"iteration": "0", "epoch": "0", "train/loss": "2.0", "val/loss": "", "train/grad_norm": "1.0", "x": ""},
    {"iteration": "10", "epoch": "0", "train/loss": "1.0", "val/loss": "", "train/grad_norm": "nan", "x": ""},
    {"iteration": "20", "epoch": "1", "train/loss": "", "val/loss": "1.5", "train/grad_norm": "3.0", "x": ""},
]


def test_curves_group_metrics_and_skip_empty_ones():
    loss, grad = plots.curves(ROWS).axes
    assert [loss.get_title(loc="left"), grad.get_title(loc="left")] == ["loss", "train/grad_norm"]
    lines = {line.get_label(): line for line in loss.lines}
    assert lines["train/loss"].get_xdata().tolist() == [0, 10]
    assert lines["train/loss"].get_ydata().tolist() == [2.0, 1.0]
    assert lines["val/loss"].get_xdata().tolist() == [20]
    assert grad.lines[0].get_xdata().tolist() == [0, 10, 20]  # a gap at 10
    assert grad.get_xlabel() == "iteration"


def test_long_curves_carry_their_running_mean():
    rows = [{"iteration": i, "loss": i + (-1) ** i} for i in range(400)]
    raw, mean = plots.curves(rows).axes[0].lines
    assert len(raw.get_xdata()) == 400
    # a mean over 10 removes the alternation; it stands half an iteration from the middle of its window
    assert np.abs(mean.get_ydata() - mean.get_xdata() + 0.5).max() < 1e-9


def test_curves_refuse_rows_without_numbers_or_without_an_axis():
    with pytest.raises(ValueError, match="no number to draw"):
        plots.curves([{"iteration": 0, "loss": ""}, {"iteration": 1, "loss": "nan"}])
    with pytest.raises(ValueError, match="iteration, step, epoch"):
        plots.curves([{"loss": 1.0}])


def test_drawing_leaves_no_global_state():
    settings = dict(matplotlib.rcParams)
    plots.histogram({"data": torch.zeros(3)})
    assert dict(matplotlib.rcParams) == settings


def test_each_class_has_a_row_of_images(tmp_path):
    class Images(InMemoryData):
        def load(self):
            raise NotImplementedError

    shades = torch.tensor([-1.0, 0.0, 1.0]).view(3, 1, 1, 1, 1).expand(3, 4, 1, 8, 8)
    data = Images(shape=[1, 8, 8], batch_size=1, order_seed=0, domain="image", levels=17)
    pixels = matplotlib.image.imread(plots.save(plots.class_rows(shades, data), tmp_path / "rows.png"))
    height, width = pixels.shape[:2]  # three rows of four images of 64 pixels, 2 between them
    assert (height, width) == (3 * 66 + 2, 4 * 66 + 2)
    rows = [pixels[66 * k + 2 : 66 * (k + 1), 2:66, 0] for k in range(3)]
    assert [float(row.mean()) for row in rows] == pytest.approx([0.0, 0.5, 1.0], abs=0.01)
    points = Images(shape=[2], batch_size=1, order_seed=0, domain="real")
    assert plots.class_rows(torch.zeros(3, 4, 2), points) is None
