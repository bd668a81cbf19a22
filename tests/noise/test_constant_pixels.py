"""Coordinates that never or hardly vary, as the border of MNIST's images: densities, draws, held-out events.

Diagonal and full Gaussian, copula and histograms have such tests beside their others.
"""

import math
import os
from pathlib import Path

import hydra
import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from stand_ins import write_mnist
from torch.distributions import MultivariateNormal, Normal

from ebm_lab import schema
from ebm_lab.cli import CONFIGS
from ebm_lab.data import bits_per_dim
from ebm_lab.data.image_files import IMAGE_FILES
from ebm_lab.noise import DiagonalGaussian, Flow, KernelDensity, LowRankMixture

F64 = torch.float64
C = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=F64)
CONSTANT, RIDGE = 3.0, 0.01


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def two_correlated(num, seed):
    return torch.randn(num, 2, generator=seeded(seed), dtype=F64) @ torch.linalg.cholesky(C).T


def with_a_constant(num=2000, seed=1):
    return torch.cat([two_correlated(num, seed), torch.full((num, 1), CONSTANT, dtype=F64)], 1)


def off_the_constant():
    """Held-out events, half of them .1 beside what the coordinate always was."""
    x = with_a_constant(400, seed=2)
    x[::2, 2] += 0.1
    return x


def test_a_mixture_has_the_ridge_as_the_variance_of_a_constant():
    """One component of rank 1: Σ of the two others is v vᵀ and the rest of the diagonal, apart from it."""
    data, x = with_a_constant(), off_the_constant()
    noise = LowRankMixture((3,), num_components=1, rank=1, ridge=RIDGE).double()
    noise.fit(data)
    pair = data[:, :2]
    covariance = pair.T.cov(correction=0)
    value, vector = (t[..., -1] for t in torch.linalg.eigh(covariance))
    covariance = covariance + RIDGE * torch.eye(2, dtype=F64)
    low_rank = value * torch.outer(vector, vector)
    low_rank.diagonal().copy_(covariance.diagonal())
    of_pair = MultivariateNormal(pair.mean(0), low_rank).log_prob(x[:, :2])
    of_constant = Normal(torch.tensor(CONSTANT, dtype=F64), math.sqrt(RIDGE)).log_prob(x[:, 2])
    torch.testing.assert_close(noise.log_prob(x), of_pair + of_constant, rtol=0, atol=1e-6)
    num = 40_000
    draws = noise.sample(num, seeded(3))[:, 2]
    assert draws.mean().item() == pytest.approx(CONSTANT, abs=4 * math.sqrt(RIDGE / num))
    assert draws.var().item() == pytest.approx(RIDGE, abs=4 * RIDGE * math.sqrt(2 / num))


def test_a_kernel_estimate_has_its_width_in_a_constant():
    """N(x_3; 3, h²) factors out of every kernel; with it h narrows, for each event predicts it the better."""
    data, x = with_a_constant(800), off_the_constant()
    noise, pair = KernelDensity((3,)).double(), KernelDensity((2,)).double()
    noise.fit(data), pair.fit(data[:, :2])
    h = noise.width.item()
    assert 0 < h < pair.width.item()
    pair.width.fill_(h)
    of_constant = Normal(torch.tensor(CONSTANT, dtype=F64), h).log_prob(x[:, 2])
    # the distances by a product lose digits of 3² over h²
    torch.testing.assert_close(noise.log_prob(x), pair.log_prob(x[:, :2]) + of_constant, rtol=0, atol=1e-8)
    num = 40_000
    draws = noise.sample(num, seeded(3))[:, 2]
    assert draws.mean().item() == pytest.approx(CONSTANT, abs=4 * h / math.sqrt(num))
    assert draws.std().item() == pytest.approx(h, abs=4 * h / math.sqrt(2 * num))


