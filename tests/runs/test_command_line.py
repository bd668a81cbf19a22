"""The command line as typed, right and wrong: every mistake is one sentence that names the fix, code 2."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import TINY, command

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with good and bad data, and experiments of the user's own."""
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    np.savez("good.npz", x=x)
    x[7, 1] = np.nan
    np.savez("nan.npz", x=x)
    Path("short.npz").write_bytes(Path("good.npz").read_bytes()[:500])
    Path("file").write_text("")
    Path("mine/experiment").mkdir(parents=True)
    experiments = {
        "top": "traner: {devices: 1}",
        "nested": "objective: {num_stepz: 3}",
        "deep": "energy: {base: {scael: 3.0}}",
        "wrong_type": "objective: {num_steps: many}",
    }
    for name, text in experiments.items():
        Path(f"mine/experiment/{name}.yaml").write_text(f"# @package _global_\n{text}\n")
    return tmp_path


MINE = ["hydra.searchpath=[file://${oc.env:PWD}/mine]"]

MISTAKES = {
    "objective=ncee": "objective=ncee is not an option, did you mean nce?",
    "debug=fsat": "debug=fsat is not an option, did you mean fast?",
    "experiment=none_such": "experiment=none_such is not an option",
    "objectve=nce": "no key objectve; did you mean objective?",
    "datta.batch_size=3": "no key datta; did you mean data?",
    "objective.num_stepz=3": "no key objective.num_stepz; did you mean objective.num_steps?",
    "energy.base.scael=3": "no key energy.base.scael; did you mean energy.base.scale?",
    "optimizer.algorithm.btas=[0,1]": "did you mean optimizer.algorithm.betas?",
    "++objective.num_stepz=1": "no key objective.num_stepz (ebm_lab",
    "objective=dsm objective.sigma=abc": "objective.sigma must be a number, got 'abc'",
    "seed=abc": "seed: Value 'abc' of type 'str' could not be converted to Integer",
    "seed=-1": "seed: -1 is not in bounds",
    "iterations=abc": "iterations: Value 'abc'",
    "iterations=0": "iterations must be positive, got 0",
    "sampler.step_size=-1": "step_size must be positive, got -1",
    "optimizer.lr=-1": "lr must be positive, got -1",
    "objective.num_chains=0": "num_chains must be at least 1, got 0",
    "objective.num_chains=3": "objective.num_chains=3 is less than data.batch_size=32",
    "objective=ssm energy.activation=relu": "choose a smooth activation, such as energy.activation=silu",
    "data.batch_size=100000": "set it to at most 300",
    "objective=ncsn objective.prior=null": "objective.prior must be a NoisedGaussian, got null",
    "objective=ncsn objective.ladder=null": "objective.ladder must be a NoiseLadder, got null",
    "callbacks.budget=null": "callbacks.budget is what ends a run",
    "callbacks.ema=null +callbacks.ema={decay:0.9}": "callbacks.ema sets decay of a callback that is not",
    "callbacks.checkpoints.every=0": "every must be at least 1, got 0",
    "data=npz": "data.path has no value: set it, data.path=...",
    "data=npz data.path=nan.npz": "1 NaN",
    "data=npz data.path=absent.npz": "absent.npz: set data.path",
    "data=npz data.path=short.npz": "short.npz cannot be read as an .npz file",
    "data=npz data.path=good.npz data.key=z": "has no array z: set the key to one of x",
    "energy._target_=no_such_package.Net": "energy needs the package no_such_package: pip install",
    "energy._target_=ebm_lab.energies.MPL": "there is no ebm_lab.energies.MPL",
    "logger=wandb logger.wandb.mode=nonsense": "must be one of offline, online, disabled, got 'nonsense'",
    "trainer.accelerator=gpux": "invalid accelerator name",
    "data.path=a=b": "quote the value twice, \"data.path='a=b'\"",
    "objective=[": "objective=[ cannot be read",
    "conditioning=null": "conditioning=null is no option: conditioning is one of noise_level, none",
    "objective=dsm conditioning=noise_level": "one of x and a noise level: choose conditioning=none",
    "objective=ratio_matching": "trains on binary data, these are real: choose data=gray_points, or for",
    "=3": "overrides read key=value",
    "seed=0,1": "add --multirun",
    "resume=file": "holds no run",
    "resume=absent": "absent holds no run",
}
WITHOUT_TINY_DATA = [key for key in TINY if not key.startswith("data.num")]
NOT_AN_MLP = ("energy=convnet", "_target_")


