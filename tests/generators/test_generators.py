"""Generators: an affine map is its matrix, events do not see each other, a latent's posterior is known."""

import pytest
import torch

from ebm_lab.energies import energy_and_gradient
from ebm_lab.generators import ConvGenerator, LatentPosterior, MLPGenerator

F64 = torch.float64
MATRIX = torch.tensor([[2.0, 0.0, 1.0], [0.5, -1.0, 0.0]], dtype=F64)


def affine() -> MLPGenerator:
    network = MLPGenerator((2,), latent_dim=3, depth=0).double()
    network.set_map(MATRIX)
    return network


def test_without_hidden_layers_it_is_a_matrix(generator):
    network = affine()
    z = network.latents(5, generator)
    torch.testing.assert_close(network(z), z @ MATRIX.T)
    for options in ({"depth": 1}, {"depth": 0, "output": "tanh"}):
        with pytest.raises(ValueError, match="depth=0 and output=linear"):
            MLPGenerator((2,), latent_dim=3, **options).set_map(MATRIX)


def test_posterior_of_a_latent_under_a_matrix(generator):
    """Precision I + AᵀA/σ², mean (I + AᵀA/σ²)⁻¹ Aᵀx/σ²: the gradient there is 0, and so curved around."""
    x, sigma = torch.randn(4, 2, generator=generator, dtype=F64), 0.5
    posterior = LatentPosterior(affine(), x, sigma)
    precision = torch.eye(3, dtype=F64) + MATRIX.T @ MATRIX / sigma**2
    mean = torch.linalg.solve(precision, MATRIX.T @ x.T / sigma**2).T
    _, gradient = energy_and_gradient(posterior, mean)
    torch.testing.assert_close(gradient, torch.zeros_like(mean), atol=1e-12, rtol=0)
    step = torch.randn(4, 3, generator=generator, dtype=F64)
    _, gradient = energy_and_gradient(posterior, mean + step)
    torch.testing.assert_close(gradient, step @ precision)


NETWORKS = {
    "mlp": lambda: MLPGenerator((2, 3), latent_dim=4, width=8, depth=2),
    "mnist": lambda: ConvGenerator((1, 28, 28), latent_dim=4, width=2, depth=2),
    "odd": lambda: ConvGenerator((3, 7, 5), latent_dim=4, width=2, depth=3),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_events_do_not_see_each_other_and_every_latent_is_seen(name, generator):
    network = NETWORKS[name]().double()
    z = network.latents(6, generator)
    x = network(z)
    assert x.shape == (6, *network.shape)
    torch.testing.assert_close(x, torch.cat([network(row[None]) for row in z]))
    jacobian = torch.autograd.functional.jacobian(lambda row: network(row[None])[0], z[0])
    assert torch.linalg.matrix_rank(jacobian.flatten(0, -2)) == 4
    assert all(p.grad_fn is None and p.requires_grad for p in network.parameters())


def test_tanh_keeps_images_in_their_box(generator):
    network = ConvGenerator((1, 8, 8), latent_dim=4, width=8)
    with torch.no_grad():
        network.last[1].weight.mul_(1e3)
    x = network(network.latents(16, generator))
    assert 0.99 < x.detach().abs().max() <= 1


def test_a_wrong_shape_or_number_is_one_sentence():
    with pytest.raises(ValueError, match="ConvGenerator needs images .* choose MLPGenerator"):
        ConvGenerator((2,))
    with pytest.raises(ValueError, match="output must be one of linear, tanh, got 'sigmoid'"):
        MLPGenerator((2,), output="sigmoid")
    with pytest.raises(ValueError, match="latent_dim=0"):
        MLPGenerator((2,), latent_dim=0)
