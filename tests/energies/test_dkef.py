"""The deep kernel exponential family against formulas of Gaussian kernels, autograd and its own minimum."""

import pytest
import torch

from ebm_lab.energies import DeepKernelExponentialFamily, DensityEnergy, GaussianBase, score
from ebm_lab.errors import UserError
from ebm_lab.noise import Gaussian

F64 = torch.float64
DIM = 3


def make(**arguments):
    torch.manual_seed(0)
    defaults = {"num_points": 5, "num_kernels": 2, "width": 4, "depth": 2}
    energy = DeepKernelExponentialFamily(
        (DIM,), base=GaussianBase((DIM,), scale=2.0), **(defaults | arguments)
    )
    return energy.double()


def events(num, seed=0):
    return torch.randn(num, DIM, generator=torch.Generator().manual_seed(seed), dtype=F64)


def plain(scale=0.7):
    """One kernel on x itself: the network is off and the skip connection the identity."""
    energy = make(num_kernels=1, width=DIM)
    with torch.no_grad():
        for parameter in energy.features[0].network.parameters():
            parameter.zero_()
        energy.features[0].skip.weight.copy_(torch.eye(DIM))
        energy.log_bandwidths.fill_(scale).log_()
        energy.points.copy_(events(5, seed=1))
        energy.weights.copy_(torch.tensor([0.5, -1.0, 2.0, 0.3, -0.4]))
    return energy


def laplacian(energy, x):
    hessian = torch.func.vmap(torch.func.hessian(lambda y: energy(y[None])[0]))(x)
    return hessian.diagonal(dim1=1, dim2=2).sum(1)


def test_gradient_and_laplacian_of_gaussian_kernels():
    """With u = (x - z)/σ²: ∇k = -u k and Δk = (‖u‖² - d/σ²) k, and of the base x/4 and d/4."""
    energy, x = plain(), events(7)
    k = energy.kernel(x).detach()
    u = (x[:, None] - energy.points.detach()) / 0.7**2
    torch.testing.assert_close(k, torch.exp(-0.5 * 0.7**2 * u.square().sum(2)), rtol=1e-12, atol=1e-14)
    gradient = x / 4 + torch.einsum("m,bm,bmi->bi", energy.weights.detach(), k, u)
    torch.testing.assert_close(-score(energy, x), gradient, rtol=1e-10, atol=1e-12)
    curvature = DIM / 4 - (k * (u.square().sum(2) - DIM / 0.7**2)) @ energy.weights.detach()
    torch.testing.assert_close(laplacian(energy, x).detach(), curvature, rtol=1e-10, atol=1e-11)


def test_derivatives_of_deep_kernels_are_those_of_autograd():
    energy, x = make(), events(4)
    energy.fit(events(50, seed=1))
    first, second = energy.kernel_derivatives(x)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda y: energy.kernel(y[None])[0]))(x)
    torch.testing.assert_close(first, jacobian, rtol=1e-10, atol=1e-12)
    hessian = torch.func.vmap(torch.func.hessian(lambda y: energy.kernel(y[None])[0]))(x)
    torch.testing.assert_close(second, hessian.diagonal(dim1=2, dim2=3), rtol=1e-9, atol=1e-11)


def test_solved_weights_minimise_score_matching():
    """The gradient in α of E[½‖s‖² - ΔE] + ½ λ ‖α‖² by autograd is 0 there, and not a tenth beside."""
    energy, x = make(ridge=0.02), events(60)
    energy.fit(x)

    def gradient():
        s = score(energy, x.clone().requires_grad_(True), create_graph=True)
        loss = 0.5 * s.square().sum(1).mean() - laplacian(energy, x).mean()
        return torch.autograd.grad(loss + 0.01 * energy.weights.square().sum(), energy.weights)[0]

    assert energy.weights.abs().max() > 0.1
    assert gradient().abs().max() < 1e-10
    with torch.no_grad():
        energy.weights.mul_(1.1)
    assert gradient().abs().max() > 1e-3


def test_the_base_is_recovered_without_weights():
    base = DensityEnergy(Gaussian((DIM,)))
    base.density.fit(events(100))
    energy = DeepKernelExponentialFamily((DIM,), base=base.double()).double()
    x = events(9, seed=2)
    assert torch.equal(energy(x), -base.density.log_prob(x))


def test_the_sum_is_bounded_so_that_z_exists():
    energy = make()
    energy.fit(events(50))
    far = 1e3 * events(20, seed=3)
    bound = energy.weights.abs().sum()
    assert (energy(far) - energy.base(far)).abs().max() <= bound


def test_points_are_training_events_and_bandwidths_span_a_factor_of_four():
    energy, x = make(num_kernels=3), events(50)
    energy.fit(x)
    rows = {tuple(row) for row in x.tolist()}
    assert all(tuple(row) in rows for row in energy.points.tolist()) and len(energy.points.unique(dim=0)) == 5
    features = [phi(energy.points) for phi in energy.features]
    medians = torch.stack([torch.cdist(f, f).flatten().median() for f in features])
    torch.testing.assert_close(
        energy.log_bandwidths.exp() / medians, torch.tensor([0.5, 1.0, 2.0], dtype=F64), rtol=1e-6, atol=0
    )
    other = make(num_kernels=3, seed=1)
    other.fit(x)
    assert not torch.equal(other.points, energy.points)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_points": 0}, "num_points must be at least 1, got 0"),
        ({"width": 0}, "width must be at least 1"),
        ({"ridge": 0.0}, "ridge must be positive, got 0.0"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_fewer_events_than_points_are_refused():
    with pytest.raises(
        UserError, match="energy.num_points=5 exceeds the 4 training events: set it to at most 4"
    ):
        make().fit(events(4))
