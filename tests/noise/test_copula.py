"""The Gaussian copula: integrals piece by piece, its maps and their inverses, draws, and what it gains."""

import io
import math

import numpy as np
import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal

from ebm_lab.errors import UserError
from ebm_lab.noise import Gaussian, GaussianCopula

F64 = torch.float64
C = torch.tensor([[1.0, 0.8, 0.0], [0.8, 1.0, -0.3], [0.0, -0.3, 1.0]], dtype=F64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def correlated(num, covariance=C, seed=1):
    z = torch.randn(num, len(covariance), generator=seeded(seed), dtype=F64)
    return z @ torch.linalg.cholesky(covariance).T


def skewed_and_bimodal(num=2000):
    """e^{z/2} beside two bumps, correlated."""
    z = correlated(num, C[:2, :2])
    return torch.stack([(z[:, 0] / 2).exp(), 2 * (2 * z[:, 1]).tanh() + 0.3 * z[:, 1]], 1)


def fitted(x, **options):
    noise = GaussianCopula(x.shape[1:], **options).double()
    noise.fit(x)
    return noise


@pytest.fixture(scope="module")
def noise():
    return fitted(skewed_and_bimodal(), num_knots=12)


def quadrature(noise):
    """Points and weights: Gauss-Legendre on each piece between two knots, where log q is smooth, and on the
    tails up to 8 standard deviations of theirs beyond the outer knots."""
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(16))
    tail = torch.linspace(0, 8, 9, dtype=F64)[1:]
    lines = []
    for knots, slopes in zip(noise.knots, noise.slopes, strict=True):
        edges = torch.cat([knots[0] - tail.flip(0) / slopes[0], knots, knots[-1] + tail / slopes[-1]])
        half, middle = edges.diff()[:, None] / 2, (edges[:-1] + edges[1:])[:, None] / 2
        lines.append(((middle + half * nodes).flatten(), (half * weights).flatten()))
    (x, weight_x), (y, weight_y) = lines
    return torch.cartesian_prod(x, y), (weight_x[:, None] * weight_y).flatten()


@pytest.mark.parametrize("num_knots", [2, 3, 25])
def test_it_integrates_to_one(num_knots):
    noise = fitted(skewed_and_bimodal(), num_knots=num_knots)
    points, weights = quadrature(noise)
    assert (noise.log_prob(points).exp() * weights).sum().item() == pytest.approx(1, abs=1e-8)


def test_draws_have_the_moments_and_the_shares_of_the_density(noise):
    points, weights = quadrature(noise)
    density = noise.log_prob(points).exp() * weights
    num = 40_000
    x = noise.sample(num, seeded(2))
    for moment in (lambda e: e, lambda e: e.square(), lambda e: e[:, :1] * e[:, 1:]):
        expected, error = (density[:, None] * moment(points)).sum(0), moment(x).std(0) / math.sqrt(num)
        assert ((moment(x).mean(0) - expected).abs() < 4 * error).all()
    for coordinate in range(2):
        for knot in noise.knots[coordinate]:  # where a piece ends, the quadrature of a step is exact
            share = density[points[:, coordinate] < knot].sum().item()
            found = (x[:, coordinate] < knot).double().mean().item()
            assert found == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / num))


def test_on_images_the_mean_ratio_of_another_density_is_one():
    x = (correlated(3000, torch.block_diag(C, C)) / 2).exp().view(3000, 1, 2, 3)
    noise = fitted(x)
    draws = noise.sample(20_000, seeded(3))
    assert draws.shape == (20_000, 1, 2, 3)
    inside = Independent(Normal(torch.ones(1, 2, 3, dtype=F64), 0.25), 3)
    ratio = (inside.log_prob(draws) - noise.log_prob(draws)).exp()
    error = ratio.std().item() / math.sqrt(len(ratio))
    assert error < 0.05 and ratio.mean().item() == pytest.approx(1, abs=4 * error)


def test_the_maps_take_quantiles_to_quantiles_with_slopes_by_hand():
    # 10 of 1000 events beyond either end: z = ∓Φ⁻¹(0.99), and 0 at the median.
    x = torch.linspace(0, 1, 1001, dtype=F64)[:, None] ** 2
    noise, end = GaussianCopula((1,), num_knots=3, jitter=0.0).double(), 2.326
    noise.fit(x)
    knots = noise.knots[0]
    tail = 10 / 1001
    expected = torch.tensor([tail**2, 0.25, (1 - tail) ** 2], dtype=F64)
    torch.testing.assert_close(knots, expected, rtol=1e-5, atol=1e-6)
    z, log_slope = noise.to_normal(knots[:, None])
    torch.testing.assert_close(z[:, 0], torch.tensor([-end, 0, end], dtype=F64), rtol=0, atol=1e-3)
    torch.testing.assert_close(log_slope[:, 0].exp(), noise.slopes[0])
    left, right = (end / width for width in knots.diff().tolist())
    assert noise.slopes[0, 1].item() == pytest.approx(2 * left * right / (left + right), rel=1e-3)
    # data that end, at 0 and at 1: their tails are so short that the cap holds
    assert noise.slopes[0, [0, 2]].tolist() == pytest.approx([2 * left, 2 * right], rel=1e-3)


