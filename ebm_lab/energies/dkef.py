"""The deep kernel exponential family: a combination of learned kernels around points of the training data."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import jvp

from ebm_lab.domains import CONTINUOUS
from ebm_lab.energies.energy import Energy, score
from ebm_lab.errors import UserError

MOST_EVENTS = 2000  # from which the weights at the start are solved


class DeepKernelExponentialFamily(Energy):
    """E(x) = -Σ_m α_m k(x, z_m) + E₀(x), k(x, z) = Σ_r ρ_r exp(-‖φ_r(x) - φ_r(z)‖² / 2σ_r²).

    Features φ_r(x) = network(x) + A x of softplus layers, a network a kernel; ρ sums to 1. The sum is bounded
    by Σ|α_m|, so Z exists where that of E₀ does, and at α = 0 the energy is E₀. With E₀ = -log of a density
    that covers the data, importance sampling from it finds log Z.

    `fit` takes the inducing points z_m from the training data, sets each σ_r to a multiple of the median
    distance of their features, from ½ to 2, and solves for the α that minimise the score matching loss with
    ½ λ ‖α‖² (`score_matching_weights`). From there on all of them are learned, by any objective.

    Args:
        shape: shape of one event; it is flattened into d numbers.
        base: E₀, such as -log of a Gaussian that is fitted to the data.
        num_points: inducing points, drawn from the training events.
        num_kernels: kernels r of the mixture, each with a network of its own.
        width: units of a hidden layer, and features of a kernel.
        depth: hidden layers.
        ridge: λ > 0 of the weights at the start.
        seed: of the choice of points, at least 0.

    Raises:
        ValueError: for a number out of its range.
        UserError: in `fit`, when there are fewer training events than points.
    Cost: num_kernels networks and num_points · width operations for each, an event; `fit` takes about 4 d
        of these for each of at most 2000 events.
    Notes: 1. α is learned with everything else; in the paper it is solved in every step on one batch, and the
        kernel learns from the loss on another. 2. λ counts at the start alone: later the optimizer's weight
        decay stands for it. 3. There is no penalty on the curvature.
    Reference: Wenliang, Sutherland, Strathmann & Gretton 2019, Learning deep kernels for exponential family
        densities, arXiv:1811.08357; with sliced score matching in Song et al. 2019, arXiv:1905.07088.
    """

    domains = CONTINUOUS

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        base: Energy,
        num_points: int = 200,
        num_kernels: int = 3,
        width: int = 30,
        depth: int = 3,
        ridge: float = 1e-3,
        seed: int = 0,
    ) -> None:
        super().__init__()
        counts = {"num_points": num_points, "num_kernels": num_kernels, "width": width, "depth": depth}
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f"{name} must be at least 1, got {count}")
        if ridge <= 0:
            raise ValueError(f"ridge must be positive, got {ridge}")
        self.shape = tuple(shape)
        self.base = base
        self.ridge, self.seed = ridge, seed
        dim = math.prod(self.shape)
        self.features = nn.ModuleList(_Features(dim, width, depth) for _ in range(num_kernels))
        self.points = nn.Parameter(torch.zeros(num_points, *self.shape))
        self.weights = nn.Parameter(torch.zeros(num_points))
        self.log_bandwidths = nn.Parameter(torch.zeros(num_kernels))
        self.logits = nn.Parameter(torch.zeros(num_kernels))

    def forward(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """-Σ_m α_m k(x, z_m) + E₀(x)."""
        return self.base(x) - self.kernel(x) @ self.weights

    def kernel(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch points"]:
        """k(x, z_m)."""
        shares = self.logits.softmax(0)
        terms = zip(shares, self.log_bandwidths, self.features, strict=True)
        return sum(
            share * torch.exp(-0.5 * _square_distances(phi(x), phi(self.points)) * torch.exp(-2 * log_width))
            for share, log_width, phi in terms
        )

    @torch.no_grad()
    def fit(self, x: Float[Tensor, "num *shape"]) -> None:
        """Points, bandwidths and weights from the training events."""
        num = len(self.points)
        if len(x) < num:
            raise UserError(
                f"energy.num_points={num} exceeds the {len(x)} training events: set it to at most {len(x)}"
            )
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(self.seed)).to(x.device)
        self.points.copy_(x[order[:num]])
        spread = torch.linspace(-1, 1, len(self.features)) * math.log(2) if len(self.features) > 1 else [0.0]
        for r, phi in enumerate(self.features):
            median = _square_distances(phi(self.points), phi(self.points)).median().sqrt()
            self.log_bandwidths[r] = median.log() + spread[r]
        self.weights.copy_(self.score_matching_weights(x[order[:MOST_EVENTS]]))

    def kernel_derivatives(
        self, x: Float[Tensor, "batch *shape"]
    ) -> tuple[Float[Tensor, "batch points dim"], Float[Tensor, "batch points dim"]]:
        """∂_i k(x, z_m) and ∂_i² k(x, z_m) for every coordinate i, by forward differentiation."""
        first, second = [], []
        for direction in torch.eye(x[0].numel(), dtype=x.dtype, device=x.device):
            v = direction.view(self.shape).expand_as(x)

            def along(y: Tensor, v: Tensor = v) -> Tensor:
                return jvp(self.kernel, (y,), (v,))[1]

            once, twice = jvp(along, (x,), (v,))
            first.append(once)
            second.append(twice)
        return torch.stack(first, 2), torch.stack(second, 2)

    def score_matching_weights(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " points"]:
        """α = -(G + λI)⁻¹ b, the minimum of E[½‖s‖² + ∇·s] + ½ λ ‖α‖² over events, s = ∇ log p.

            G_ml = E Σ_i ∂_i k_m ∂_i k_l        b_m = E Σ_i [∂_i² k_m + ∂_i k_m ∂_i log p₀]

        Reference: Wenliang et al. 2019, section 3; the penalty on curvature is left out.
        """
        gram = x.new_zeros(len(self.points), len(self.points), dtype=torch.float64)
        slope = x.new_zeros(len(self.points), dtype=torch.float64)
        for part in x.split(200):
            first, second = (derivative.double() for derivative in self.kernel_derivatives(part))
            gram += torch.einsum("bmi,bli->ml", first, first)
            base_score = score(self.base, part).flatten(1).double()
            slope += second.sum((0, 2)) + torch.einsum("bmi,bi->m", first, base_score)
        ridge = self.ridge * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        return -torch.linalg.solve(gram / len(x) + ridge, slope / len(x)).to(x.dtype)


class _Features(nn.Module):
    """φ(x) = network(x) + A x."""

    def __init__(self, dim: int, width: int, depth: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for num_in in [dim, *[width] * (depth - 1)]:
            layers += [nn.Linear(num_in, width), nn.Softplus()]
        self.network = nn.Sequential(*layers, nn.Linear(width, width))
        self.skip = nn.Linear(dim, width, bias=False)

    def forward(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch width"]:
        flat = x.flatten(1)
        return self.network(flat) + self.skip(flat)


def _square_distances(a: Float[Tensor, "n width"], b: Float[Tensor, "m width"]) -> Float[Tensor, "n m"]:
    """‖a - b‖², from products: no roots, whose derivative is infinite at 0, and little memory."""
    return a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