@pytest.mark.parametrize("bins", [8, None], ids=["spline", "affine"])
def test_a_flow_sharpens_a_constant_from_the_ridge_on(bins):
    """Its likelihood has no bound there; some steps of the fit gain on the Gaussian that it starts from."""
    x, new = with_a_constant(), with_a_constant(seed=2)
    flow = Flow((3,), num_transforms=2, width=16, depth=1, bins=bins, fit_steps=60, ridge=RIDGE).double()
    start = DiagonalGaussian((3,), ridge=RIDGE).double()
    flow.fit(x), start.fit(x)
    assert flow.log_prob(new).mean() > start.log_prob(new).mean() + 0.5
    draws = flow.sample(4000, seeded(3))
    assert draws[:, 2].std() < math.sqrt(RIDGE)
    assert draws[:, 2].mean().item() == pytest.approx(CONSTANT, abs=math.sqrt(RIDGE) / 2)
    # in their widths, what a short fit leaves of the two others' mean
    assert draws[:, :2].mean(0).abs().max() < 0.15


def with_a_black_pixel(num=2000, seed=1):
    """-1 + u/128: level 0, dequantised."""
    black = torch.rand(num, 1, generator=seeded(seed + 10), dtype=F64) / 128 - 1
    return torch.cat([two_correlated(num, seed), black], 1)


@pytest.mark.parametrize(
    "options", [{}, {"bins": None, "fit_steps": 300}, {"kind": "autoregressive"}], ids=str
)
def test_a_flow_with_a_black_pixel_lies_between_a_gaussian_and_the_truth(options):
    """Held-out log q: above that of independent Gaussians, from which the fit starts, and below -entropy."""
    x, new = with_a_black_pixel(), with_a_black_pixel(seed=2)
    small = {"num_transforms": 3, "width": 16, "depth": 1, "fit_steps": 150}
    flow, start = Flow((3,), **{**small, **options}).double(), DiagonalGaussian((3,)).double()
    flow.fit(x), start.fit(x)
    log_q, entropy = flow.log_prob(new), math.log(2 * math.pi * math.e) + 0.5 * C.logdet() - math.log(128)
    error = log_q.std() / math.sqrt(len(new))
    assert start.log_prob(new).mean() + 1 < log_q.mean() < -entropy + 4 * error
    draws = flow.sample(4000, seeded(3))
    middle, width = -1 + 1 / 256, 1 / 128 / math.sqrt(12)
    assert draws[:, 2].mean().item() == pytest.approx(middle, abs=width)
    assert draws[:, 2].std() < start.std[2]  # narrower than the ridge left it
    assert draws.T.corrcoef()[0, 1].item() == pytest.approx(0.8, abs=0.06)  # after a short fit


# --- images -------------------------------------------------------------------------------------------------

INSIDE = 400  # pixels of 784 within a border of 4


def framed(num, seed):
    """A black border, and inside levels on their own: seven of ten pixels black, the others 1 to 255."""
    random = np.random.default_rng(seed)
    x = np.where(random.random((num, 28, 28)) < 0.7, 0, random.integers(1, 256, (num, 28, 28)))
    x[:, :4] = x[:, -4:] = x[:, :, :4] = x[:, :, -4:] = 0
    return x.astype(np.uint8)


def parts(*overrides):
    """Data and noise of a command, the data set up."""
    schema.register()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose(
            "train", overrides=["data=mnist", "data.download=false", "output_dir=x", *overrides]
        )
    data, noise = (instantiate(cfg[group], _convert_="all") for group in ("data", "noise"))
    data.setup()
    return data, noise


def bits_of(noise, data, x):
    """Bits per dimension of the integer pixels, event by event."""
    return bits_per_dim(noise.log_prob(x).double(), data.log_jacobian_to_levels(x.double()), data.shape)


