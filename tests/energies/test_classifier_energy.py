"""A classifier's logits as energies, against numbers that a person can derive."""

import math

import pytest
import torch

from ebm_lab.energies import (
    MLP,
    ClassifierEnergy,
    ConvNet,
    GaussianBase,
    GaussianMixtureEnergy,
    Quadratic,
    ResNet,
    Tempered,
    UNet,
    WideResNet,
    as_classifier,
    energy_and_gradient,
    score,
)
from ebm_lab.errors import UserError

NETWORKS = {
    "mlp": lambda: MLP((3,), width=8, depth=2, base=GaussianBase((3,), scale=2.0)),
    "convnet": lambda: ConvNet((2, 5, 7), channels=(4, 6, 6), hidden=8),
    "resnet": lambda: ResNet((2, 5, 7), channels=(4, 6), base=GaussianBase((2, 5, 7), scale=2.0)),
    "normalised_resnet": lambda: ResNet((2, 5, 7), channels=(4, 6), spectral_norm=True),
    "wide_resnet": lambda: WideResNet((1, 7, 5)),
}


class Given(ClassifierEnergy):
    """f(x) = (a, b) · x + logits: linear, so that gradients are known."""

    def __init__(self, logits, slopes=None, base=None):
        logits = torch.tensor(logits, dtype=torch.float64)
        super().__init__((2,), num_classes=len(logits), base=base)
        self.at_zero = logits
        self.slopes = torch.zeros(len(logits), 2) if slopes is None else torch.tensor(slopes)
        self.slopes = self.slopes.double()

    def class_logits(self, x):
        return x @ self.slopes.T + self.at_zero


class Shifted(Given):
    """The same with c(x) = 3 sin(x_1) x_2 added to all logits."""

    @staticmethod
    def shift(x):
        return 3 * x[:, 0].sin() * x[:, 1]

    def class_logits(self, x):
        return super().class_logits(x) + self.shift(x)[:, None]


