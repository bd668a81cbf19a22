"""A run that was killed, stopped or lengthened equals, bit for bit, the run that was never interrupted."""

import os
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import TINY, command, differences, start, wait_for

from ebm_lab.building import load_run
from ebm_lab.loggers import read_metrics

ITERATIONS = 31
LENGTH = [
    f"iterations={ITERATIONS}",
    "callbacks.checkpoints.every=3",
    "trainer.val_check_interval=5",  # coincides with a checkpoint at 15 and 30 only
    "trainer.log_every_n_steps=1",
]
PCD = [*TINY, *LENGTH, "objective.num_chains=64", "objective.restart_fraction=0.1", "objective.num_steps=3"]


def last(folder: Path, name: str = "last") -> dict[str, Any]:
    return torch.load(folder / f"checkpoints/{name}.ckpt", weights_only=True)


def assert_same_run(resumed: Path, uninterrupted: Path, but: tuple[str, ...] = ()) -> None:
    """Checkpoints, metrics and results; seconds spent and Lightning's counters of loops may differ."""
    for name in ("last", "best"):
        if not (uninterrupted / f"checkpoints/{name}.ckpt").exists():
            continue
        a, b = last(resumed, name), last(uninterrupted, name)
        for checkpoint in (a, b):
            checkpoint["callbacks"].pop("Budget")
            checkpoint.pop("loops")
            assert "current_model_state" in checkpoint and "averaging_state" in checkpoint  # EMA was on
        assert differences(a, b) == []
    assert read_metrics(resumed / "metrics.csv") == read_metrics(uninterrupted / "metrics.csv")
    assert (resumed / "results.json").read_text() == (uninterrupted / "results.json").read_text()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Uninterrupted runs by their arguments, made once."""
    made: dict[tuple[str, ...], Path] = {}

    def run(arguments: list[str]) -> Path:
        key = tuple(arguments)
        if key not in made:
            made[key] = tmp_path_factory.mktemp("whole") / "run"
            outcome = command(*arguments, f"output_dir={made[key]}")
            assert outcome.code == 0, outcome.text
        return made[key]

    return run


def kill_at(arguments: list[str], folder: Path, pause: tuple[str, int]) -> None:
    """SIGKILL the command at the n-th passage of a place."""
    log = folder.with_name(f"{'-'.join(map(str, pause))}.log")
    process = start(arguments, log, pause)
    wait_for(Path(f"{log}.mark").exists, process, log)
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


KILLS = [
    ("step", 2),  # before any checkpoint
    ("step", 14),  # two rows of metrics after the checkpoint
    ("validation", 2),  # at iteration 10, where no checkpoint is due
    ("validation", 3),  # at iteration 15, where one is
    ("before_replace", 5),  # at 15
    ("after_replace", 4),  # at 12, when the row of metrics of this iteration must be there
    ("torn", 4),
    ("before_replace", 11),  # at the end
]


@pytest.mark.parametrize("pause", KILLS, ids=lambda pause: "-".join(map(str, pause)))
def test_killed_and_resumed_equals_uninterrupted(whole, tmp_path, pause):
    folder = tmp_path / "run"
    kill_at([*PCD, f"output_dir={folder}"], folder, pause)
    outcome = command(f"resume={folder}")
    assert outcome.code == 0, outcome.text
    assert_same_run(folder, whole(PCD))


def test_the_best_so_far_survives(whole, tmp_path):
    looking = [a for a in PCD if a != "callbacks.samples=null"]
    looking += ["callbacks.samples.num_samples=16", "optimizer.lr=0.3"]  # so that later looks are worse
    folder = tmp_path / "run"
    kill_at([*looking, f"output_dir={folder}"], folder, ("step", 23))
    outcome = command(f"resume={folder}")
    assert outcome.code == 0, outcome.text
    assert_same_run(folder, whole(looking))
    assert last(folder, "best")["objective"]["iteration"] < 20


def test_several_kills_at_random_moments(whole, tmp_path):
    folder, chance = tmp_path / "run", random.Random(0)
    arguments = [*PCD, f"output_dir={folder}"]
    for number, iteration in enumerate((6, 14, 22)):
        log = tmp_path / f"{number}.log"
        process = start(arguments, log)

        def reached(iteration=iteration):
            rows = read_metrics(folder / "metrics.csv")
            return bool(rows) and int(rows[-1]["iteration"]) >= iteration

        wait_for(reached, process, log)
        process.join(chance.random() * 0.03)
        os.kill(process.pid, signal.SIGKILL)
        process.join(60)
        arguments = [f"resume={folder}"]
    outcome = command(*arguments)
    assert outcome.code == 0, outcome.text
    assert_same_run(folder, whole(PCD))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_says_how_to_continue(whole, tmp_path, number, code):
    folder, log = tmp_path / "run", tmp_path / "log"
    arguments = [*PCD, f"output_dir={folder}", "callbacks.checkpoints.every=1000"]
    process = start(arguments, log, ("step", 8))
    wait_for(Path(f"{log}.mark").exists, process, log)
    os.kill(process.pid, number)  # interrupts the pause: the iteration goes on to its end
    process.join(60)
    assert process.exitcode == code, log.read_text()
    assert f"everything saved: continue with resume={folder}" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert last(folder)["objective"]["iteration"] < ITERATIONS
    outcome = command(f"resume={folder}")
    assert outcome.code == 0, outcome.text
    assert_same_run_but_cadence(folder, whole(PCD))


def assert_same_run_but_cadence(folder: Path, uninterrupted: Path) -> None:
    a, b = last(folder), last(uninterrupted)
    keys = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "objective")
    assert differences({k: a[k] for k in keys}, {k: b[k] for k in keys}) == []


@pytest.mark.parametrize("validates_at_the_end", [True, False])
def test_a_finished_run_can_be_lengthened(whole, tmp_path, validates_at_the_end):
    constant = [*PCD, "optimizer.schedule=constant"]
    shorter = 15 if validates_at_the_end else 17
    short = [a for a in constant if not a.startswith("iterations")] + [f"iterations={shorter}"]
    folder = tmp_path / "run"
    assert command(*short, f"output_dir={folder}").code == 0
    outcome = command(f"resume={folder}", f"iterations={ITERATIONS}")
    assert outcome.code == 0, outcome.text
    assert_same_run_but_cadence(folder, whole(constant))


def test_lengthening_leaves_a_schedule_of_its_own_alone(tmp_path):
    own = [*TINY, "iterations=4", "optimizer.length=100", "callbacks.checkpoints.every=2"]
    folder, other = tmp_path / "run", tmp_path / "other"
    assert command(*own, f"output_dir={folder}").code == 0
    assert command(f"resume={folder}", "iterations=7").code == 0
    assert command(*own[:-2], "optimizer.length=100", "iterations=7", f"output_dir={other}").code == 0
    assert_same_run_but_cadence(folder, other)


def test_a_finished_run_is_evaluated_again(whole, tmp_path):
    folder = Path(shutil.copytree(whole(PCD), tmp_path / "run"))
    (folder / "results.json").unlink()
    checkpoint = (folder / "checkpoints/last.ckpt").read_bytes()
    outcome = command(f"resume={folder}")
    assert outcome.code == 0, outcome.text
    assert (folder / "checkpoints/last.ckpt").read_bytes() == checkpoint
    assert (folder / "results.json").read_text() == (whole(PCD) / "results.json").read_text()


def test_a_loaded_run_has_its_chains(whole):
    folder = whole([*OTHERS["jarzynski"], *LENGTH])
    loaded = load_run(folder)
    assert loaded.log_z == loaded.results["log_z_learned"].value


@pytest.mark.parametrize(
    ("place", "choice"),
    [("noise", "objective=nce noise=flow"), ("objective.flow", "objective=flow_contrastive")],
)
def test_a_loaded_flow_is_the_fitted_one_and_is_not_fitted_again(tmp_path, place, choice):
    folder = tmp_path / "run"
    flow = [f"{place}.fit_steps=30", f"{place}.width=8", f"{place}.num_transforms=1"]
    outcome = command(*TINY, *choice.split(), *flow, "iterations=3", f"output_dir={folder}")
    assert outcome.code == 0, outcome.text
    loaded, saved = load_run(folder).objective, last(folder)["state_dict"]
    assert loaded.noise.fit_steps == 1
    noise = {k: v for k, v in loaded.state_dict().items() if k.startswith("noise.")}
    assert noise and all(torch.equal(v, saved[k]) for k, v in noise.items())


@pytest.mark.parametrize("limit", ["energy_evaluations=2000", "seconds=0.2"])
def test_a_run_that_other_limits_ended_is_finished(tmp_path, limit):
    folder = tmp_path / "run"
    outcome = command(
        *TINY, "iterations=100000", limit, "optimizer.schedule=constant", f"output_dir={folder}"
    )
    assert outcome.code == 0, outcome.text
    ended = last(folder)["objective"]["iteration"]
    outcome = command(f"resume={folder}")
    assert outcome.code == 0, outcome.text
    assert last(folder)["objective"]["iteration"] == ended < 100000


def test_logger_and_trainer_may_change_and_what_was_not_typed_stays(whole, tmp_path):
    folder = tmp_path / "run"
    kill_at([*PCD, f"output_dir={folder}"], folder, ("step", 13))
    changed = ["logger=none", "trainer.accelerator=cpu", "trainer.log_every_n_steps=3"]
    outcome = command(f"resume={folder}", *changed)
    assert outcome.code == 0, outcome.text
    assert_same_run_but_cadence(folder, whole(PCD))
    best = [last(run)["callbacks"]["Checkpoints"] for run in (folder, whole(PCD))]
    assert best[0] == best[1]  # the interval of validations stayed


def test_a_resumed_run_keeps_its_wandb_id(tmp_path):
    folder = tmp_path / "run"
    arguments = [*TINY, "iterations=4", "callbacks.checkpoints.every=2", "logger=wandb"]
    arguments.remove("logger=csv")
    assert command(*arguments, f"output_dir={folder}").code == 0
    known = (folder / "wandb_id").read_text()
    outcome = command(f"resume={folder}", "iterations=6")
    assert outcome.code == 0, outcome.text
    assert (folder / "wandb_id").read_text() == known
    assert {f.stem for f in folder.rglob("run-*.wandb")} == {f"run-{known}"}


def test_looking_at_samples_changes_no_weight(whole, tmp_path):
    looking = [a for a in PCD if a != "callbacks.samples=null"] + ["callbacks.samples.num_samples=16"]
    folder = tmp_path / "run"
    outcome = command(*looking, f"output_dir={folder}")
    assert outcome.code == 0, outcome.text
    assert len(list((folder / "samples").glob("samples_*.png"))) == 7
    assert_same_run_but_cadence(folder, whole(PCD))


OTHERS = {
    "cd": ["objective=cd", *TINY],
    "dsm": ["objective=dsm", *TINY],
    "nce": ["objective=nce", *TINY],
    "ssm": ["objective=ssm", *TINY],
    "fd_dsm": ["objective=fd_dsm", *TINY],
    "multiscale_dsm": ["objective=multiscale_dsm", "objective.num_steps=2", *TINY],
    "ncsn": ["objective=ncsn", "objective.num_steps=2", *TINY],
    "score_sde": ["objective=score_sde", "objective.num_times=5", "objective.num_likelihood=5", *TINY],
    "dual_score_matching": ["objective=dual_score_matching", "objective.num_steps=2", *TINY],
    "diffclf": ["objective=diffclf", "objective.num_steps=2", *TINY],
    "ence": ["objective=ence", *TINY],
    "bregman": ["objective=bregman", *TINY],
    "self_normalised": ["objective=self_normalised", "noise=flow", "noise.fit_steps=20", *TINY],
    "conditional_nce": ["objective=conditional_nce", *TINY],
    "shifted_nce": ["objective=shifted_nce", *TINY],
    "ranking_nce": ["objective=ranking_nce", *TINY],
    "telescoping": ["objective=telescoping", *TINY],
    "flow_contrastive": [  # so that the flow has something to learn from the first iterations on
        "objective=flow_contrastive", "objective.flow.fit_steps=3", "objective.flow_above=0.5",
        "optimizer.lr=0.05", *TINY,
    ],
    "recovery_likelihood": ["objective=recovery_likelihood", "objective.num_steps=5", *TINY],
    "short_run": ["objective=short_run", "objective.num_steps=5", *TINY],
    "jem": [
        "objective=jem", "data=gaussian_classes", "objective.num_chains=64", "objective.num_steps=3",
        "objective.num_jumps=1", *TINY,
    ],
    "unbiased_cd": ["objective=unbiased_cd", *TINY],
    "cooperative": ["objective=cooperative", "objective.inference_steps=2", *TINY],
    "improved_cd": ["objective=improved_cd", "objective.num_chains=64", "objective.num_steps=3", *TINY],
    "jarzynski": ["objective=jarzynski", "objective.num_walkers=64", "objective.num_witnesses=64", *TINY],
    "multigrid": [
        "objective=multigrid", "data=gaussian_images", "objective.num_steps=2", "energy.channels=[4]",
        "energy.hidden=8", *(override for override in TINY if not override.startswith("energy.")),
    ],
    "digits": [
        "objective=pcd", "data=digits", "trainer.accelerator=cpu", "logger=csv", "energy.channels=[4,4]",
        "energy.hidden=8", "objective.num_chains=64", "objective.num_steps=2", "data.batch_size=32",
        "evaluation.num_samples=20", "evaluation.num_steps=2", "callbacks.samples.num_samples=16",
    ],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("method", OTHERS)
def test_every_objective_resumes_exactly(whole, tmp_path, method):
    arguments = [*OTHERS[method], *LENGTH]
    folder = tmp_path / "run"
    kill_at([*arguments, f"output_dir={folder}"], folder, ("step", 11))
    kill_at([f"resume={folder}"], folder, ("before_replace", 4))
    outcome = command(f"resume={folder}")
    assert outcome.code == 0, outcome.text
    assert_same_run(folder, whole(arguments))
    if method == "flow_contrastive":  # the flow waited and stepped, before the kill and after it
        steps = [float(row["train/steps_flow"]) for row in read_metrics(folder / "metrics.csv")]
        assert set(steps[:9]) == set(steps[11:]) == {0.0, 1.0}
