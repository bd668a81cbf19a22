"""What the script reads off finished runs, and what it draws of them."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import noise_quality

CONFIG = """
noise: {_target_: ebm_lab.noise.StandardGaussian, scale: 4.0}
objective: {nu: %d}
energy: {base: {density: 1}}
"""


def write_run(folder: Path, nu: int, log_z: float) -> None:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIG % nu)
    values = {"log_z_learned": log_z, "log_z": 1.0, "kl_data_model": 0.5}
    measurements = {name: {"value": value} for name, value in values.items()}
    (folder / "results.json").write_text(json.dumps({"measurements": measurements}))
    accuracies = ["0.1", "0.7", "", "0.8", "0.8", "0.8", "0.9"]  # the last five logged are .7 to .9
    lines = ["step,train/accuracy", *(f"{i},{a}" for i, a in enumerate(accuracies))]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")


def test_a_run_is_read(tmp_path):
    write_run(tmp_path / "0", nu=4, log_z=0.75)
    run = noise_quality.read(tmp_path / "0")
    assert (run.noise, run.nu) == ("StandardGaussian, scale 4, its base", 4)
    assert (run.accuracy, run.log_z_error, run.kl) == pytest.approx((0.8, -0.25, 0.5))


def test_seeds_come_together_at_each_nu(tmp_path, capsys, monkeypatch):
    for folder, nu, log_z in (("0", 4, 0.75), ("1", 4, 1.5), ("2", 1, 0.0)):
        write_run(tmp_path / folder, nu, log_z)
    runs = [noise_quality.read(tmp_path / folder) for folder in "012"]
    error = noise_quality.PANELS["|learned log Z - log Z|, nats"]
    assert noise_quality.by_nu(runs, error) == {1: [1.0], 4: [0.25, 0.5]}
    picture = tmp_path / "picture.png"
    monkeypatch.setattr(sys, "argv", ["noise_quality.py", str(tmp_path), "--picture", str(picture)])
    assert noise_quality.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-4:] for line in lines[1:4]] == [
        ["1", "0.800", "-1.0000", "0.5000"],
        ["4", "0.800", "-0.2500", "0.5000"],
        ["4", "0.800", "0.5000", "0.5000"],
    ]
    assert picture.stat().st_size > 0


def test_a_folder_without_runs_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["noise_quality.py", str(tmp_path)])
    assert noise_quality.main() == 2
    assert f"no finished run in {tmp_path}" in capsys.readouterr().err
