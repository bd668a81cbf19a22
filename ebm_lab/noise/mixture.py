"""A mixture of Gaussians, each flat in all but a few directions: noise that resembles images."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ebm_lab.draws import normal
from ebm_lab.errors import UserError
from ebm_lab.noise.noise import Noise, check_data, check_fitted, check_ridge


class LowRankMixture(Noise):
    """q(x) = Σ_k w_k N(x; μ_k, W_k W_kᵀ + diag(d_k)), fitted to clusters of the data.

    k-means splits the data, or their labels do; each cluster gives one component: its share w_k, its mean,
    its `rank` largest principal directions as W_k, and as d_k what variance they leave in each coordinate,
    plus the ridge. The diagonal of a component's covariance is that of its cluster, plus the ridge.

    Args:
        shape: shape of one event.
        num_components: clusters, at least 1; None: the classes of labelled data.
        rank: principal directions a component, at least 1 and less than the number of features.
        ridge: added to every variance, in squared data units, positive.
        seed: of the clustering.

    Raises:
        ValueError: a number outside of its range.
        UserError: a fit on data that are not finite, fewer than twice as many as components, or without the
            labels that are the clusters.
        RuntimeError: use before `fit`.
    Cost: num_components · rank · d operations per event.
    Reference: Tipping & Bishop, Mixtures of probabilistic principal component analysers, Neural Comput.
        1999; here with hard assignments and a diagonal in the place of the isotropic rest. By classes it is
        the start of chains of Yang & Ji 2021, JEM++, arXiv 2109.09032, there with full covariances.
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_components: int | None = 50,
        rank: int = 30,
        ridge: float = 1e-4,
        seed: int = 0,
    ) -> None:
        super().__init__(shape)
        features = math.prod(self.shape)
        if (num_components is not None and num_components < 1) or not 1 <= rank < features:
            raise ValueError(
                f"num_components must be at least 1 and rank in [1, {features - 1}], got {num_components} "
                f"and {rank}"
            )
        if check_ridge(ridge) == 0:
            raise ValueError("ridge must be positive: clusters are flat in some coordinates")
        self.rank, self.ridge, self.seed = rank, ridge, seed
        self.by_class = num_components is None
        self.register_buffer("fitted", torch.tensor(False))
        self._make_room(num_components or 0, torch.empty(0))

    def _make_room(self, num_components: int, like: Tensor) -> None:
        features = math.prod(self.shape)
        self.num_components = num_components
        for name, shape in {
            "log_weights": (num_components,),
            "means": (num_components, features),
            "factors": (num_components, features, self.rank),
            "variances": (num_components, features),
            "projections": (num_components, features, self.rank),
            "log_dets": (num_components,),
        }.items():
            self.register_buffer(name, like.new_zeros(shape))

    def fit(self, x: Float[Tensor, "batch *shape"]) -> None:
        """Cluster the data and describe each cluster."""
        if self.by_class:
            raise UserError(
                "this noise is a mixture of the data's classes, and these data have no labels: choose "
                "noise=mixture"
            )
        flat = check_data(self, x)
        if len(flat) < 2 * self.num_components:
            raise UserError(f"{len(flat)} events are too few for num_components={self.num_components}")
        self._describe_all(flat, self._clusters(flat))

    def fit_labelled(self, x: Float[Tensor, "batch *shape"], label: Int[Tensor, " batch"] | None) -> None:
        """Describe each class, where classes are the clusters."""
        if not self.by_class or label is None:
            return self.fit(x)
        self._make_room(int(label.max()) + 1, self.means)
        return self._describe_all(check_data(self, x), label.cpu())

    def _describe_all(self, flat: Float[Tensor, "num features"], labels: Int[Tensor, " num"]) -> None:
        for k in range(self.num_components):
            self._describe(k, flat[labels == k], len(flat))
        self.fitted.fill_(True)

    def _clusters(self, flat: Float[Tensor, "num features"]) -> Tensor:
        from sklearn.cluster import MiniBatchKMeans  # takes a second to import

        kmeans = MiniBatchKMeans(self.num_components, random_state=self.seed, n_init=1, batch_size=4096)
        return torch.from_numpy(kmeans.fit_predict(flat.numpy().astype(np.float32)))

    def _describe(self, k: int, cluster: Float[Tensor, "members features"], num: int) -> None:
        if len(cluster) < 2:
            mend = (
                "choose noise=mixture" if self.by_class else f"set num_components below {self.num_components}"
            )
            raise UserError(f"a cluster holds {len(cluster)} events: {mend}")
        mean = cluster.mean(0)
        covariance = (cluster - mean).T @ (cluster - mean) / len(cluster)
        values, vectors = torch.linalg.eigh(covariance)
        factor = vectors[:, -self.rank :] * values[-self.rank :].clamp(min=0).sqrt()
        rest = (covariance.diagonal() - factor.square().sum(1)).clamp(min=0) + self.ridge
        self.log_weights[k] = math.log(len(cluster) / num)
        self.means[k], self.factors[k], self.variances[k] = mean, factor, rest
        self.projections[k], self.log_dets[k] = _woodbury(factor, rest)

    def sample(self, num: int, generator: torch.Generator | None) -> Float[Tensor, "num *shape"]:
        """Independent draws μ_k + W_k z + √d_k z', k drawn with probability w_k."""
        check_fitted(self)
        return self._of_components(
            torch.multinomial(self.log_weights.exp(), num, replacement=True, generator=generator), generator
        )

    def sample_labelled(
        self, label: Int[Tensor, " num"], generator: torch.Generator | None
    ) -> Float[Tensor, "num *shape"]:
        """μ_k + W_k z + √d_k z' of the label's class k, where classes are the components."""
        if not self.by_class:
            return self.sample(len(label), generator)
        check_fitted(self)
        return self._of_components(label, generator)

    def _of_components(
        self, k: Int[Tensor, " num"], generator: torch.Generator | None
    ) -> Float[Tensor, "num *shape"]:
        num = len(k)
        z = normal((num, self.rank), self.means, generator)
        rest = normal((num, self.means.shape[1]), self.means, generator)
        x = self.means[k] + self.variances[k].sqrt() * rest
        for component in k.unique():  # gathering W_k of every event would copy all of them
            rows = k == component
            x[rows] += z[rows] @ self.factors[component].T
        return x.view(num, *self.shape)

    def log_prob(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
        """log q(x) of each event in nats."""
        check_fitted(self)
        flat = self.flat(x)
        return torch.logsumexp(
            torch.stack([self._component(flat, k) for k in range(self.num_components)], 1), 1
        )

    def _component(self, flat: Float[Tensor, "batch features"], k: int) -> Float[Tensor, " batch"]:
        """log w_k + log N(x; μ_k, W_k W_kᵀ + diag(d_k))."""
        z = (flat - self.means[k]) * self.variances[k].rsqrt()
        projected = z @ self.projections[k]
        mahalanobis = torch.linalg.vecdot(z, z) - torch.linalg.vecdot(projected, projected)
        constant = self.log_dets[k] + flat.shape[1] * math.log(2 * math.pi)
        return self.log_weights[k] - (mahalanobis + constant) / 2


def _woodbury(
    factor: Float[Tensor, "features rank"], variance: Float[Tensor, " features"]
) -> tuple[Float[Tensor, "features rank"], Float[Tensor, ""]]:
    """F with (W Wᵀ + D)⁻¹ = D^(-½) (I - F Fᵀ) D^(-½), and log det(W Wᵀ + D).

    With V = D^(-½) W and the Cholesky factor of I + VᵀV = L Lᵀ: F = V L⁻ᵀ (Woodbury's identity), and the
    determinant is det D · (det L)² (the matrix determinant lemma).
    """
    whitened = factor / variance.sqrt()[:, None]
    identity = torch.eye(factor.shape[1], dtype=factor.dtype)
    cholesky = torch.linalg.cholesky(identity + whitened.T @ whitened)
    projection = torch.linalg.solve_triangular(cholesky, whitened.T, upper=False).T
    return projection, variance.log().sum() + 2 * cholesky.diagonal().log().sum()