def events(*shape: int, num: int = 5) -> torch.Tensor:
    return torch.randn(num, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def classifier(name: str, num_classes: int = 4, seed: int = 0) -> ClassifierEnergy:
    torch.manual_seed(0)
    energy = as_classifier(NETWORKS[name](), num_classes, torch.Generator().manual_seed(seed))
    return energy.double()


def test_energy_and_classes_of_two_logits():
    energy, x = Given([0.0, math.log(3)]), torch.zeros(1, 2, dtype=torch.float64)
    assert energy(x).item() == pytest.approx(-1.386294361, abs=1e-9)
    assert energy.logits(x).softmax(1)[0].tolist() == pytest.approx([0.25, 0.75], abs=1e-12)
    assert energy.given(label=1)(x).item() == pytest.approx(-math.log(3), abs=1e-12)


def test_gradient_is_the_mean_of_the_logits_gradients_under_the_posterior():
    slopes = [[1.0, -2.0], [0.5, 3.0], [-1.0, 0.0]]
    energy, x = Given([0.3, -0.1, 0.7], slopes), events(2)
    expected = -energy.logits(x).softmax(1) @ torch.tensor(slopes, dtype=torch.float64)
    torch.testing.assert_close(energy_and_gradient(energy, x)[1], expected)


def test_what_is_added_to_all_logits_shifts_the_energy_and_not_the_classes():
    slopes = [[1.0, -2.0], [0.5, 3.0], [-1.0, 0.0]]
    plain, shifted = Given([0.3, -0.1, 0.7], slopes), Shifted([0.3, -0.1, 0.7], slopes)
    x = events(2)
    torch.testing.assert_close(shifted.logits(x).softmax(1), plain.logits(x).softmax(1))
    torch.testing.assert_close(shifted(x), plain(x) - Shifted.shift(x))


def test_a_base_shapes_the_events_law_and_not_the_classes():
    base = GaussianBase((2,), scale=0.5)
    slopes = [[1.0, -2.0], [0.5, 3.0]]
    plain, based, x = Given([0.3, -0.1], slopes), Given([0.3, -0.1], slopes, base), events(2)
    torch.testing.assert_close(based(x), plain(x) + 2 * x.square().sum(1))
    torch.testing.assert_close(based.logits(x), plain.logits(x))
    for label in (0, 1):
        torch.testing.assert_close(
            based.given(label=label)(x), plain.given(label=label)(x) + 2 * x.square().sum(1)
        )


@pytest.mark.parametrize("name", NETWORKS)
def test_the_joint_decomposes_exactly(name):
    # -E(x, y) = -E(x) + log p(y | x), base included, for every network of the house
    energy = classifier(name)
    x = events(*energy.shape)
    log_p = energy.logits(x).log_softmax(1)
    joint = torch.stack([energy.given(label=label)(x) for label in range(4)], 1)
    torch.testing.assert_close(-joint, -energy(x)[:, None] + log_p)
    labels = torch.tensor([3, 0, 0, 2, 1])  # a class an event
    torch.testing.assert_close(energy.given(label=labels)(x), joint.gather(1, labels[:, None]).squeeze(1))


@pytest.mark.parametrize("name", NETWORKS)
def test_events_do_not_see_each_other_and_the_gradient_is_the_derivative(name):
    energy = classifier(name)
    x = events(*energy.shape)
    alone = torch.cat([energy.logits(x[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(energy.logits(x), alone, rtol=1e-12, atol=1e-12)
    direction, h = torch.randn_like(x), 1e-6
    for e in (energy, energy.given(label=2)):
        slope = (e(x + h * direction) - e(x - h * direction)) / (2 * h)
        gradient = -score(e, x)
        torch.testing.assert_close(
            (gradient * direction).flatten(1).sum(1), slope.detach(), rtol=1e-6, atol=1e-7
        )


@pytest.mark.parametrize("name", NETWORKS)
def test_the_seed_makes_the_map_to_the_logits_as_large_as_the_one_it_replaces(name):
    torch.manual_seed(0)
    network = NETWORKS[name]()
    last = network.network[-1].weight.detach()
    heads = [
        as_classifier(network, 500, torch.Generator().manual_seed(seed)).head.weight.detach()
        for seed in (0, 0, 1)
    ]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])
    # 500 rows of at least 6 uniform numbers: their mean square is known to √(4/5 / 3000) = 1.6 %
    assert heads[0].square().mean().item() == pytest.approx(last.square().mean().item(), rel=0.07)
    assert heads[0].mean().abs() < 4 * last.square().mean().sqrt() / math.sqrt(heads[0].numel())


def test_a_mixture_of_gaussians_is_a_classifier_by_its_components():
    energy = GaussianMixtureEnergy((2,), num_components=2).double()
    with torch.no_grad():
        energy.means.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    assert as_classifier(energy, 2, torch.Generator()) is energy
    x = events(2)
    # log p(0 | x) / p(1 | x) = ½ ‖x - μ_1‖² - ½ ‖x - μ_0‖² = 2 x_1
    logits = energy.logits(x)
    torch.testing.assert_close(logits[:, 0] - logits[:, 1], 2 * x[:, 0])
    torch.testing.assert_close(energy.given(label=0)(x), 0.5 * (x - energy.means[0]).square().sum(1))


def test_a_temperature_divides_the_joint_too():
    energy, x = Given([0.3, -0.1], [[1.0, -2.0], [0.5, 3.0]]), events(2)
    torch.testing.assert_close(Tempered(energy, 0.5).given(label=1)(x), 2 * energy.given(label=1)(x))


@pytest.mark.parametrize(
    ("energy", "sentence"),
    [
        (lambda: Quadratic((2,)), "Quadratic has no last linear map .* energy=mlp, convnet, resnet or wide"),
        (lambda: UNet((1, 8, 8)), "UNet has no last linear map"),
        (lambda: GaussianMixtureEnergy((2,)), "has 16 classes and the data have 3: .*num_components=3"),
    ],
)
def test_an_energy_that_cannot_classify_is_refused(energy, sentence):
    with pytest.raises(UserError, match=sentence):
        as_classifier(energy(), 3, torch.Generator())


def test_wrong_shapes_are_refused():
    class Column(Given):
        def class_logits(self, x):
            return super().class_logits(x)[:, :1]

    with pytest.raises(ValueError, match=r"logits of shape \(5, 1\); 5 events of 2 classes"):
        Column([0.0, 0.0])(events(2))
    with pytest.raises(ValueError, match=r"one class for all 5 events or one for each, got shape \(3,\)"):
        Given([0.0, 0.0]).given(label=torch.tensor([0, 1, 1]))(events(2))