def far_and_near(noise, num=400):
    """Points of each coordinate from 20 below its first knot to 20 above its last, none of them a knot."""
    spread = torch.linspace(0.001, 0.999, num, dtype=F64)
    low, high = noise.knots[:, 0], noise.knots[:, -1]
    inside, outside = low + (high - low) * spread[:, None], low - 20 + (high - low + 40) * spread[:, None]
    return torch.cat([inside, outside])


def test_the_inverse_is_the_inverse(noise):
    x = torch.cat([far_and_near(noise), noise.knots.T])
    torch.testing.assert_close(noise.from_normal(noise.to_normal(x)[0]), x, rtol=0, atol=1e-10)
    z = torch.linspace(-12, 12, 500, dtype=F64)[:, None].expand(-1, 2)
    torch.testing.assert_close(noise.to_normal(noise.from_normal(z))[0], z, rtol=0, atol=1e-10)


def test_the_slope_is_the_derivative_and_continuous(noise):
    x = far_and_near(noise).requires_grad_()
    z, log_slope = noise.to_normal(x)
    (derivative,) = torch.autograd.grad(z.sum(), x)
    torch.testing.assert_close(log_slope.exp(), derivative, rtol=1e-10, atol=1e-12)
    knots, step = noise.knots.T, 1e-9
    for sides in zip(noise.to_normal(knots - step), noise.to_normal(knots + step), strict=True):
        torch.testing.assert_close(*sides, rtol=0, atol=1e-6)


def test_log_prob_is_differentiable_in_x(noise):
    x = skewed_and_bimodal(20).requires_grad_()
    (gradient,) = torch.autograd.grad(noise.log_prob(x).sum(), x)
    for coordinate in range(2):
        step = 1e-6 * torch.eye(2, dtype=F64)[coordinate]
        numeric = (noise.log_prob(x.detach() + step) - noise.log_prob(x.detach() - step)) / 2e-6
        torch.testing.assert_close(gradient[:, coordinate], numeric, rtol=1e-5, atol=1e-5)


def test_on_gaussian_data_it_is_nearly_the_gaussian():
    # Estimating K quantiles costs K/(2n) nats a coordinate, R d(d + 1)/(4n): 0.0027 here; three times that.
    noise = fitted(correlated(20_000))
    x = correlated(20_000, seed=2)
    gap = noise.log_prob(x) - MultivariateNormal(torch.zeros(3, dtype=F64), C).log_prob(x)
    assert gap.mean().item() == pytest.approx(0, abs=0.008)
    error = gap.std().item() / math.sqrt(len(x))
    assert gap.mean().item() < 4 * error  # the truth has the largest expectation
    torch.testing.assert_close(noise.cholesky @ noise.cholesky.T, C, rtol=0, atol=0.04)


def test_on_correlated_lognormal_data_it_gains_what_a_gaussian_loses():
    # x = e^{y/2}, y ~ N(0, C): the entropy is ½ log det(2πe C/4), and the covariance
    # S_ij = e^{1/4} (e^{C_ij/4} - 1), so that KL(p ‖ N(Ex, S)) = ½ log det S - ½ log det(C/4).
    x, new = (correlated(20_000, seed=seed).div(2).exp() for seed in (1, 2))
    gaussian = Gaussian((3,)).double()
    gaussian.fit(x)
    gain = fitted(x).log_prob(new) - gaussian.log_prob(new)
    S = math.exp(1 / 4) * ((C / 4).exp() - 1)
    theory = (torch.logdet(S) - torch.logdet(C / 4)).item() / 2
    assert theory > 0.4
    # 0.01: the copula's own shortfall, and the difference of the fitted Gaussian from N(Ex, S)
    error = gain.std().item() / math.sqrt(len(new))
    assert gain.mean().item() == pytest.approx(theory, abs=0.01 + 4 * error)


