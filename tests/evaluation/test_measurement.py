import math

import pytest
import torch

from ebm_lab.evaluation.measurement import Measurement, from_json, mean_and_error, to_json


def test_json_round_trip_keeps_every_field_and_the_order():
    written = [
        Measurement("nll", 2.5, 0.01, "nats", "standard error; log Z by quadrature"),
        Measurement("kl", 3.76e-8),
    ]
    assert from_json(to_json(written)) == written


def test_json_has_the_documented_layout():
    text = to_json([Measurement("nll", 2.5, 0.25, "nats", "n")])
    assert '"nll": {' in text
    assert from_json(
        '{"measurements": {"nll": {"value": 2.5, "error": 0.25, "unit": "nats", "note": "n"}}}'
    ) == (from_json(text))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match=f"nll is {value}"):
        Measurement("nll", value)


@pytest.mark.parametrize("error", [math.nan, math.inf, -0.1])
def test_an_error_that_is_not_finite_and_positive_is_refused(error):
    with pytest.raises(ValueError, match="the error of nll"):
        Measurement("nll", 1.0, error)


def test_two_measurements_of_one_name_are_refused():
    with pytest.raises(ValueError, match="'nll'"):
        to_json([Measurement("nll", 1.0), Measurement("nll", 2.0)])


def test_mean_and_error_of_four_numbers():
    # mean 2.5; Σ(v - 2.5)² = 5, over n(n-1) = 12
    mean, error = mean_and_error(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert mean == 2.5
    assert error == pytest.approx(math.sqrt(5 / 12), rel=1e-12)


def test_one_value_has_no_standard_error():
    with pytest.raises(ValueError, match="at least 2"):
        mean_and_error(torch.tensor([1.0]))
