"""Scalar energies of a network from images to images."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from ebm_lab.energies.activations import activation as activation_layer
from ebm_lab.energies.activations import is_smooth
from ebm_lab.energies.energy import Energy
from ebm_lab.energies.images import image_shape
from ebm_lab.energies.noise_conditional import NoiseConditioning, network_energy, num_features
from ebm_lab.energies.residual_block import ResidualBlock

_FORMS = ("inner_product", "residual")


class UNet(Energy):
    """E(x) of a U-Net g: image -> image, in one of two forms, plus E₀(x).

        inner_product:  -½ xᵀg(x),               -∇E = ½ (g(x) + J_g(x)ᵀ x)
        residual:       ½ ‖x - g(x)‖² / scale²,  ∇E = (I - J_g(x))ᵀ (x - g(x)) / scale²

    The inner product's score is g itself where g is linear and symmetric. The residual's is the
    denoiser's (g(x) - x) / scale² only where J_g ≈ 0: at the optimal denoiser of a Gaussian, g(x) = κx, it is
    -(1 - κ)² x / scale², not -(1 - κ) x / scale².

    At the start the last convolution is divided by the number of pixels, over which both forms sum, so that
    g ≈ 0: E is close to E₀ (inner_product) or to ½ ‖x‖² / scale² + E₀ (residual, which can do without E₀).

    Args:
        shape: (channels, height, width) of one image.
        channels: channels at each resolution from the finest on; each halves the last, rounding up.
        form: inner_product or residual.
        scale: standard deviation of the residual, in the data's units; the inner product has none.
        activation: silu, softplus, tanh, gelu, elu, relu or leaky_relu. The last two make the score jump.
        base: energy E₀ that is added, so that Z exists on R^d; None adds nothing.
        conditioning: makes the energy one of x and a noise level, with an E₀ of its own in the place of
            `base`; None leaves it one of x.

    Raises:
        ValueError: when `shape` is not an image's, a number is not positive, `form` is unknown, or a scale is
            given to the inner product.
    Cost: with 28×28 grey images, the defaults and 128 events 100 ms for E and ∇E on one CPU core, where
        `ConvNet` takes 30.
    Notes: the inner product grows as ‖x‖² and can outgrow a Gaussian E₀ in training; chains then diverge.
    Reference: Salimans & Ho 2021, Should EBMs model the energy or the score?; Du et al. 2023, Reduce, Reuse,
    Recycle, arXiv 2302.11552; the network is Ronneberger, Fischer & Brox 2015, arXiv 1505.04597, with
    residual blocks and average pools.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        channels: Sequence[int] = (8, 16, 32),
        form: Literal["inner_product", "residual"] = "inner_product",
        scale: float = 1.0,
        activation: str = "silu",
        base: Energy | None = None,
        conditioning: NoiseConditioning | None = None,
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        num_in, height, width = image_shape(self.shape, "unet")
        if not channels or min(channels) < 1:
            raise ValueError(f"channels must be positive, got {list(channels)}")
        if form not in _FORMS:
            raise ValueError(f"form must be one of {', '.join(_FORMS)}, got {form!r}")
        if scale <= 0:
            raise ValueError(f"scale must be positive, got {scale}")
        if form == "inner_product" and scale != 1:
            raise ValueError(f"the inner product has no scale, got {scale}: choose form=residual, or scale=1")
        self.form = form
        self.scale = scale
        self.twice_differentiable = is_smooth(activation, base)
        self.network = ImageToImage(num_in, channels, activation, num_features(conditioning))
        with torch.no_grad():
            self.network.last.weight /= height * width
            self.network.last.bias.zero_()
        self.base = base
        self.conditioning = conditioning
        self.noise_conditional = conditioning is not None

    def forward(
        self, x: Float[Tensor, "batch *shape"], sigma: Float[Tensor, "..."] | None = None
    ) -> Float[Tensor, " batch"]:
        """-½ xᵀg(x) + E₀(x), or ½ ‖x - g(x)‖² / scale² + E₀(x), or E(x, σ) where it is conditioned."""
        return network_energy(self._scalar, x, sigma, self.conditioning, self.base)

    def _scalar(self, x: Tensor, *embedding: Tensor) -> Float[Tensor, " batch"]:
        g = self.network(x, *embedding)
        if self.form == "inner_product":
            return -0.5 * (x * g).flatten(1).sum(1)
        return 0.5 * (x - g).flatten(1).square().sum(1) / self.scale**2


class ImageToImage(nn.Module):
    """A residual block at every resolution on the way down and, beside what was kept, on the way up."""

    def __init__(self, num_image: int, channels: Sequence[int], activation: str, num_features: int) -> None:
        super().__init__()
        above = [channels[0], *channels[:-1]]
        self.first = nn.Conv2d(num_image, channels[0], 3, padding=1)
        self.down = nn.ModuleList(
            ResidualBlock(num_in, num_out, activation=activation, num_features=num_features)
            for num_in, num_out in zip(above, channels, strict=True)
        )
        self.up = nn.ModuleList(
            ResidualBlock(coarse + fine, fine, activation=activation, num_features=num_features)
            for coarse, fine in zip(channels[:0:-1], channels[-2::-1], strict=True)
        )
        self.activation = activation_layer(activation)
        self.last = nn.Conv2d(channels[0], num_image, 3, padding=1)

    def forward(
        self, x: Float[Tensor, "batch channels height width"], embedding: Tensor | None = None
    ) -> Float[Tensor, "batch channels height width"]:
        """An image for every image."""
        h, kept = self.first(x), []
        for level, block in enumerate(self.down):
            h = block(h if level == 0 else avg_pool2d(h, 2, ceil_mode=True), embedding)
            kept.append(h)
        kept.pop()
        for block in self.up:
            fine = kept.pop()
            h = interpolate(h, size=fine.shape[2:])  # any size: odd ones fit too
            h = block(torch.cat([h, fine], 1), embedding)
        return self.last(self.activation(h))