def test_the_ridge_is_added_to_the_moments_of_the_mapped_data():
    x = skewed_and_bimodal(6000)  # mapped in more than one chunk
    noise = fitted(x, ridge=0.25, jitter=0.0)
    z = noise.to_normal(x)[0]
    expected = z.T @ z / len(x) + 0.25 * torch.eye(2, dtype=F64)
    torch.testing.assert_close(noise.cholesky @ noise.cholesky.T, expected)


def with_a_constant(num=4000):
    x = correlated(num, C[:2, :2])
    x[:, 1] = 3.0
    return x


def test_a_constant_coordinate_is_a_bump_of_the_jitters_width():
    num, jitter = 4000, 0.02
    noise = fitted(with_a_constant(num), jitter=jitter)
    x = noise.sample(num, seeded(4))
    # the jitter of the fit and the draws have each the error jitter/√(2n) of a standard deviation
    error = jitter / math.sqrt(num)
    assert x[:, 1].mean().item() == pytest.approx(3, abs=4 * math.sqrt(2) * error)
    assert x[:, 1].std().item() == pytest.approx(jitter, abs=4 * error)
    assert abs(x.T.corrcoef()[0, 1].item()) < 4 * math.sqrt(2 / num)
    truth = Normal(torch.tensor([0.0, 3.0], dtype=F64), torch.tensor([1.0, jitter], dtype=F64))
    gap = truth.log_prob(x).sum(1) - noise.log_prob(x)
    assert gap.mean().item() == pytest.approx(0, abs=0.02)  # K/(2n) nats a coordinate: 0.008


def with_an_atom(num=4000):
    """-1 in seven events of ten, N(0.3, 0.2²) in the others; and a normal coordinate that knows which."""
    known = torch.randn(num, generator=seeded(5), dtype=F64)
    off = known < math.sqrt(2) * torch.erfinv(torch.tensor(2 * 0.7 - 1)).item()
    rest = 0.3 + 0.2 * torch.randn(num, generator=seeded(6), dtype=F64)
    return torch.stack([torch.where(off, -1.0, rest), known], 1)


def test_an_atom_keeps_its_share_its_width_and_its_partner():
    num = 4000
    noise = fitted(with_an_atom(num), num_knots=100)
    x = noise.sample(num, seeded(7))
    # 4 standard errors of the two shares, and what lies in the one piece that bridges the gap
    tolerance = 4 * math.sqrt(2 * 0.7 * 0.3 / num) + noise.spacing.item() / math.sqrt(2 * math.pi)
    off = x[:, 0] < -0.9
    assert off.double().mean().item() == pytest.approx(0.7, abs=tolerance)
    assert (x[off, 0] + 1).abs().median().item() == pytest.approx(0.6745e-3, rel=0.1)  # of N(0, 0.001²)
    assert x[~off & (x[:, 0] > -0.3), 0].mean().item() == pytest.approx(0.3, abs=0.05)
    # Ranks within the atom are random: z has the mean ∓φ/(share) given off or on, φ that of Φ⁻¹(0.7), so the
    # correlation is φ²/(0.7 · 0.3) and the partner's means differ by that times φ/(0.7 · 0.3).
    phi = math.exp(-(0.5244**2) / 2) / math.sqrt(2 * math.pi)
    difference = (x[~off, 1].mean() - x[off, 1].mean()).item()
    assert difference == pytest.approx(phi**3 / 0.21**2, abs=4 * math.sqrt(1 / 0.21 / num))


def test_rare_events_far_away_widen_the_tail():
    # 10 of 2000 events beyond z_K = Φ⁻¹(0.995), 5 of them 2 above the rest: E(x - x_K)₊ = 5 · 2/2000, and
    # the standard normal's is φ(z_K) - 0.005 z_K. T goes on with their ratio t: log q = log N(T; 0, 1) +
    # log t.
    x = torch.zeros(2000, 1, dtype=F64)
    x[:5] = 2.0
    noise, end = fitted(x), 2.5758
    slope = (math.exp(-(end**2) / 2) / math.sqrt(2 * math.pi) - 0.005 * end) / 0.005
    z = end + 2 * slope
    expected = -(z**2) / 2 - math.log(2 * math.pi) / 2 + math.log(slope)
    assert noise.log_prob(x[:1]).item() == pytest.approx(expected, rel=0.02)


def like_digits(num=1000):
    """Dequantised images with a constant border and, inside, pixels that are mostly off."""
    z = correlated(num, 0.5 + 0.5 * torch.eye(16, dtype=F64)).view(num, 1, 4, 4)
    level = (100 * z).clamp(0, 255).floor()
    level[..., 0, :] = level[..., -1] = 0
    u = torch.rand(level.shape, generator=seeded(8), dtype=F64)
    return ((level + u) / 128 - 1).float()