@pytest.mark.parametrize(("transform", "gain"), [("null", 0.4), ("logit", -0.05)])
def test_a_flow_of_images_with_a_black_border(tmp_path, transform, gain):
    """Bits/dim of held-out images: below a diagonal Gaussian's, from which the fit starts, and above entropy.

    On logits that Gaussian is good and 30 steps of a fit do no more than keep it.
    """
    write_mnist(tmp_path, images=(framed(1200, 0), framed(200, 1)))
    flow_options = ["noise=flow_images", "noise.fit_steps=30"]
    data, flow = parts(
        *flow_options, f"data.transform={transform}", f"data.root={tmp_path}", "data.num_val=100"
    )
    start = DiagonalGaussian(data.shape)
    flow.fit(data.train_x), start.fit(data.train_x)
    bits, bits_at_start = bits_of(flow, data, data.test_x), bits_of(start, data, data.test_x)
    entropy = -INSIDE * (0.7 * math.log2(0.7) + 0.3 * math.log2(0.3 / 255)) / 784
    error = bits.std() / math.sqrt(len(bits))
    assert entropy - 4 * error < bits.mean() < bits_at_start.mean() - gain
    # draws in the coordinates of the fit: the data's mean and spread, but for a short fit
    draws, like = flow.sample(400, seeded()), data.train_x
    for rows in (slice(0, 4), slice(4, 24)):
        found, expected = (x[..., rows, 4:24].double() for x in (draws, like))
        assert found.mean().item() == pytest.approx(expected.mean().item(), abs=0.1 * expected.std().item())
        ridge = 1e-4 if rows.start == 0 else 0.0  # that the border's spread starts from
        assert 0.8 * expected.std() < found.std() < 1.2 * (expected.var() + ridge).sqrt()


@pytest.fixture(scope="module", params=["null", "logit"])
def mnist(request):
    folder = os.environ.get("EBM_LAB_DATA", "data")
    if not IMAGE_FILES["mnist"].complete(Path(folder)):
        pytest.skip(f"EBM_LAB_DATA has no mnist in {folder}: python scripts/prepare_data.py mnist")
    data, start = parts("noise=diagonal", f"data.root={folder}", f"data.transform={request.param}")
    start.fit(data.train_x[:5000])
    return data, start


def isotropic_bits(data, x, new):
    """Of N(mean, s² I), s² the mean variance: what a kernel of one width for all pixels is compared with."""
    mean, std = x.mean(0), x.var(0).mean().sqrt()
    log_q = Normal(mean, std).log_prob(new).flatten(1).sum(1)
    return bits_per_dim(log_q.double(), data.log_jacobian_to_levels(new.double()), data.shape)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["noise=mixture_images", "noise.num_components=10"],
        ["noise=kernel_density"],
        ["noise=flow_images", "noise.fit_steps=60"],
        ["noise=flow", "noise.fit_steps=5", "noise.num_transforms=2", "noise.fit_batch=64"],
    ],
    ids=lambda options: options[0],
)
def test_on_mnist_no_event_is_impossible_and_most_are_likelier_than_under_a_gaussian(mnist, options):
    """5000 images to fit to and 1000 others; the median, as one ink in a dark corner can cost any number."""
    data, start = mnist
    transform = "null" if data.transform is None else "logit"
    _, noise = parts(*options, f"data.root={data.root}", f"data.transform={transform}")
    x, new = data.train_x[:5000], data.test_x[:1000]
    noise.fit(x)
    bits = bits_of(noise, data, new)
    assert bits.isfinite().all()
    is_kernel = isinstance(noise, KernelDensity)
    reference = isotropic_bits(data, x, new) if is_kernel else bits_of(start, data, new)
    assert bits.median() < reference.median() - 0.1
    dark = (data.pixels(x) < -1 + 1 / 128).all(0)  # level 0 in all of them
    draws = noise.sample(500, seeded())[:, dark]
    assert 100 < dark.sum() < 300
    found, expected = draws.double(), x[:, dark].double()
    width = math.sqrt(expected.var() + (noise.width.item() ** 2 if is_kernel else 1e-4))
    assert found.mean().item() == pytest.approx(expected.mean().item(), abs=0.1 * width)
    assert found.std() < 1.1 * width
