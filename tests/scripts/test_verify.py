"""The table of `scripts/verify.py`: what passes, what fails, and what it is asked for."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import verify  # noqa: E402


def replicas(*learned: float) -> list[verify.Replica]:
    return [verify.Replica({"a": value}, {"a": 1.0}, 0.5) for value in learned]


@pytest.mark.parametrize(
    ("learned", "verdict"),
    [
        ([0.99, 1.01] * 4, "ok"),
        ([1 + 1e-6, 1 + 3e-6] * 4, "ok"),  # 5 standard errors off, by what rounding leaves
        ([1 + 1e-4, 1 + 1.1e-4] * 4, "FAILS"),
        ([1.09, 1.11] * 4, "FAILS"),  # off by .1, 26 standard errors
        ([0.8, 1.2] * 4, "FAILS"),  # right on average, and too noisy (.076) to tell
    ],
)
def test_a_row_fails_when_it_is_off_or_cannot_tell(learned, verdict):
    ((objective, dim, name, expected, mean, _, _, seconds, said),) = verify.rows("m", 2, replicas(*learned))
    assert (objective, dim, name, expected, seconds) == ("m", "2", "a", "1.00000", "4")
    assert float(mean) == pytest.approx(sum(learned) / 8, abs=1e-5)
    assert said == verdict


def test_standard_error_and_z_are_those_of_the_mean():
    (row,) = verify.rows("m", 2, replicas(*[0.9, 1.2] * 4))
    error = 0.15 * (8 / 7) ** 0.5 / 8**0.5
    assert float(row[5]) == pytest.approx(error, abs=1e-5)
    assert float(row[6]) == pytest.approx(0.05 / error, abs=0.05)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["nceh"], "there is no objective nceh: choose from approximate_diagonal"),
        (["--config-dir", "absent"], "absent holds no objective/*.yaml to verify"),
    ],
)
def test_what_is_not_there_is_one_sentence_and_code_2(typed, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["verify.py", *typed])
    assert verify.main() == 2
    assert said in capsys.readouterr().err