def test_single_precision_agrees_with_double_on_images_like_digits():
    noise, x = GaussianCopula((1, 4, 4)), like_digits()
    noise.fit(x)
    single, draws = noise.log_prob(x), noise.sample(200, seeded())
    assert single.dtype == draws.dtype == torch.float32
    noise.double()
    torch.testing.assert_close(single.double(), noise.log_prob(x.double()), rtol=0, atol=0.02)
    # to_normal(T⁻¹(z)) = z up to the rounding of x near -1, 6e-8, times slopes of about 1/0.003
    z = torch.randn(200, 16, generator=seeded(9), dtype=F64)
    there = noise.float().from_normal(z.float())
    torch.testing.assert_close(noise.double().to_normal(there.double())[0], z, rtol=0, atol=2e-3)


def test_fit_and_draws_come_from_the_seed_and_the_generator_alone():
    state, x = torch.get_rng_state(), skewed_and_bimodal(200)
    one, again, other = fitted(x), fitted(x), fitted(x, seed=1)
    first, same, another = (one.sample(4, seeded(s)) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.knots, again.knots) and not torch.equal(one.knots, other.knots)
    assert torch.equal(first, same) and not torch.equal(first, another)


def test_the_checkpoint_holds_the_fit(noise):
    fresh, file = GaussianCopula((2,), num_knots=12).double(), io.BytesIO()
    torch.save(noise.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    x = skewed_and_bimodal(5)
    assert torch.equal(fresh.log_prob(x), noise.log_prob(x))
    assert torch.equal(fresh.sample(5, seeded()), noise.sample(5, seeded()))
    assert list(noise.parameters()) == []


@pytest.mark.parametrize(
    ("act", "error", "words"),
    [
        (
            lambda: GaussianCopula((2,)).sample(1, seeded()),
            RuntimeError,
            "GaussianCopula has not been fitted",
        ),
        (lambda: GaussianCopula((2,)).log_prob(torch.zeros(1, 2)), RuntimeError, "has not been fitted"),
        (lambda: GaussianCopula((2,), num_knots=1), ValueError, "num_knots must be at least 2, got 1"),
        (lambda: GaussianCopula((2,), jitter=-0.1), ValueError, "jitter must be a finite number, at least 0"),
        (lambda: GaussianCopula((2,), ridge=-1.0), ValueError, "ridge must be a finite number, at least 0"),
        (lambda: fitted(torch.randn(31, 2)), UserError, "31 events are too few for num_knots=32"),
        (lambda: fitted(torch.full((40, 2), math.nan)), UserError, "40 of 40 events hold NaN or infinity"),
        (
            lambda: fitted(with_a_constant(), jitter=0.0),
            UserError,
            "of 1 coordinates of the data coincide; set",
        ),
        (lambda: fitted(torch.zeros(40, 99), ridge=0.0), UserError, "99 features and ridge 0 are singular"),
        (lambda: fitted(skewed_and_bimodal(50)).log_prob(torch.zeros(3, 5)), ValueError, r"of shape \(2,\)"),
    ],
)
def test_mistakes_are_told_in_a_sentence(act, error, words):
    with pytest.raises(error, match=words):
        act()


def test_smoothing_bounds_the_price_of_what_a_coordinate_never_showed():
    """Of N(0, 1e-3²) and N(0, 1). At x_0 = 1, a thousand widths off, the plain copula has its Gaussian tail,
    and with 10 pseudo-events among 2000 within a few nats of 10/2000 over the range of 6."""
    x = torch.randn(2000, 2, generator=seeded(9), dtype=F64) * torch.tensor([1e-3, 1.0], dtype=F64)
    odd = torch.tensor([[1.0, 0.0]], dtype=F64)
    plain, smoothed = fitted(x, num_knots=20), fitted(x, num_knots=20, smoothing=10)
    marginal = -0.5 * math.log(2 * math.pi)  # of coordinate 1 at 0
    assert plain.log_prob(odd).item() < -1e4
    assert smoothed.log_prob(odd).item() - marginal == pytest.approx(math.log(10 / 2000 / 6), abs=3.0)
    lost = plain.log_prob(x).mean() - smoothed.log_prob(x).mean()
    assert abs(lost.item()) < 0.05


def test_smoothing_out_of_range_is_refused():
    for smoothing in (-1, 1):
        with pytest.raises(ValueError, match="smoothing must be 0 or an integer, at least 2"):
            GaussianCopula((2,), smoothing=smoothing)