def tiny_for(arguments: list[str]) -> list[str]:
    tiny = WITHOUT_TINY_DATA if "data=npz" in arguments else TINY
    if any(a.startswith("resume") for a in arguments):
        tiny = []
    return [t for t in tiny if t.partition("=")[0] not in {a.partition("=")[0] for a in arguments}]


@pytest.mark.parametrize("typed", MISTAKES)
def test_a_mistake_is_one_sentence_and_code_2(here, typed):
    arguments = typed.split()
    place = [] if "resume" in typed else ["output_dir=out"]
    length = [] if "resume" in typed or "iterations" in typed else ["iterations=2"]
    outcome = command(*tiny_for(arguments), *place, *length, *arguments)
    assert MISTAKES[typed] in outcome.text
    assert outcome.code == 2
    assert "Traceback" not in outcome.text
    said = [line for line in outcome.text.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    # Nothing was trained, so the corrected command may use the same folder.
    assert not (here / "out" / "config.yaml").exists()


def test_a_convnet_on_points_names_the_network_that_fits(here):
    outcome = command("energy=convnet", "output_dir=out", "trainer.accelerator=cpu")
    assert outcome.code == 2
    assert "choose energy=mlp" in outcome.text


@pytest.mark.parametrize("road", ["searchpath", "config_dir"])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("top", "no key traner; did you mean trainer?"),
        ("nested", "no key objective.num_stepz"),
        ("deep", "did you mean energy.base.scale?"),
        ("wrong_type", "objective.num_steps must be an integer, got 'many'"),
        ("tpo", "experiment=tpo is not an option, did you mean top?"),
    ],
)
def test_a_mistake_in_an_experiment_of_ones_own(here, road, name, said):
    way = [f"hydra.searchpath=[file://{here}/mine]"] if road == "searchpath" else ["--config-dir", "mine"]
    outcome = command(*way, f"experiment={name}", "output_dir=out", "iterations=2", *TINY)
    assert said in outcome.text
    assert outcome.code == 2
    assert "Traceback" not in outcome.text


