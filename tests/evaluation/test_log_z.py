import math
from types import SimpleNamespace

import pytest
import torch

from ebm_lab.energies import Energy, GaussianMixtureEnergy, Quadratic
from ebm_lab.evaluation.likelihood import below_the_entropy, by_learned_constant, of_model
from ebm_lab.evaluation.log_z import (
    AIS,
    SMC,
    Automatic,
    Bracket,
    ByClosedForm,
    ByEnumeration,
    ByImportance,
    ByQuadrature,
    Question,
    judged,
    odd_root,
)
from ebm_lab.evaluation.measurement import Measurement
from ebm_lab.evaluation.partition import LogPartition
from ebm_lab.noise import StandardGaussian
from ebm_lab.samplers import HMC, MALA, Langevin


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def gaussian(dim, seed=0):
    """A question whose answer is known: a Gaussian of precisions between 2 and 6 under wider noise."""
    precisions = torch.linspace(2, 6, dim, dtype=torch.float64)
    energy = Quadratic((dim,)).double()
    energy.set_precision(torch.diag(precisions))
    x = torch.randn(500, dim, generator=generator(seed + 1), dtype=torch.float64) / precisions.sqrt()
    noise = StandardGaussian((dim,)).double()
    return Question(energy, noise, x, "real", 5.0, 101, generator(seed)), energy.log_partition().item()


def estimate(value, error=0.1, effective=100.0, side="low", method="this way"):
    return LogPartition(value, error, effective, side, method)


REVERSE = estimate(3.4, 0.2, 50.0, "high", "that way")


def test_a_bracket_covers_both_sides():
    assert Bracket(estimate(3.0)).error == 0.1
    assert Bracket(estimate(3.0), REVERSE).error == pytest.approx(0.4 + 0.2)
    assert Bracket(estimate(3.4, 0.5), REVERSE).error == 0.5


def test_a_bracket_is_doubted_for_a_stated_reason():
    assert judged(estimate(3.0), REVERSE, {}, 50, 0.5).doubt is None
    few = judged(estimate(3.0), REVERSE, {}, 51, 0.5)
    assert few.doubt == "log Z by that way rests on 50.0 effective samples, and 51 are needed"
    assert not few.is_counted
    wide = judged(estimate(3.0), REVERSE, {}, 10, 0.3)
    assert wide.doubt == (
        "the two sides of log Z, 3 by this way and 3.4 by that way, differ by 0.4 nats, and 0.3 are allowed"
    )
    assert wide.is_counted


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_points_of_few_coordinates_go_by_quadrature(dim):
    question, truth = gaussian(dim)
    found = Automatic()(question)
    assert found.estimate.value == pytest.approx(truth, abs=1e-4)  # 21 nodes an axis in three dimensions
    assert abs(found.estimate.value - truth) <= found.estimate.error + 1e-12
    assert found.estimate.method.startswith("quadrature on")
    assert found.quadrature.grid.num_points == odd_root(101**2, dim)
    assert ByQuadrature(num_points=41)(question).estimate.value == pytest.approx(truth, abs=1e-6)


def test_a_grid_keeps_its_number_of_nodes_in_every_dimension():
    assert [odd_root(201**2, dim) for dim in (1, 2, 3)] == [40401, 201, 35]


class Unknown(Quadratic):
    """The same energy without its formula."""

    log_partition = property()


def test_more_coordinates_go_by_the_formula_of_the_energy_or_by_importance_sampling():
    question, truth = gaussian(4)
    assert Automatic()(question).estimate == LogPartition(truth, 0.0, math.inf, "either", "its closed form")
    assert ByClosedForm()(question) == Automatic()(question)
    unknown = Unknown((4,)).double()
    unknown.load_state_dict(question.energy.state_dict())
    question = question._replace(energy=unknown)
    with pytest.raises(ValueError, match=r"Unknown knows no formula for log Z: .*\(log_z=auto\)"):
        ByClosedForm()(question)
    found = Automatic()(question)
    assert abs(found.estimate.value - truth) < 4 * found.estimate.error
    assert found.doubt is None and found.reverse is None
    doubted = ByImportance(num_draws=2000, min_effective=1500)(question)
    assert not doubted.is_counted and "log_z=ais" in doubted.doubt


def test_binary_events_are_enumerated():
    class Independent(Energy):
        shape = (1, 2, 5)

        def forward(self, x):
            return -0.5 * x.flatten(1).sum(1)

    question = gaussian(2)[0]._replace(energy=Independent(), domain="binary")
    assert Automatic()(question).estimate.value == pytest.approx(10 * math.log(1 + math.exp(0.5)))
    with pytest.raises(ValueError, match="real data cannot be enumerated"):
        ByEnumeration()(question._replace(domain="real"))


CHAINS = {"num_chains": 100, "num_temperatures": 150, "reverse_steps": 20}


@pytest.mark.parametrize(
    "estimator",
    [
        AIS(kernel=HMC(0.01, 3), **CHAINS),
        AIS(kernel=MALA(5.0), schedule="linear", **CHAINS),
        AIS(kernel=MALA(0.1), schedule="sigmoid", **CHAINS),
        SMC(kernel=HMC(0.1, 3), num_populations=10, population=20, share=0.99, reverse_steps=20),
    ],
    ids=["adaptive", "linear", "sigmoid", "smc"],
)
def test_both_sides_enclose_a_gaussian_of_ten_dimensions(estimator):
    question, truth = gaussian(10)
    found = estimator(question)
    assert found.doubt is None
    assert (found.estimate.side, found.reverse.side) == ("low", "high")
    for side in (found.estimate, found.reverse, *found.beside.values()):
        # the trapezoid rule and the lag of chains leave .05 beside the error of the integral
        assert abs(side.value - truth) < 4 * side.error + 0.05
        assert side.error < 0.25
    again = estimator(gaussian(10)[0])
    assert again == found


