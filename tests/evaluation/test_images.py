import math

import matplotlib.image
import numpy as np
import pytest
import torch

from ebm_lab.evaluation import images, plots

# For 2 × 2 matrices tr √M = √(tr M + 2 √det M); here ‖Δμ‖² = 2, the traces are 3 and 2.5, tr Σ₁Σ₂ = 3.2 and
# the determinants 1.75 and 1.41: 2 + 5.5 - 2 √(3.2 + 2 √2.4675).
GENERAL = 2.463471190


def gaussian(mean, covariance):
    return torch.tensor(mean, dtype=torch.float64), torch.tensor(covariance, dtype=torch.float64)


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [
        (gaussian([0, 0], [[1, 0], [0, 1]]), gaussian([1, 0], [[4, 0], [0, 1]]), 2.0),
        (gaussian([1, -1], [[2, 0.5], [0.5, 1]]), gaussian([0, 0], [[1, -0.3], [-0.3, 1.5]]), GENERAL),
        (gaussian([0, 0], [[1, 1], [1, 1]]), gaussian([0, 0], [[0, 0], [0, 9]]), 2 + 9 - 2 * 3),  # singular
    ],
)
def test_frechet_distance_of_known_gaussians(first, second, distance):
    assert images.frechet_distance(*first, *second) == pytest.approx(distance, abs=1e-9)
    assert images.frechet_distance(*second, *first) == pytest.approx(distance, abs=1e-9)
    assert images.frechet_distance(*first, *first) == pytest.approx(0, abs=1e-7)


def test_frechet_between_is_that_of_the_sample_moments_and_its_error_is_their_spread():
    generator = torch.Generator().manual_seed(0)
    # In one dimension (m₁-m₂)² + (s₁-s₂)², here with m₁-m₂ = 3: 400 events on both sides give it the
    # variance (2·3)² · 2/400 = .42², to which equal widths add nothing at first order.
    found = []
    for _ in range(60):
        x, y = torch.randn(2, 400, 1, generator=generator, dtype=torch.float64)
        found.append(images.frechet_between(x + 3, y))
    value = (x.mean() + 3 - y.mean()).square() + (x.std() - y.std()).square()
    assert found[-1][0] == pytest.approx(float(value), abs=1e-9)
    values, errors = torch.tensor(found).double().T
    assert float(values.std()) == pytest.approx(0.42, rel=0.3)
    # a jackknife of 10 groups has 9 degrees of freedom: 24 % an error, 3 % their mean square
    assert float(errors.square().mean().sqrt()) == pytest.approx(0.42, rel=0.15)


def test_frechet_between_refuses_too_few():
    with pytest.raises(ValueError, match="at least 20 events a side, got 19 and 30"):
        images.frechet_between(torch.zeros(19, 2), torch.zeros(30, 2))


def test_class_frequencies_and_the_classes_that_they_cover():
    classes = torch.tensor([0] * 97 + [1] * 3 + [2] * 98 + [4] * 2)
    frequencies = images.class_frequencies(classes, 10)
    assert frequencies.tolist() == pytest.approx([0.485, 0.015, 0.49, 0, 0.01, 0, 0, 0, 0, 0])
    assert images.num_covered(frequencies) == 2  # above 2 %
    assert images.num_covered(images.class_frequencies(torch.tensor([0] * 49 + [1]), 10)) == 1  # 2 % is not
    assert images.num_covered(torch.full((100,), 0.01)) == 100


def test_share_error_is_binomial_and_never_certain():
    assert images.share_error(0.3, 10**6) == pytest.approx(math.sqrt(0.21 / 10**6), rel=1e-5)
    # none of 9: (½ / 10) (1 - ½ / 10) / 10
    assert images.share_error(0.0, 9) == pytest.approx(math.sqrt(0.05 * 0.95 / 10))
    assert images.share_error(1.0, 9) == pytest.approx(images.share_error(0.0, 9))


def test_nearest_neighbours_are_those_of_all_distances():
    generator = torch.Generator().manual_seed(0)
    x, among = torch.rand(70, 1, 3, 3, generator=generator), torch.rand(300, 1, 3, 3, generator=generator)
    x[7] = among[123]
    distances = (x[:, None].double() - among[None].double()).flatten(2).norm(dim=2)
    found = images.nearest_neighbours(x, among, chunk_size=32)
    torch.testing.assert_close(found.distance, distances.min(1).values, atol=1e-12, rtol=0)
    assert torch.equal(found.index, distances.argmin(1))
    assert found.distance[7] == 0 and found.index[7] == 123


def test_copies_are_nearer_than_held_out_data():
    held_out = torch.linspace(1, 2, 101).double()  # its 1 % quantile is 1.01
    assert images.nearer_than_held_out(torch.tensor([0.0, 0.0, 1.0, 1.02]).double(), held_out)[0] == 0.75
    share, error = images.nearer_than_held_out(held_out, held_out)
    assert share == pytest.approx(1 / 101)
    assert error == images.share_error(share, 101)


def test_paired_picture_puts_each_partner_under_its_image(tmp_path):
    above = torch.linspace(-1, 0, 5).reshape(5, 1, 1, 1).expand(5, 1, 2, 2)
    below = torch.linspace(0.2, 1, 5).reshape(5, 1, 1, 1).expand(5, 1, 2, 2)
    path = plots.save(images.paired_picture(above, below, num_columns=2), tmp_path / "pairs.png")
    drawn = matplotlib.image.imread(path)[..., 0]
    centres = drawn[34::66, 34::66] * 2 - 1  # a cell is 64 pixels and a border of 2
    expected = torch.stack([above[:2], below[:2], above[2:4], below[2:4]])[..., 0, 0, 0]
    assert np.abs(centres - expected.numpy()).max() < 0.01


def test_fewer_images_than_columns_make_one_row():
    figure = images.paired_picture(torch.zeros(3, 1, 2, 2), torch.zeros(3, 1, 2, 2))
    assert figure.get_size_inches() * figure.dpi == pytest.approx([3 * 66 + 2, 2 * 66 + 2])
