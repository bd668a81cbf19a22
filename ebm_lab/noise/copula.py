"""A Gaussian copula: each coordinate through a monotone spline of its own, then one Gaussian for all."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ebm_lab.draws import normal
from ebm_lab.errors import UserError
from ebm_lab.noise.noise import check_data, check_fitted, check_ridge
from ebm_lab.noise.transport import LOG_2PI, TransportedNoise

EVENTS_BEYOND = 10  # events of the data below the first knot, and as many above the last
LARGEST_TAIL = 0.1  # but no more than this share of few data
CHUNK = 4096  # events that the fit maps at a time


class GaussianCopula(TransportedNoise):
    """log q(x) = log N(T(x); 0, R) + Σ_i log T_i'(x_i), T_i a fixed increasing map of coordinate i.

    T_i is a rational-quadratic spline through K knots: it takes the quantile of coordinate i at level Φ(z_k)
    to z_k, for z_1 ... z_K evenly spaced, with 10 events of the data beyond either end (a tenth of the data,
    if they are fewer than 100). Outside it goes on as a straight line: a Gaussian tail. So q has full
    support, and it is exactly normalised, because every T_i is a bijection of the line.

    With s_k = (z_{k+1} - z_k) / (x_{k+1} - x_k) the slope at an inner knot is the harmonic mean of s_{k-1}
    and s_k, which is the central difference of the quantiles. At an outer knot it is that of a tail with the
    data's mean excess, E(z - z_K)₊ / E(x - x_K)₊, so that rare events far away widen the tail, but at most
    twice the neighbouring s, as the harmonic mean is.

    The fit adds noise to the data once, x + jitter · z, and describes the law of these: atoms and constant
    coordinates become narrow bumps in place of steps, which no slope could follow. R = (second moments of
    T(x + jitter · z) around 0) + ridge · I = L Lᵀ, the maximum-likelihood R but for the ridge. Its diagonal
    is near 1 and not scaled to 1.

    Args:
        shape: shape of one event; it is flattened.
        num_knots: K, at least 2, at most the number of events and better a hundredth of it: the error of
            the quantiles costs about K / (2 · events) nats a coordinate.
        jitter: standard deviation of the noise on the data of the fit, in data units, at least 0; positive
            where numbers are repeated, and the width of atoms then.
        smoothing: pseudo-events a coordinate, 0 or at least 2, evenly spaced from the smallest to the largest
            number of all the data, that the maps see beside the data. Without any, a number far outside of
            what its own coordinate has shown, such as ink in a corner that was dark in training, costs
            thousands of nats; with s it costs about log(events / s) and the log of that range.
        ridge: added to the diagonal of R, at least 0, without a unit, since mapped coordinates have variance
            1; positive where there are fewer events than features.
        seed: of the jitter.

    Raises:
        ValueError: a number out of its range.
        UserError: `fit` on data that are not finite, that are fewer than knots, whose quantiles coincide, or
            whose R is singular.
        RuntimeError: use before `fit`.
    Cost: d² numbers and d² operations per event, and a search among K knots per coordinate.
    Notes:
        1. Rhodes et al. train knots, slopes and R by maximum likelihood; here all are read off the data.
        2. Liu et al. map by truncated empirical distribution functions, which have no density.
        3. log q is continuous, its gradient jumps at the knots: as a base term it suits no objective that
           takes second derivatives in x.
        4. Among equal numbers ranks are at random, which weakens the correlations of coordinates with atoms.
    Reference: Rhodes, Xu & Gutmann 2020, Telescoping Density-Ratio Estimation, arXiv 2006.12204 (as noise of
        images); Liu, Lafferty & Wasserman 2009, The Nonparanormal, JMLR 10 (the family); Gregory & Delbourgo
        1982, Piecewise rational quadratic interpolation to monotonic data, IMA J. Numer. Anal. 2(2); Durkan
        et al. 2019, Neural Spline Flows, arXiv 1906.04032, eq. 4 and 5 (spline, derivative), 6-8 (inverse).
    """

    twice_differentiable = False

    def __init__(
        self,
        shape: Sequence[int],
        num_knots: int = 32,
        jitter: float = 1e-3,
        smoothing: int = 0,
        ridge: float = 1e-4,
        seed: int = 0,
    ) -> None:
        super().__init__(shape)
        if isinstance(smoothing, bool) or not isinstance(smoothing, int) or smoothing < 0 or smoothing == 1:
            raise ValueError(f"smoothing must be 0 or an integer, at least 2, got {smoothing!r}")
        self.smoothing = smoothing
        if num_knots < 2:
            raise ValueError(f"num_knots must be at least 2, got {num_knots}")
        if not 0 <= jitter < math.inf:
            raise ValueError(f"jitter must be a finite number, at least 0, got {jitter}")
        self.num_knots, self.jitter, self.ridge, self.seed = num_knots, jitter, check_ridge(ridge), seed
        features = math.prod(self.shape)
        self.register_buffer("reach", torch.tensor(1.0))  # z_K = -z_1
        self.register_buffer("knots", torch.linspace(-1, 1, num_knots).repeat(features, 1))
        self.register_buffer("slopes", torch.ones(features, num_knots))
        self.register_buffer("cholesky", torch.eye(features))
        self.register_buffer("fitted", torch.tensor(False))

    @property
    def spacing(self) -> Float[Tensor, ""]:
        """z_{k+1} - z_k."""
        return 2 * self.reach / (self.num_knots - 1)

    def fit(self, x: Float[Tensor, "batch *shape"]) -> None:
        """Put the knots at the quantiles of the jittered data, and take the correlations behind the maps."""
        flat = check_data(self, x)
        if len(flat) < self.num_knots:
            raise UserError(f"{len(flat)} events are too few for num_knots={self.num_knots}")
        # one coordinate a row: sorting and searching go along rows
        rows = normal(flat.T.shape, flat, torch.Generator().manual_seed(self.seed))
        rows.mul_(self.jitter).add_(flat.T)
        pseudo = torch.linspace(float(flat.min()), float(flat.max()), self.smoothing, dtype=rows.dtype)
        self._fit_maps(torch.cat([rows, pseudo.expand(len(rows), -1)], 1) if self.smoothing else rows)
        self._fit_correlations(rows)
        self.fitted.fill_(True)

    def _fit_maps(self, rows: Float[Tensor, "features num"]) -> None:
        tail = min(EVENTS_BEYOND / rows.shape[1], LARGEST_TAIL)
        self.reach.fill_(-torch.special.ndtri(torch.tensor(tail, dtype=rows.dtype)).item())
        z = torch.linspace(-1, 1, self.num_knots, dtype=rows.dtype) * self.reach.item()
        levels = torch.special.ndtr(z)
        self.knots.copy_(torch.stack([row.quantile(levels) for row in rows]))
        widths = self.knots.diff(dim=1)
        if not (widths > 0).all():
            raise UserError(
                f"quantiles of {int((widths <= 0).any(1).sum())} coordinates of the data coincide; set "
                f"jitter above {self.jitter:g}"
            )
        secants = self.spacing / widths
        inner = 2 / (1 / secants[:, :-1] + 1 / secants[:, 1:])
        lines = self._tail_slopes(rows, tail).to(inner)
        ends = torch.minimum(lines, 2 * secants[:, [0, -1]])  # steeper, the last piece would be nearly empty
        self.slopes.copy_(torch.cat([ends[:, :1], inner, ends[:, 1:]], 1))

    def _tail_slopes(self, rows: Float[Tensor, "features num"], tail: float) -> Float[Tensor, "features 2"]:
        """E(z - z_K)₊ / E(x - x_K)₊ of a standard normal z and the data, for the lower end and the upper."""
        reach, outer = self.reach.item(), self.knots[:, [0, -1]].to(rows)
        normal_excess = math.exp(-(reach**2 + LOG_2PI) / 2) - reach * tail
        excess = [
            torch.stack([(low - row).clamp(min=0).mean(), (row - high).clamp(min=0).mean()])
            for row, (low, high) in zip(rows, outer, strict=True)
        ]
        return normal_excess / torch.stack(excess)

    def _fit_correlations(self, rows: Float[Tensor, "features num"]) -> None:
        features, num = rows.shape
        moments = self.ridge * torch.eye(features, dtype=rows.dtype)
        for chunk in rows.split(CHUNK, dim=1):
            z = self.to_normal(chunk.T.to(self.knots))[0].to(rows)
            moments += z.T @ z / num
        cholesky, failed = torch.linalg.cholesky_ex(moments)
        if failed:
            raise UserError(
                f"the correlations of {num} events with {features} features and ridge "
                f"{self.ridge:g} are singular; set ridge higher"
            )
        self.cholesky.copy_(cholesky)

    def transport(
        self, z: Float[Tensor, "num features"]
    ) -> tuple[Float[Tensor, "num *shape"], Float[Tensor, " num"]]:
        """x = T⁻¹(L z), and log |det ∂x/∂z|."""
        check_fitted(self)
        flat = self.from_normal(z @ self.cholesky.T)
        return flat.reshape(-1, *self.shape), -self._log_det(self.to_normal(flat)[1])

    def latent(
        self, x: Float[Tensor, "batch *shape"]
    ) -> tuple[Float[Tensor, "batch features"], Float[Tensor, " batch"]]:
        """z = L⁻¹ T(x), and log |det ∂z/∂x|."""
        check_fitted(self)
        mapped, log_slope = self.to_normal(self.flat(x))
        z = torch.linalg.solve_triangular(self.cholesky, mapped.T, upper=False).T
        return z, self._log_det(log_slope)

    def _log_det(self, log_slope: Float[Tensor, "batch features"]) -> Float[Tensor, " batch"]:
        return log_slope.sum(1) - self.cholesky.diagonal().log().sum()

    def to_normal(
        self, flat: Float[Tensor, "batch features"]
    ) -> tuple[Float[Tensor, "batch features"], Float[Tensor, "batch features"]]:
        """T(x) and log T'(x), coordinate by coordinate: Durkan et al. 2019, eq. 4 and 5, divided by s_k.

        Outside of the knots the spline and its slope are those of the outer knot, and the line is added.
        """
        x = flat.T.contiguous()  # a search wants the knots of a coordinate and its numbers in one row
        k = (torch.searchsorted(self.knots, x, right=True) - 1).clamp(0, self.num_knots - 2)
        left, width, start, end = self._piece(k)
        xi = ((x - left) / width).clamp(0, 1)
        rest = xi * (1 - xi)
        denominator = 1 + (start + end - 2) * rest
        place = k + (xi.square() + start * rest) / denominator
        below, above = (x - self.knots[:, :1]).clamp(max=0), (x - self.knots[:, -1:]).clamp(min=0)
        lines = self.slopes[:, :1] * below + self.slopes[:, -1:] * above
        slope = (end * xi.square() + 2 * rest + start * (1 - xi).square()) * self.spacing / width
        return (self.spacing * place - self.reach + lines).T, (slope.log() - 2 * denominator.log()).T

    def from_normal(self, z: Float[Tensor, "batch features"]) -> Float[Tensor, "batch features"]:
        """T⁻¹(z), coordinate by coordinate: the quadratic of Durkan et al. 2019, eq. 6-8, divided by s_k."""
        z = z.T
        place = (z + self.reach) / self.spacing
        k = place.floor().clamp(0, self.num_knots - 2).long()
        left, width, start, end = self._piece(k)
        height = (place - k).clamp(0, 1)
        bend = height * (start + end - 2)
        a, b = 1 - start + bend, start - bend  # and c = -height
        root = (b.square() + 4 * a * height).clamp(min=0).sqrt()  # 0 up to rounding where both slopes vanish
        xi = 2 * height / (b + root)
        below, above = (z + self.reach).clamp(max=0), (z - self.reach).clamp(min=0)
        return (left + xi * width + below / self.slopes[:, :1] + above / self.slopes[:, -1:]).T

    def _piece(self, k: Int[Tensor, "features batch"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Left knot and width of piece k of each coordinate, and the slopes at its two ends over s_k."""
        left = self.knots.gather(1, k)
        width = self.knots.gather(1, k + 1) - left
        scale = width / self.spacing
        return left, width, self.slopes.gather(1, k) * scale, self.slopes.gather(1, k + 1) * scale
