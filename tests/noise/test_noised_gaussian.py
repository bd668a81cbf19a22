"""The Gaussian of noised data: at every level what torch's multivariate normal says."""

import pytest
import torch

from ebm_lab.noise import Gaussian, NoisedGaussian


@pytest.fixture
def data(generator) -> torch.Tensor:
    mixing = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    return (torch.randn(400, 6, generator=generator, dtype=torch.float64) @ mixing + 0.5).view(400, 2, 3)


def test_density_with_noise_on_it(data):
    noise = NoisedGaussian((2, 3), ridge=1e-3).double()
    noise.fit(data)
    flat = data.flatten(1)
    covariance = torch.cov(flat.T, correction=0) + 1e-3 * torch.eye(6)
    sigma = torch.tensor([0.0, 0.2, 1.0, 5.0], dtype=torch.float64)
    expected = [
        torch.distributions.MultivariateNormal(flat.mean(0), covariance + s**2 * torch.eye(6)).log_prob(f)
        for s, f in zip(sigma, flat, strict=False)
    ]
    torch.testing.assert_close(noise.log_prob(data[:4], sigma), torch.stack(expected))
    assert noise.scale.item() == pytest.approx(covariance.diagonal().mean().sqrt().item())


def test_without_noise_it_is_the_fitted_gaussian(data, generator):
    noise, gaussian = NoisedGaussian((2, 3)).double(), Gaussian((2, 3)).double()
    for density in (noise, gaussian):
        density.fit(data)
    torch.testing.assert_close(noise.log_prob(data), gaussian.log_prob(data))
    # 20000 draws: a variance is known to √(2/20000) = 1 %; 5 standard errors of the largest entry
    drawn = torch.cov(noise.sample(20000, generator).flatten(1).T)
    expected = torch.cov(data.flatten(1).T, correction=0)
    torch.testing.assert_close(drawn, expected, rtol=0, atol=0.05 * expected.max().item())
