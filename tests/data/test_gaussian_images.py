"""Gaussian images: one law at every resolution, and density, score and draws that belong together."""

import math

import pytest
import torch

from ebm_lab.data import Gaussian, haar_images
from ebm_lab.data.seeding import seeded_generator

F64 = torch.float64


def block_mean(x):
    return x.unfold(2, 2, 2).unfold(3, 2, 2).mean((-2, -1))


def test_spectrum_and_the_law_of_block_means():
    """4^(K-k) v_k, as often as grid k has more pixels than grid k - 1; a mean over blocks leaves k < K."""
    fine, coarse = haar_images(8, 0.5, 4.0), haar_images(4, 1.0, 4.0)
    expected = torch.tensor([0.5] * 48 + [4.0 * 1] * 12 + [16 * 2.0] * 3 + [64 * 4.0], dtype=F64)
    torch.testing.assert_close(torch.linalg.eigvalsh(fine.covariance), expected)
    means = block_mean(torch.eye(64, dtype=F64).view(64, 1, 8, 8)).flatten(1)
    torch.testing.assert_close(means.T @ fine.covariance @ means, coarse.covariance)


def test_density_and_score_are_those_of_the_flattened_gaussian():
    law, x = haar_images(4), torch.randn(7, 1, 4, 4, generator=seeded_generator(0), dtype=F64)
    for images, covariance in (
        (law, law.covariance),
        (law.noised(0.3), law.covariance + 0.09 * torch.eye(16, dtype=F64)),
    ):
        flat = Gaussian([0.0] * 16, covariance)
        torch.testing.assert_close(images.log_prob(x), flat.log_prob(x.flatten(1)))
        torch.testing.assert_close(images.score(x).flatten(1), flat.score(x.flatten(1)))
        assert images.entropy() == pytest.approx(flat.entropy())
        assert images.shape == (1, 4, 4) and images.domain == "image"


def test_draws_have_the_covariance():
    """In the Haar basis, within 4.5 standard errors √(2/n): 1 false alarm in 9000 over 16 directions."""
    law, num = haar_images(4), 20_000
    variances, vectors = torch.linalg.eigh(law.covariance)
    x = law.sample(num, seeded_generator(0), F64)
    assert x.shape == (num, 1, 4, 4)
    ratio = (x.flatten(1) @ vectors).square().mean(0) / variances
    assert ((ratio - 1).abs() < 4.5 * math.sqrt(2 / num)).all()


def test_a_wrong_number_is_refused():
    for numbers, message in (
        ({"side": 6}, "side must be a power of 2, got 6"),
        ({"side": 1}, "side"),
        ({"side": 4, "smallest": 2.0}, "smallest must not exceed largest"),
    ):
        with pytest.raises(ValueError, match=message):
            haar_images(**numbers)
