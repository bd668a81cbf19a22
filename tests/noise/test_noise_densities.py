import io
import math

import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal, Uniform

from ebm_lab.errors import UserError
from ebm_lab.noise import (
    DiagonalGaussian,
    Flow,
    Gaussian,
    GaussianCopula,
    StandardGaussian,
    TransportedNoise,
    UniformBox,
)

F64 = torch.float64
FITTED = [DiagonalGaussian, Gaussian]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def correlated_data(shape, n=500):
    d = math.prod(shape)
    mixing = torch.randn(d, d, generator=seeded(1), dtype=F64)
    x = torch.randn(n, d, generator=seeded(2), dtype=F64) @ mixing + torch.arange(d, dtype=F64)
    return x.view(n, *shape)


def every_noise(shape):
    noises = [
        StandardGaussian(shape, 1.3),
        UniformBox(shape, -2.0, 1.0),
        DiagonalGaussian(shape),
        Gaussian(shape),
    ]
    for noise in noises:
        noise.double().fit(correlated_data(shape))
    return noises


def name(value):
    return type(value).__name__ if not isinstance(value, type) else value.__name__


@pytest.mark.parametrize("noise", every_noise((2,)), ids=name)
def test_density_integrates_to_one(noise):
    # Midpoint rule on a box of 12 standard deviations and more; the box edges fall on cell borders.
    n, half = 1200, 18.0
    line = (torch.arange(n, dtype=F64) + 0.5) / n * 2 * half - half
    cell = (2 * half / n) ** 2
    total = noise.log_prob(torch.cartesian_prod(line, line)).exp().sum() * cell
    assert total.item() == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("shape", [(2,), (1, 2, 5)])
def test_log_prob_matches_torch_distributions(shape):
    data, d = correlated_data(shape), math.prod(shape)
    flat = data.flatten(1)
    standard, uniform, diagonal, full = every_noise(shape)
    centred = flat - flat.mean(0)
    ridge = 1e-4 * torch.eye(d, dtype=F64)
    covariance = centred.T @ centred / len(flat) + ridge
    x = torch.randn(50, *shape, generator=seeded(3), dtype=F64)
    # The scalars 1.3 passes through float32 on its way into a buffer: 2e-8 relative.
    truths = [
        (standard, Independent(Normal(torch.zeros(d, dtype=F64), 1.3), 1), 1e-6),
        (
            diagonal,
            Independent(Normal(flat.mean(0), (flat.var(0, correction=0) + 1e-4).sqrt()), 1),
            1e-12,
        ),
        (full, MultivariateNormal(flat.mean(0), covariance), 1e-9),
    ]
    for noise, truth, tolerance in truths:
        torch.testing.assert_close(
            noise.log_prob(x), truth.log_prob(x.flatten(1)), rtol=tolerance, atol=tolerance
        )
    inside = torch.rand(50, *shape, generator=seeded(4), dtype=F64) * 3 - 2
    box = Independent(Uniform(torch.full((d,), -2.0, dtype=F64), 1.0), 1)
    torch.testing.assert_close(uniform.log_prob(inside), box.log_prob(inside.flatten(1)))


def test_fit_takes_the_moments_of_the_data():
    data = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 8.0]], dtype=F64)
    diagonal, full = DiagonalGaussian((2,), ridge=0.0).double(), Gaussian((2,), ridge=0.5).double()
    diagonal.fit(data), full.fit(data)
    assert diagonal.mean.tolist() == full.mean.tolist() == [1.0, 3.0]
    torch.testing.assert_close(diagonal.std, torch.tensor([1.0, math.sqrt(11)], dtype=F64))
    expected = torch.tensor([[1.5, 1.0], [1.0, 11.5]], dtype=F64)
    torch.testing.assert_close(full.cholesky @ full.cholesky.T, expected)


@pytest.mark.parametrize("shape", [(2,), (1, 2, 5)])
@pytest.mark.parametrize("kind", [StandardGaussian, DiagonalGaussian, Gaussian])
def test_gaussian_samples_have_the_moments_of_the_density(kind, shape):
    # A sample covariance of n Gaussian events has SE √((S_ii S_jj + S_ij²)/n) in entry (i, j).
    noise, n = kind(shape).double(), 40_000
    noise.fit(correlated_data(shape))
    x = noise.sample(n, seeded(5))
    assert x.shape == (n, *shape) and x.dtype == F64
    d = math.prod(shape)
    if kind is StandardGaussian:
        mean, S = torch.zeros(d, dtype=F64), torch.eye(d, dtype=F64)
    elif kind is DiagonalGaussian:
        mean, S = noise.mean.flatten(), noise.std.flatten().square().diag()
    else:
        mean, S = noise.mean.flatten(), noise.cholesky @ noise.cholesky.T
    centred = x.flatten(1) - mean
    # 110 numbers are looked at together: 5 standard errors.
    assert (centred.mean(0).abs() < 5 * (S.diagonal() / n).sqrt()).all()
    error = ((S.diagonal()[:, None] * S.diagonal() + S.square()) / n).sqrt()
    assert ((centred.T @ centred / n - S).abs() < 5 * error).all()


def test_uniform_samples_fill_the_box():
    x = UniformBox((3,), -2.0, 1.0).double().sample(20_000, seeded(6))
    assert x.min() >= -2 and x.max() <= 1
    assert (x.mean(0) + 0.5).abs().max() < 4 * math.sqrt(0.75 / 20_000)
    # Var of (x - mean)² of a uniform of width 3: 3⁴/180.
    assert ((x + 0.5).square().mean(0) - 0.75).abs().max() < 4 * math.sqrt(81 / 180 / 20_000)


