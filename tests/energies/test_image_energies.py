"""Closed forms, any size of image, and the start of the image energies."""

import pytest
import torch
from torch import nn

from ebm_lab.energies import (
    ConvNet,
    Energy,
    GaussianBase,
    ResNet,
    UNet,
    WideResNet,
    energy_and_gradient,
    frozen,
    score,
)
from ebm_lab.energies.residual_block import ResidualBlock

IMAGE_ENERGIES = {
    "convnet": ConvNet,
    "resnet": ResNet,
    "wide_resnet": WideResNet,
    "unet": UNet,
}
SIZES = [(1, 1, 1), (1, 2, 3), (3, 7, 5), (1, 13, 8)]


def make(name: str, shape: tuple[int, ...], **arguments: object) -> Energy:
    torch.manual_seed(0)
    return IMAGE_ENERGIES[name](shape, **arguments).double()


def images(shape: tuple[int, ...], num: int = 4) -> torch.Tensor:
    return torch.randn(num, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Linear(nn.Module):
    """x -> A x on flattened images: a network of which all is known."""

    def __init__(self, matrix: torch.Tensor) -> None:
        super().__init__()
        self.matrix = matrix

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.flatten(1) @ self.matrix.T).view_as(x)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("name", IMAGE_ENERGIES)
def test_no_event_enters_the_energy_of_another_whatever_the_size(name, shape):
    energy, x = make(name, shape), images(shape).requires_grad_(True)
    (gradient,) = torch.autograd.grad(energy(x)[1], x)
    assert gradient[1].abs().min() > 0  # and every pixel enters that of its own
    assert not gradient[[0, 2, 3]].any()
    torch.testing.assert_close(energy(x[1:2]), energy(x)[1:2], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", IMAGE_ENERGIES)
def test_base_is_added_to_the_network(name):
    base, x = GaussianBase((1, 6, 5), scale=0.7), images((1, 6, 5))
    with_base, without = make(name, (1, 6, 5), base=base), make(name, (1, 6, 5))
    torch.testing.assert_close(with_base(x) - without(x), base(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("spectral_norm", [False, True])
@pytest.mark.parametrize("size", [8, 28, 64])
def test_resnet_starts_near_its_base_at_every_resolution(size, spectral_norm):
    # E = w · mean h + b: |b| <= 1/8, w · mean h has standard deviation ‖mean h‖ / (8 √3) with w uniform in
    # ±1/8, and ‖mean h‖ is 0.3. A sum that nothing divides makes it 64 times that at 64 x 64 pixels.
    energy = make("resnet", (1, size, size), spectral_norm=spectral_norm)
    assert energy(images((1, size, size))).abs().max() < 0.25
    num_positions = (-(-size // 8)) ** 2
    # and the largest of 64 is above 0.8 of its bound but once in 10⁶ draws
    assert 0.1 / num_positions < energy.network[-1].weight.abs().max() <= 0.125 / num_positions


def test_resnet_sums_over_positions():
    # Constant activations 1 before the last layer: E = w · N 1 + b.
    energy = make("resnet", (1, 9, 6), channels=(4, 4))
    nn.init.ones_(energy.network[-1].weight)
    nn.init.constant_(energy.network[-1].bias, 0.5)
    head, h = energy.network[-2:], torch.ones(2, 4, 3, 2, dtype=torch.float64)
    torch.testing.assert_close(head(h)[:, 0], torch.full((2,), 4 * 6 + 0.5, dtype=torch.float64))
    seen = energy.network[:-2](images((1, 9, 6)))
    assert seen.shape == (4, 4, 3, 2)


def test_residual_block_without_its_branch_is_its_shortcut():
    block, h = ResidualBlock(3, 3, activation="silu").double(), images((3, 4, 5))
    nn.init.zeros_(block.branch[-1].weight)
    nn.init.zeros_(block.branch[-1].bias)
    torch.testing.assert_close(block(h), h, rtol=0, atol=0)
    assert ResidualBlock(3, 6, activation="silu", stride=2).double()(h).shape == (4, 6, 2, 3)


def test_fine_pixels_pass_beside_the_coarse_ones():
    # With the coarsest block silenced all that g(x) knows of x went along the skips.
    energy, x = make("unet", (1, 5, 6), channels=(4, 4, 4)), images((1, 5, 6))
    for block in (energy.network.down[2], energy.network.up[0]):
        for parameter in block.parameters():
            nn.init.zeros_(parameter)
    g = energy.network(x)
    assert (g[0] - g[1]).abs().min() > 0


@pytest.mark.parametrize(("depth", "width", "millions"), [(16, 8, 11.0), (28, 10, 36.5), (40, 4, 8.9)])
def test_wide_resnet_has_the_size_that_the_paper_states(depth, width, millions):
    # arXiv 1605.07146, with 10 classes and batch norms; here one scalar and biases of convolutions.
    with torch.device("meta"):
        energy = WideResNet((3, 32, 32), depth=depth, width=width)
    assert sum(p.numel() for p in energy.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize("name", ["resnet", "wide_resnet", "unet"])
def test_a_kinked_activation_says_that_there_is_no_hessian(name):
    assert make(name, (1, 4, 4)).twice_differentiable
    assert not make(name, (1, 4, 4), activation="leaky_relu").twice_differentiable


def test_leaky_relu_has_the_slope_of_the_literature():
    energy = make("wide_resnet", (1, 4, 4), activation="leaky_relu")
    slopes = {m.negative_slope for m in energy.modules() if isinstance(m, nn.LeakyReLU)}
    assert slopes == {0.2}


def test_inner_product_of_a_symmetric_network_has_that_network_as_its_score():
    energy, x = make("unet", (1, 3, 2)), images((1, 3, 2))
    root = torch.randn(6, 6, dtype=torch.float64)
    energy.network = Linear(root + root.T)
    torch.testing.assert_close(score(energy, x), energy.network(x), rtol=1e-12, atol=1e-12)


def test_inner_product_of_any_network_has_the_symmetric_part_as_its_score():
    # P = [[2, .6], [.6, 1]], g(x) = -P x: -∇E = (-.3, .32) at (.3, -.5); the antisymmetric part says nothing.
    energy = make("unet", (1, 1, 2))
    antisymmetric = torch.tensor([[0, 0.4], [-0.4, 0]], dtype=torch.float64)
    energy.network = Linear(antisymmetric - torch.tensor([[2, 0.6], [0.6, 1]], dtype=torch.float64))
    x = torch.tensor([0.3, -0.5], dtype=torch.float64).view(1, 1, 1, 2)
    expected = torch.tensor([-0.3, 0.32], dtype=torch.float64).view(1, 1, 1, 2)
    torch.testing.assert_close(score(energy, x), expected)
    torch.testing.assert_close(energy(x), torch.tensor([0.125], dtype=torch.float64))  # ½ xᵀPx


def test_residual_of_a_linear_denoiser():
    energy, x = make("unet", (1, 3, 2), form="residual", scale=0.4), images((1, 3, 2))
    denoiser = torch.randn(6, 6, dtype=torch.float64)
    energy.network = Linear(denoiser)
    energies, gradient = energy_and_gradient(energy, x)
    residual = x.flatten(1) - x.flatten(1) @ denoiser.T
    torch.testing.assert_close(energies, 0.5 * residual.square().sum(1) / 0.16)
    torch.testing.assert_close(gradient.flatten(1), residual @ (torch.eye(6) - denoiser) / 0.16)


def test_unet_starts_near_the_zero_map():
    x = images((1, 28, 28))
    torch.testing.assert_close(make("unet", (1, 28, 28))(x), torch.zeros(4).double(), rtol=0, atol=0.05)
    half_square = GaussianBase((1, 28, 28), scale=2.0)(x)
    with frozen(energy := make("unet", (1, 28, 28), form="residual", scale=2.0)):
        torch.testing.assert_close(energy(x), half_square, rtol=0, atol=0.05)


@pytest.mark.parametrize(
    ("name", "shape", "arguments", "sentence"),
    [
        ("resnet", (2,), {}, r"resnet needs images .* got \(2,\): choose energy=mlp"),
        ("unet", (2,), {}, r"unet needs images .* got \(2,\): choose energy=mlp"),
        ("wide_resnet", (2,), {}, r"wide_resnet needs images .* got \(2,\): choose energy=mlp"),
        ("resnet", (1, 4, 4), {"blocks": 0}, "channels and blocks must be positive"),
        ("resnet", (1, 4, 4), {"channels": ()}, "channels and blocks must be positive"),
        ("unet", (1, 4, 4), {"channels": (4, 0)}, "channels must be positive"),
        ("unet", (1, 4, 4), {"form": "sum"}, "form must be one of inner_product, residual, got 'sum'"),
        ("unet", (1, 4, 4), {"form": "residual", "scale": 0.0}, "scale must be positive"),
        ("unet", (1, 4, 4), {"scale": 0.5}, "the inner product has no scale, got 0.5: choose form=residual"),
        ("wide_resnet", (1, 4, 4), {"depth": 12}, r"depth must be 6 n \+ 4 .* got 12"),
        ("wide_resnet", (1, 4, 4), {"width": 0}, "width must be at least 1"),
        ("resnet", (1, 4, 4), {"activation": "swish"}, "activation must be one of silu"),
    ],
)
def test_mistakes_are_told_in_a_sentence(name, shape, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        IMAGE_ENERGIES[name](shape, **arguments)
