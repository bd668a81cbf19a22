"""A sampler that adapts in training: its step is logged, saved and found again, and never measured with."""

import math

import pytest
import torch
from commands import TINY, command, differences

import ebm_lab
from ebm_lab.loggers import read_metrics
from ebm_lab.samplers import MALA

LENGTH = ["callbacks.checkpoints.every=5", "trainer.val_check_interval=10", "trainer.log_every_n_steps=1"]
RUN = [*TINY, *LENGTH, "sampler=mala_adapted", "sampler.num_adapt=3", "optimizer.schedule=constant"]
OBJECTIVES = {
    "pcd": ["objective=pcd", "objective.num_chains=64", "objective.num_steps=3"],
    "short_run": ["objective=short_run", "objective.num_steps=3"],
}


def last(folder):
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_run_that_adapts_continues_bit_for_bit(objective, tmp_path):
    arguments, whole, part = [*RUN, *OBJECTIVES[objective]], tmp_path / "whole", tmp_path / "part"
    for length, folder in ((21, whole), (12, part)):
        outcome = command(*arguments, f"iterations={length}", f"output_dir={folder}")
        assert outcome.code == 0, outcome.text
    outcome = command(f"resume={part}", "iterations=21")
    assert outcome.code == 0, outcome.text
    for content in ("state_dict", "averaging_state", "optimizer_states", "objective"):
        assert differences(last(part)[content], last(whole)[content]) == []
    assert (part / "results.json").read_text() == (whole / "results.json").read_text()

    saved = last(whole)["objective"]["ranks"][0]["sampler"]
    assert saved["num_steps"] == 21 * 3  # of training; neither looks nor evaluation have adapted it
    rows = [row for row in read_metrics(whole / "metrics.csv") if row.get("train/step_size")]
    assert len(rows) == 21 and len({row["train/step_size"] for row in rows}) == 21
    now = 0.01 * math.exp(2 * saved["log_scale"])  # the step that the next iteration would begin with
    assert float(rows[-1]["train/step_size"]) == pytest.approx(now, rel=1e-6)

    sampler = ebm_lab.load_run(whole).objective.sampler
    assert sampler.state_dict() == saved and isinstance(sampler.freeze(), MALA)


def test_an_evaluation_adapts_anew_every_time(tmp_path):
    folder = tmp_path / "run"
    outcome = command(
        *TINY, "objective=dsm", "evaluation=points_adapted", "iterations=3", f"output_dir={folder}"
    )
    assert outcome.code == 0, outcome.text
    run = ebm_lab.load_run(folder)
    samples = [run.objective.generate(5, run.sampler, 2, torch.Generator().manual_seed(0)) for _ in range(2)]
    assert torch.equal(*samples) and run.sampler.state_dict()["num_steps"] == 0
