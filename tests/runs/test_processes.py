"""Two processes on the CPU: the same weights, their own chains, one folder, exact resume."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from commands import TINY, differences

REPOSITORY = Path(__file__).parents[2]
ARGUMENTS = [
    *(a for a in TINY if a not in ("callbacks.samples=null", "trainer.accelerator=cpu")),
    "trainer=ddp",
    "trainer.accelerator=cpu",
    "trainer.val_check_interval=4",
    "callbacks.samples.num_samples=16",
    "callbacks.checkpoints.every=4",
    "objective.num_chains=64",
    "objective.num_steps=2",
    "optimizer.schedule=constant",
]


def train(*arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, str(REPOSITORY / "train.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)


def last(folder: Path) -> dict:
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """An uninterrupted run of 14 iterations, and one of 7 that is lengthened to 14."""
    folder = tmp_path_factory.mktemp("ddp")
    for name, iterations in (("whole", 14), ("part", 7)):
        done = train(*ARGUMENTS, f"iterations={iterations}", f"output_dir={folder / name}", "logger=wandb")
        assert done.returncode == 0, done.stdout + done.stderr
        (folder / f"{name}.txt").write_text(done.stdout + done.stderr)
    return folder


@pytest.mark.slow
def test_each_process_has_its_own_chains_and_one_writes(runs):
    saved = last(runs / "whole")
    first, second = saved["objective"]["ranks"]
    assert differences(first["generator"], second["generator"])
    assert not torch.equal(first["chains"]["states"], second["chains"]["states"])
    assert len(saved["random_states"]) == 2
    assert len(list((runs / "whole").rglob("*.wandb"))) == 1
    assert sorted(p.name for p in runs.iterdir()) == ["part", "part.txt", "whole", "whole.txt"]
    rows = [line.partition(",")[0] for line in (runs / "whole/metrics.csv").read_text().splitlines()[1:]]
    assert rows == sorted(set(rows), key=int)
    said = (runs / "whole.txt").read_text()
    assert said.count("iteration 4 of 14") == 1
    assert said.count("report: ") == 1


@pytest.mark.slow
def test_a_run_of_two_processes_continues_exactly(runs):
    done = train(f"resume={runs / 'part'}", "iterations=14")
    assert done.returncode == 0, done.stdout + done.stderr
    whole, part = last(runs / "whole"), last(runs / "part")
    for key in ("state_dict", "current_model_state", "optimizer_states", "objective"):
        assert differences(whole[key], part[key]) == []


@pytest.mark.slow
def test_another_number_of_processes_is_refused(runs):
    done = train(f"resume={runs / 'whole'}", "iterations=20", "trainer=default", "trainer.accelerator=cpu")
    assert done.returncode == 2
    assert "is of 2 processes and this run has 1: resume with as many devices" in done.stderr


SAME_WEIGHTS = """
import os, torch, torch.distributed as dist
from pytorch_lightning import Callback
from ebm_lab import building
from ebm_lab.cli import run_command

class Compare(Callback):
    def on_train_batch_end(self, trainer, module, *args):
        mine = torch.cat([p.detach().flatten() for p in module.parameters()])
        everyone = [torch.empty_like(mine) for _ in range(2)]
        dist.all_gather(everyone, mine)
        assert torch.equal(*everyone)
        os.write(1, b"compared %d\\n" % trainer.global_rank)  # one write: two processes share the pipe

make = building._make_callbacks
building._make_callbacks = lambda *args: [*make(*args), Compare()]

def main(cfg):
    from ebm_lab.training import run
    run(cfg)

if __name__ == "__main__":
    run_command(main, "train")
"""


@pytest.mark.slow
def test_weights_are_the_same_on_both_at_every_iteration(tmp_path):
    (tmp_path / "watched.py").write_text(SAME_WEIGHTS)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "watched.py", *ARGUMENTS, "iterations=5", "output_dir=run"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("compared 0") == done.stdout.count("compared 1") == 5


@pytest.mark.slow
def test_sigterm_to_the_first_process_saves_and_ends_both(tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    folder = tmp_path / "run"
    command = [sys.executable, str(REPOSITORY / "train.py"), *ARGUMENTS, "iterations=100000"]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(
            [*command, f"output_dir={folder}"], stdout=log, stderr=log, env=environment
        )
    deadline = time.monotonic() + 120
    while not (folder / "checkpoints/last.ckpt").exists():
        assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143, (tmp_path / "log").read_text()
    assert "everything saved: continue with resume=" in (tmp_path / "log").read_text()
    assert last(folder)["objective"]["iteration"] >= 4