def test_a_mode_that_the_held_out_events_miss_sets_the_sides_apart():
    """A narrow mode of mass .8 beside a wide one, events of the wide one only.

    Where the modes meet on the path, the wide one holds about .7, at the model .2: the way down misses
    log .7/.2 = 1.3 nats. (Two modes of one shape would share alike all the way, and agree.)
    """
    energy = GaussianMixtureEnergy((1,), num_components=2).double()
    with torch.no_grad():
        energy.means.copy_(torch.tensor([[-4.0], [4.0]]))
        energy.heights.copy_(torch.tensor([3.0, 0.0]))
        energy.log_scales.copy_(torch.tensor([[0.2], [1.0]]).log())
    noise = StandardGaussian((1,), scale=4.0).double()
    z = torch.randn(200, 1, generator=generator(1), dtype=torch.float64)
    question = Question(energy, noise, 4 + z, "real", 8.0, 61, generator())
    ask = AIS(kernel=MALA(0.1), num_chains=200, num_temperatures=100, max_gap=0.5)
    assert "differ by" in ask(question).doubt
    in_narrow = torch.rand(200, 1, generator=generator(2)) < math.exp(3) * 0.2 / (math.exp(3) * 0.2 + 1)
    both = torch.where(in_narrow, -4 + 0.2 * z, 4 + z)
    assert ask(question._replace(x=both, generator=generator())).doubt is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AIS(kernel=Langevin(0.1)), "Langevin does not"),
        (lambda: SMC(kernel=MALA(0.1, temperature=0.5)), "temperature 1"),
        (lambda: AIS(kernel=MALA(0.1), num_chains=1), "num_chains >= 2"),
        (lambda: AIS(kernel=MALA(0.1), schedule="cosine"), "adaptive, linear or sigmoid"),
        (lambda: AIS(kernel=MALA(0.1), num_temperatures=0), "num_temperatures"),
        (lambda: AIS(kernel=MALA(0.1), target_acceptance=1.0), "target_acceptance between 0 and 1"),
        (lambda: AIS(kernel=MALA(0.1), max_gap=0.0), "max_gap positive"),
        (lambda: SMC(kernel=MALA(0.1), population=1), "population >= 2"),
        (lambda: ByImportance(num_draws=10, min_effective=11), "between 0 and num_draws"),
        (lambda: ByQuadrature(num_points=20), "odd and at least 11"),
    ],
)
def test_numbers_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class Flat(Energy):
    """E = 2 everywhere."""

    shape = (1,)

    def forward(self, x):
        return torch.full((len(x),), 2.0, dtype=torch.float64)


def measured(bracket, claims=True, learned=None):
    objective = SimpleNamespace(
        sigma=0.0, log_z=lambda: learned, log_z_error=lambda: 0.2, claims_likelihood=lambda: claims
    )
    asked = objective, Flat(), SimpleNamespace(levels=None), torch.zeros(10, 1, dtype=torch.float64)
    found = [*of_model(bracket, *asked), *by_learned_constant(*asked)]
    return {m.name: m for m in found}


def test_the_likelihood_has_the_error_of_both_sides():
    found = measured(
        Bracket(estimate(3.0), REVERSE, {"log_z_bar": estimate(3.1, side="either")}), learned=2.5
    )
    assert list(found) == [
        "log_z", "log_z_reverse", "nll", "log_z_ess", "log_z_bar", "log_z_learned", "nll_learned"
    ]  # fmt: skip
    assert found["nll_learned"].value == 4.5 and found["nll_learned"].error == pytest.approx(0.2)
    assert found["nll"].value == 5.0 and found["nll"].error == pytest.approx(0.6)
    assert found["nll"].note.endswith("by this way; errs low; the error covers both sides of log Z")
    assert found["log_z_reverse"].note == "that way; 50 effective; errs high"
    assert found["log_z_ess"].value == 100
    assert found["log_z_bar"].note == "this way"


def test_nothing_is_claimed_that_is_doubted():
    apart = judged(estimate(3.0), REVERSE, {}, 10, 0.3)
    assert list(measured(apart)) == ["log_z", "log_z_reverse", "log_z_ess"]
    few = judged(estimate(3.0), REVERSE, {"log_z_bar": estimate(3.1)}, 60, 9.0)
    assert list(measured(few)) == ["log_z_ess"]
    assert "nll" not in measured(Bracket(estimate(3.0)), claims=False)
    exact = Bracket(estimate(3.0, 0.0, math.inf, "either"))
    assert list(measured(exact)) == ["log_z", "nll"]


def test_a_likelihood_above_the_entropy_is_told_to_be_wrong():
    entropy = Measurement("entropy", 2.0, 0.0, "nats")
    assert list(below_the_entropy([Measurement("nll", 1.8, 0.1, "nats"), entropy])) == []
    (said,) = below_the_entropy([Measurement("nll", 1.6, 0.1, "nats"), entropy])
    assert "lies more than three error bars below the entropy 2" in said
    assert list(below_the_entropy([entropy])) == []
    (said,) = below_the_entropy([Measurement("nll_learned", 1.6, 0.1, "nats"), entropy])
    assert "The nll_learned 1.6 lies" in said and "its constant is wrong" in said
