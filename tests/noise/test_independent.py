"""Independent sites: normalised on all events, fitted by counting, drawn with their frequencies."""

import math

import pytest
import torch

from ebm_lab.energies import all_states
from ebm_lab.errors import UserError
from ebm_lab.noise import Bernoulli, Categorical

F64 = torch.float64
ONES = torch.tensor([[1, 0, 1], [1, 0, 0], [1, 0, 1], [1, 0, 0]], dtype=F64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def one_hot(*classes):
    return torch.nn.functional.one_hot(torch.tensor(classes), 3).double()


def bernoulli():
    noise = Bernoulli((3,), smoothing=0.5).double()
    noise.fit(ONES)
    return noise


def categorical():
    noise = Categorical((2, 3)).double()
    noise.fit(one_hot([0, 1], [0, 2], [0, 1]))
    return noise


def test_frequencies_are_smoothed():
    # (4 + ½) / (4 + 1), (0 + ½) / 5, (2 + ½) / 5; per class (3 + 1) / (3 + 3) and so on.
    torch.testing.assert_close(bernoulli().logits.sigmoid(), torch.tensor([0.9, 0.1, 0.5], dtype=F64))
    expected = torch.tensor([[4, 1, 1], [1, 3, 2]], dtype=F64) / 6
    torch.testing.assert_close(categorical().log_probabilities.exp(), expected)


def test_log_prob_by_hand():
    x = torch.tensor([[1.0, 1.0, 0.0]], dtype=F64)
    assert bernoulli().log_prob(x).item() == pytest.approx(math.log(0.9 * 0.1 * 0.5), abs=1e-12)
    assert categorical().log_prob(one_hot([0, 2])).item() == pytest.approx(math.log(8 / 36), abs=1e-12)


@pytest.mark.parametrize(("noise", "domain"), [(bernoulli(), "binary"), (categorical(), "categorical")])
def test_all_events_have_mass_one_and_come_as_often_as_they_should(noise, domain):
    states = torch.cat(list(all_states(noise.shape, domain)))
    p = noise.log_prob(states).exp()
    assert p.sum().item() == pytest.approx(1.0, abs=1e-12)
    num = 20_000
    x = noise.sample(num, seeded())
    assert torch.equal(x, noise.sample(num, seeded())) and x.dtype == F64
    seen = (x[:, None] == states[None]).flatten(2).all(2).double().mean(0)
    # 8 and 9 binomials: 4 standard errors each
    assert ((seen - p).abs() < 4 * (p * (1 - p) / num).sqrt()).all()


def test_a_site_that_is_constant_in_the_data_stays_possible():
    noise = Bernoulli((3,)).double()
    noise.fit(ONES)
    expected = math.log(1 / 6 * 1 / 6 * 1 / 2)  # two pseudo-events of 4 + 2
    torch.testing.assert_close(noise.log_prob(1 - ONES), torch.full((4,), expected, dtype=F64))


@pytest.mark.parametrize(
    ("act", "error", "words"),
    [
        (lambda: Bernoulli((2,), smoothing=0.0), ValueError, "smoothing must be positive"),
        (lambda: Categorical((3,)), ValueError, r"shape must be \[\*sites, classes\]"),
        (lambda: Bernoulli((2,)).fit(torch.rand(4, 2)), UserError, "binary data, these hold other numbers"),
        (lambda: Categorical((2, 3)).fit(torch.zeros(4, 2, 3)), UserError, "one-hot data"),
        (lambda: Bernoulli((2,)).sample(1, seeded()), RuntimeError, "has not been fitted"),
    ],
)
def test_mistakes_are_told_in_a_sentence(act, error, words):
    with pytest.raises(error, match=words):
        act()
