"""A normalising flow: a density as rich as a network that can be sampled and scored exactly."""

import math
from collections.abc import Sequence

import torch
import zuko
from jaxtyping import Float
from torch import Tensor

from ebm_lab.noise.noise import check_data, check_fitted, check_ridge
from ebm_lab.noise.transport import TransportedNoise

KINDS = ("coupling", "autoregressive")


class Flow(TransportedNoise):
    """q(x) = N(f(x); 0, I) |det ∂f/∂x|, f a chain of invertible maps, fitted by maximum likelihood.

    The data are standardised coordinate by coordinate first; each map acts on one coordinate at a time, with
    numbers that a network makes of others: of the other half (coupling), or of all before it
    (autoregressive). The order is reversed from map to map. The maps are monotonic rational-quadratic
    splines, on [-5, 5] and the identity outside, or affine.

    After the fit the parameters are frozen, and the checkpoint holds them; who trains the flow on sets
    `requires_grad` (as `objective=flow_contrastive` does).

    Args:
        shape: shape of one event; it is flattened.
        kind: coupling, or autoregressive, which is richer and scores as fast, but draws coordinate by
            coordinate: d forwards a map.
        num_transforms: maps in the chain.
        width: units of each hidden layer of a map's network.
        depth: its hidden layers.
        bins: pieces of a spline, at least 2; None: affine maps.
        fit_steps: Adam steps of the fit.
        fit_batch: events a step.
        fit_lr: largest learning rate of the fit, falling to 0 as a cosine.
        ridge: added to the variances that standardise, in squared data units; positive where a coordinate is
            constant.
        seed: of the first parameters and of the order of the data.

    Raises:
        ValueError: a number out of its range, an unknown kind, or events of a single number.
        UserError: `fit` on data that are not finite.
        RuntimeError: use before `fit`.
    Cost: `fit_steps` parameter gradients once; then num_transforms forwards of the maps' networks a density,
        as many a draw (coupling: twice, autoregressive: d times).
    Reference: Dinh, Sohl-Dickstein & Bengio 2017, arXiv 1605.08803 (coupling); Papamakarios, Pavlakou &
        Murray 2017, arXiv 1705.07057 (autoregressive); Durkan et al. 2019, arXiv 1906.04032 (splines). The
        maps are the package zuko's.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        kind: str = "coupling",
        num_transforms: int = 4,
        width: int = 64,
        depth: int = 2,
        bins: int | None = 8,
        fit_steps: int = 1000,
        fit_batch: int = 256,
        fit_lr: float = 5e-3,
        ridge: float = 1e-4,
        seed: int = 0,
    ) -> None:
        super().__init__(shape)
        features = math.prod(self.shape)
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        if features < 2:
            raise ValueError(
                "a flow needs events of at least 2 numbers, these are of 1: choose noise=gaussian or "
                "kernel_density, and objective=nce where the flow is that of objective=flow_contrastive"
            )
        if min(num_transforms, width, depth, fit_steps, fit_batch) < 1 or not fit_lr > 0:
            raise ValueError(
                "num_transforms, width, depth, fit_steps, fit_batch must be at least 1, fit_lr positive, got "
                f"{num_transforms}, {width}, {depth}, {fit_steps}, {fit_batch} and {fit_lr}"
            )
        if bins is not None and bins < 2:
            raise ValueError(f"bins must be at least 2, or null for affine maps, got {bins}")
        self.ridge = check_ridge(ridge)
        self.fit_steps, self.fit_batch, self.fit_lr, self.seed = fit_steps, fit_batch, fit_lr, seed
        maps = {"transforms": num_transforms, "hidden_features": [width] * depth}
        if kind == "coupling":
            maps["passes"] = 2
        with torch.random.fork_rng(devices=[]):  # the library draws from the global generator
            torch.manual_seed(seed)
            family = zuko.flows.MAF if bins is None else zuko.flows.NSF
            chain = family(features, **maps, **({} if bins is None else {"bins": bins}))
        self.maps = chain.transform.requires_grad_(False)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))
        self.register_buffer("fitted", torch.tensor(False))

    def fit(self, x: Float[Tensor, "batch *shape"]) -> None:
        """Standardise, and minimise -log q by Adam from the first parameters on."""
        flat = check_data(self, x)
        self.mean.copy_(flat.mean(0))
        self.std.copy_((flat.var(0, correction=0) + self.ridge).sqrt())
        self.fitted.fill_(True)
        events = flat.to(self.mean)
        learning = list(self.maps.parameters())
        optimizer = torch.optim.Adam(learning, lr=self.fit_lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.fit_steps)
        order = torch.Generator().manual_seed(self.seed)
        learned_before = [p.requires_grad for p in learning]
        self.maps.requires_grad_(True)
        with torch.enable_grad():
            for _ in range(self.fit_steps):
                rows = torch.randint(len(events), (self.fit_batch,), generator=order)
                loss = -self.log_prob(events[rows.to(events.device)].view(-1, *self.shape)).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        optimizer.zero_grad()
        for parameter, learns in zip(learning, learned_before, strict=True):
            parameter.requires_grad_(learns)

    def transport(
        self, z: Float[Tensor, "num features"]
    ) -> tuple[Float[Tensor, "num *shape"], Float[Tensor, " num"]]:
        """x = f⁻¹(z), and log |det ∂x/∂z|."""
        check_fitted(self)
        u, log_det = self.maps().inv.call_and_ladj(z)
        return (self.mean + self.std * u).view(-1, *self.shape), log_det + self.std.log().sum()

    def latent(
        self, x: Float[Tensor, "batch *shape"]
    ) -> tuple[Float[Tensor, "batch features"], Float[Tensor, " batch"]]:
        """z = f(x), and log |det ∂z/∂x|."""
        check_fitted(self)
        z, log_det = self.maps().call_and_ladj((self.flat(x) - self.mean) / self.std)
        return z, log_det - self.std.log().sum()