def test_torchrun_is_refused(here, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    outcome = command(*TINY, "iterations=2", "output_dir=out")
    assert outcome.code == 2
    assert "python train.py trainer=ddp, not under torchrun" in outcome.text


def test_samples_that_are_not_finite_name_the_step(here):
    kernel = ["evaluation.kernel._target_=ebm_lab.samplers.Langevin", "evaluation.kernel.step_size=1e3"]
    few = [o for o in TINY if not o.startswith("evaluation.num_steps")]
    outcome = command(*few, *kernel, "evaluation.num_steps=60", "iterations=2", "output_dir=out")
    assert outcome.code == 2
    assert "40 of 40 samples are not finite" in outcome.text
    assert "set a smaller evaluation.kernel.step_size" in outcome.text


def test_an_output_folder_that_cannot_be_written(here):
    for folder in ("file", "file/below"):
        outcome = command(*TINY, "iterations=2", f"output_dir={folder}")
        assert outcome.code == 2
        assert "choose another output_dir" in outcome.text


def test_a_domain_that_the_objective_does_not_take(here, monkeypatch):
    from ebm_lab.objectives import DenoisingScoreMatching

    monkeypatch.setattr(DenoisingScoreMatching, "domains", frozenset({"image"}))
    outcome = command("objective=dsm", "output_dir=out", "iterations=2", *TINY)
    assert outcome.code == 2
    assert "DenoisingScoreMatching trains on image data, these are real" in outcome.text


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of three iterations."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    outcome = command(*TINY, "iterations=3", f"output_dir={folder}")
    assert outcome.code == 0, outcome.text
    return folder


def test_a_run_that_measures_nothing_to_be_best_by_says_so(trained):
    assert "no best.ckpt is kept: nothing in this run measures val/mmd" in (trained / "run.log").read_text()
    assert sorted(f.name for f in (trained / "checkpoints").iterdir()) == ["last.ckpt"]


def test_a_folder_that_holds_a_run_is_left_alone(trained):
    before = {f: f.read_bytes() for f in trained.rglob("*") if f.is_file()}
    outcome = command(*TINY, "iterations=3", f"output_dir={trained}")
    assert outcome.code == 2
    assert f"continue it with resume={trained}" in outcome.text
    assert before == {f: f.read_bytes() for f in trained.rglob("*") if f.is_file()}


@pytest.mark.parametrize("typed", ["objective=nce", "seed=1", "data.batch_size=8", "debug=fast"])
def test_resume_refuses_what_would_make_another_run(trained, typed):
    before = (trained / "checkpoints/last.ckpt").read_bytes()
    outcome = command(f"resume={trained}", typed)
    assert outcome.code == 2
    assert f"{typed} cannot change in a run that goes on" in outcome.text
    assert (trained / "checkpoints/last.ckpt").read_bytes() == before


def test_resume_refuses_another_folder_and_a_logger_that_the_run_lacks(trained):
    outcome = command(f"resume={trained}", f"output_dir={trained}2")
    assert outcome.code == 2
    assert "leave output_dir out" in outcome.text
    outcome = command(f"resume={trained}", "logger.wandb.mode=disabled")
    assert outcome.code == 2
    assert "the run has no logger.wandb" in outcome.text


@pytest.mark.parametrize("part", ["checkpoints/last.ckpt", "config.yaml"])
def test_a_run_whose_files_are_cut_short(trained, tmp_path, part):
    copy = copy_of(trained, tmp_path)
    content = (copy / part).read_bytes()
    (copy / part).write_bytes(content[: len(content) // 20])
    outcome = command(f"resume={copy}", "iterations=6")
    assert outcome.code == 2
    assert "cut short" in outcome.text
    assert "Traceback" not in outcome.text


def test_a_checkpoint_of_another_config(trained, tmp_path):
    copy = copy_of(trained, tmp_path)
    text = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(text.replace("num_steps: 10", "num_steps: 11"))
    outcome = command(f"resume={copy}", "iterations=6")
    assert outcome.code == 2
    assert "was written by a run of another config" in outcome.text


def copy_of(run: Path, to: Path) -> Path:
    import shutil

    return Path(shutil.copytree(run, to / "copy"))


def test_a_moved_run_writes_where_it_is(trained, tmp_path):
    copy = copy_of(trained, tmp_path)
    before = {f: f.read_bytes() for f in trained.rglob("*") if f.is_file()}
    outcome = command(f"resume={copy}", "iterations=5")
    assert outcome.code == 0, outcome.text
    saved = torch.load(copy / "checkpoints/last.ckpt", weights_only=True)
    assert saved["objective"]["iteration"] == 5
    assert before == {f: f.read_bytes() for f in trained.rglob("*") if f.is_file()}


def test_a_bug_is_shown_whole_with_code_1(here, monkeypatch):
    from ebm_lab.objectives import PersistentContrastiveDivergence

    monkeypatch.setattr(PersistentContrastiveDivergence, "loss", lambda self, batch: 1 / 0)
    outcome = command(*TINY, "iterations=2", "output_dir=out")
    assert outcome.code == 1
    assert "ZeroDivisionError" in outcome.text
    assert "Traceback" in outcome.text


def test_divergence_is_told_with_code_1_and_the_last_good_checkpoint_stays(here):
    reckless = ["optimizer.lr=1e30", "optimizer.schedule=constant", "callbacks.checkpoints.every=1"]
    outcome = command(*TINY, "iterations=9", "output_dir=out", *reckless)
    assert outcome.code == 1
    assert "diverged: " in outcome.text
    assert "Traceback" not in outcome.text
    saved = torch.load("out/checkpoints/last.ckpt", weights_only=True)
    assert all(bool(v.isfinite().all()) for v in saved["state_dict"].values())


# --- in a process of its own ------------------------------------------------------------------------------


def process(*arguments: str, **kwargs) -> subprocess.CompletedProcess:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, timeout=120, **kwargs
    )


@pytest.mark.parametrize("asked", ["--help", "--cfg job --resolve", "objectve=nce"])
def test_composition_answers_without_torch(tmp_path, asked):
    begun = time.monotonic()
    done = process("-X", "importtime", str(REPOSITORY / "train.py"), *asked.split(), cwd=tmp_path)
    assert time.monotonic() - begun < 15  # about 1 s on an idle machine; torch and Lightning alone take 4
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "hydra" in imported
    assert not imported & {"torch", "numpy", "matplotlib", "pytorch_lightning", "wandb"}
    assert done.returncode == (2 if "=" in asked else 0)
    assert os.listdir(tmp_path) == []


def test_help_says_what_it_is_and_lists_every_option(tmp_path):
    text = process(str(REPOSITORY / "train.py"), "--help", cwd=tmp_path).stdout
    assert "energy-based model" in text
    assert text.count("python train.py") >= 4
    for group in ("objective", "data", "energy", "sampler"):
        for option in (REPOSITORY / "configs" / group).glob("*.yaml"):
            assert option.stem in text


def test_a_mistake_in_a_real_process(tmp_path):
    done = process(str(REPOSITORY / "train.py"), "objective.num_chains=0", "output_dir=out", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: objective: num_chains must be at least 1, got 0\n"