def test_uniform_outside_at_the_edge_and_at_nan():
    noise = UniformBox((2,), 0.0, 2.0).double()
    x = torch.tensor([[0, 2], [1, 2.001], [-0.001, 1], [math.inf, 1], [math.nan, 1]], dtype=F64)
    log_prob = noise.log_prob(x).tolist()
    assert log_prob[0] == pytest.approx(-2 * math.log(2), abs=1e-14)
    assert log_prob[1:4] == [-math.inf] * 3
    assert math.isnan(log_prob[4])


@pytest.mark.parametrize("noise", every_noise((2,)), ids=name)
def test_log_prob_is_differentiable_in_x(noise):
    x = torch.tensor([[0.3, -0.4]], dtype=F64, requires_grad=True)
    (gradient,) = torch.autograd.grad(noise.log_prob(x).sum(), x)
    steps = 1e-5 * torch.eye(2, dtype=F64)
    numeric = (noise.log_prob(x.detach() + steps) - noise.log_prob(x.detach() - steps)) / 2e-5
    torch.testing.assert_close(gradient[0], numeric.detach(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("noise", every_noise((2,)), ids=name)
def test_samples_come_from_the_generator_alone(noise):
    state = torch.get_rng_state()
    first, again, other = (noise.sample(4, seeded(s)) for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("noise", every_noise((1, 2, 5)), ids=name)
def test_state_round_trip(noise):
    arguments = {"scale": 0.5} if isinstance(noise, StandardGaussian) else {}
    arguments = {"low": -9.0, "high": 9.0} if isinstance(noise, UniformBox) else arguments
    fresh, file = type(noise)(noise.shape, **arguments).double(), io.BytesIO()
    torch.save(noise.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    x = noise.sample(5, seeded())
    assert torch.equal(fresh.log_prob(x), noise.log_prob(x)) and torch.equal(fresh.sample(5, seeded()), x)
    assert list(noise.parameters()) == []


@pytest.mark.parametrize("kind", FITTED)
def test_use_before_fit_is_refused(kind):
    noise = kind((2,))
    with pytest.raises(RuntimeError, match=f"{kind.__name__} has not been fitted; call fit"):
        noise.sample(1, seeded())
    with pytest.raises(RuntimeError, match="has not been fitted"):
        noise.log_prob(torch.zeros(1, 2))


@pytest.mark.parametrize("kind", FITTED)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_data_that_are_not_finite_are_refused(kind, bad):
    data = torch.zeros(5, 2)
    data[3, 1] = bad
    noise = kind((2,))
    with pytest.raises(UserError, match="cannot be fitted: 1 of 5 events hold NaN or infinity"):
        noise.fit(data)
    assert not noise.fitted


@pytest.mark.parametrize("kind", FITTED)
def test_constant_coordinates_need_a_ridge(kind):
    data = torch.randn(20, 2, generator=seeded(), dtype=F64)
    data[:, 1] = 3.0
    with pytest.raises(UserError, match="set ridge"):
        kind((2,), ridge=0.0).fit(data)
    noise = kind((2,), ridge=0.01).double()
    noise.fit(data)
    x = torch.tensor([[0.0, 3.0], [0.0, 3.1]], dtype=F64)
    drop = (noise.log_prob(x)[0] - noise.log_prob(x)[1]).item()
    assert drop == pytest.approx(0.1**2 / (2 * 0.01), rel=1e-9)


@pytest.mark.parametrize("noise", every_noise((1, 2, 5)), ids=name)
def test_another_shape_is_refused(noise):
    with pytest.raises(ValueError, match=r"is on events of shape \(1, 2, 5\), got \(5,\)"):
        noise.log_prob(torch.zeros(3, 5, dtype=F64))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: StandardGaussian((2,), scale=0.0), "scale must be positive, got 0.0"),
        (lambda: UniformBox((2,), 1.0, 1.0), "low < high, got low=1.0 and high=1.0"),
        (lambda: Gaussian((2,), ridge=-1.0), "ridge must be a finite number, at least 0, got -1.0"),
        (lambda: DiagonalGaussian((2,), ridge=-1.0), "ridge must be a finite number, at least 0, got -1.0"),
        (lambda: Gaussian((2, 0)), "shape must hold positive lengths"),
    ],
)
def test_numbers_are_checked(build, words):
    with pytest.raises(ValueError, match=words):
        build()


def every_transport(shape):
    noises = [n for n in every_noise(shape) if isinstance(n, TransportedNoise)]
    noises += [GaussianCopula(shape, num_knots=8).double(), Flow(shape, fit_steps=20).double()]
    for noise in noises[-2:]:
        noise.fit(correlated_data(shape))
    return noises


@pytest.mark.parametrize("shape", [(2,), (1, 2, 5)])
def test_a_map_and_its_way_back(shape):
    """x and z belong together in both directions, and log |det ∂x/∂z| is the Jacobian's."""
    for noise in every_transport(shape):
        z = torch.randn(6, noise.num_features, generator=seeded(8), dtype=F64)
        x, log_det = noise.transport(z)
        assert x.shape == (6, *shape)
        back, log_det_back = noise.latent(x)
        # a spline is inverted by a quadratic formula: 1e-8
        torch.testing.assert_close(back, z, rtol=0, atol=1e-7, msg=name(noise))
        torch.testing.assert_close(log_det_back, -log_det, rtol=0, atol=1e-7)
        jacobian = torch.func.jacrev(lambda z, noise=noise: noise.transport(z[None])[0].flatten())(z[0])
        expected = torch.linalg.slogdet(jacobian).logabsdet.detach()
        assert log_det[0].item() == pytest.approx(expected.item(), abs=1e-6)
