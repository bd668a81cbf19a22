"""A flow is a density: it integrates to one, its draws are of it, and its fit comes back."""

import io
import math

import pytest
import torch

from ebm_lab.data.point_sets import eight_gaussians
from ebm_lab.errors import UserError
from ebm_lab.noise import Flow

F64 = torch.float64
KINDS = {"coupling": {}, "autoregressive": {"kind": "autoregressive"}, "affine": {"bins": None}}
SMALL = {"num_transforms": 2, "width": 16, "depth": 1, "fit_steps": 60, "fit_batch": 128}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def data(num=600):
    x = torch.randn(num, 2, generator=seeded(1), dtype=F64)
    return torch.stack([2 * x[:, 0] + 1, 0.3 * x[:, 1] + 0.5 * x[:, 0].square()], 1)


def fitted(**options):
    flow = Flow((2,), **{**SMALL, **options}).double()
    flow.fit(data())
    return flow


@pytest.fixture(scope="module", params=KINDS)
def flow(request):
    return fitted(**KINDS[request.param])


def grid(num=240, half=12.0):
    line = (torch.arange(num, dtype=F64) + 0.5) / num * 2 * half - half
    return torch.cartesian_prod(line, line), (2 * half / num) ** 2


def test_it_integrates_to_one_and_its_draws_are_of_it(flow):
    points, cell = grid()
    density = flow.log_prob(points).exp() * cell
    # Splines have kinks, at which the midpoint rule is of second order.
    assert density.sum().item() == pytest.approx(1.0, abs=2e-3)
    x, num = flow.sample(20_000, seeded(2)), 20_000
    for moment in (lambda e: e, lambda e: e.square(), lambda e: e[:, :1] * e[:, 1:]):
        expected = (density[:, None] * moment(points)).sum(0)
        error = moment(x).std(0) / math.sqrt(num)
        assert ((moment(x).mean(0) - expected).abs() < 4 * error + 2e-3 * (1 + expected.abs())).all()


def test_a_draw_knows_its_density(flow):
    z = torch.randn(50, 2, generator=seeded(3), dtype=F64)
    x, log_det = flow.transport(z)
    log_normal = -0.5 * z.square().sum(1) - math.log(2 * math.pi)
    torch.testing.assert_close(flow.log_prob(x), log_normal - log_det, rtol=1e-6, atol=1e-6)


def test_the_fit_is_by_likelihood():
    # N(0, C) with C = [[1, .8], [.8, 1]]: an affine map of one half given the other is exact, and the fit's
    # loss is the entropy, log 2πe + ½ log det C; the mean of -log q over events falls short by the fit.
    x = torch.randn(4000, 2, generator=seeded(4), dtype=F64)
    x = torch.stack([x[:, 0], 0.8 * x[:, 0] + 0.6 * x[:, 1]], 1)
    flow = Flow((2,), bins=None, **{**SMALL, "fit_steps": 300}).double()
    flow.fit(x[:2000])
    loss = -flow.log_prob(x[2000:])
    entropy = math.log(2 * math.pi * math.e) + math.log(0.6)
    assert loss.mean().item() == pytest.approx(entropy, abs=0.02 + 4 * loss.std().item() / math.sqrt(2000))


def test_events_of_any_shape_and_their_gradient():
    flow = Flow((1, 2, 3), **SMALL).double()
    flow.fit(torch.randn(200, 1, 2, 3, generator=seeded(5), dtype=F64))
    x = flow.sample(4, seeded()).requires_grad_()
    assert x.shape == (4, 1, 2, 3)
    (gradient,) = torch.autograd.grad(flow.log_prob(x).sum(), x)
    step = torch.zeros_like(x)
    step[:, 0, 1, 2] = 1e-5
    numeric = (flow.log_prob(x.detach() + step) - flow.log_prob(x.detach() - step)) / 2e-5
    torch.testing.assert_close(gradient[:, 0, 1, 2], numeric, rtol=1e-4, atol=1e-5)


def test_fit_and_draws_come_from_the_seed_and_the_generator_alone():
    state = torch.get_rng_state()
    one, again, other = fitted(), fitted(), fitted(seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    x = data(5)
    assert torch.equal(one.log_prob(x), again.log_prob(x)) and not torch.equal(
        one.log_prob(x), other.log_prob(x)
    )
    first, same, another = (one.sample(4, seeded(s)) for s in (1, 1, 2))
    assert torch.equal(first, same) and not torch.equal(first, another)


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_the_checkpoint_holds_the_fit(options):
    flow, fresh = fitted(**options), Flow((2,), **{**SMALL, **options, "seed": 9}).double()
    file = io.BytesIO()
    torch.save(flow.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    x = data(5)
    assert torch.equal(flow.log_prob(x), fresh.log_prob(x))
    assert torch.equal(flow.sample(5, seeded()), fresh.sample(5, seeded()))
    assert not any(p.requires_grad for p in flow.parameters())


def test_it_follows_modes_that_a_gaussian_does_not():
    density = eight_gaussians(scale=0.3)
    x = density.sample(4000, seeded(6)).float()
    flow = Flow((2,), width=32, num_transforms=3, fit_steps=150)
    flow.fit(x[:3000])
    gaussian = torch.distributions.MultivariateNormal(x[:3000].mean(0), x[:3000].T.cov())
    assert flow.log_prob(x[3000:]).mean() > gaussian.log_prob(x[3000:]).mean() + 0.3


def test_use_before_the_fit_and_bad_numbers_are_refused():
    with pytest.raises(RuntimeError, match="Flow has not been fitted; call fit"):
        Flow((2,), **SMALL).sample(1, seeded())
    with pytest.raises(UserError, match="hold NaN or infinity"):
        Flow((2,), **SMALL).fit(torch.full((4, 2), math.nan))
    for options, words in (
        ({"kind": "glow"}, "kind must be one of coupling, autoregressive"),
        ({"bins": 1}, "bins must be at least 2, or null"),
        ({"width": 0}, "must be at least 1"),
    ):
        with pytest.raises(ValueError, match=words):
            Flow((2,), **options)
    with pytest.raises(ValueError, match="2 numbers, these are of 1: choose noise=gaussian.*objective=nce"):
        Flow((1,))
