"""A sweep: a folder and a wandb run for each job, a closing table, and no job that touches the next."""

import json
import os
import random
from collections import defaultdict

import numpy as np
import pytest
import torch
from commands import TINY, command, wandb_records
from omegaconf import OmegaConf

SWEEP = ["-m", *TINY, "iterations=3", "callbacks.ema=null"]


def weights(folder) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


def assert_same_weights(a, b) -> None:
    assert weights(a).keys() == weights(b).keys()
    for name, value in weights(a).items():
        assert torch.equal(value, weights(b)[name]), name


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Two objectives and two seeds, each with its own wandb run; the process's state before and after."""
    folder = tmp_path_factory.mktemp("sweep")
    arguments = [a for a in SWEEP if a != "logger=csv"]
    before = state_of_the_process()
    outcome = command(
        *arguments, "objective=pcd,dsm", "seed=0,1", "logger=wandb", f"hydra.sweep.dir={folder}"
    )
    return folder, outcome, before, state_of_the_process()


# The command line sets the second for good; torch sets the others when it is first asked for a device.
OURS = (
    "PYTEST_CURRENT_TEST",
    "HYDRA_FULL_ERROR",
    "PYTORCH_NVML_BASED_CUDA_CHECK",
    "TORCHINDUCTOR_CACHE_DIR",
)


def state_of_the_process() -> dict:
    return {
        "environment": {k: v for k, v in os.environ.items() if k not in OURS},
        "dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "folder": os.getcwd(),
    }


NAMES = [f"{objective}-eight_gaussians-s{seed}" for objective in ("pcd", "dsm") for seed in (0, 1)]
JOBS = [f"{number}-{name}" for number, name in enumerate(NAMES)]


def test_every_job_has_its_folder_and_config(sweep):
    folder, outcome, _, _ = sweep
    assert outcome.code == 0, outcome.text
    assert sorted(p.name for p in folder.iterdir() if p.is_dir()) == JOBS
    for job in JOBS:
        cfg = OmegaConf.load(folder / job / "config.yaml")
        objective, seed = job.split("-")[1], int(job[-1])
        assert cfg.seed == seed
        assert {"pcd": "Persistent", "dsm": "Denoising"}[objective] in cfg.objective._target_
        assert json.loads((folder / job / "results.json").read_text())["measurements"]


def test_every_job_has_a_wandb_run_of_its_own(sweep):
    folder, _, _, _ = sweep
    ids = [(folder / job / "wandb_id").read_text() for job in JOBS]
    assert len(set(ids)) == 4
    for job, run_id in zip(JOBS, ids, strict=True):
        (transactions,) = (folder / job).rglob("*.wandb")
        assert transactions.stem == f"run-{run_id}"
        content = transactions.read_bytes()
        own = str(folder / job).encode()
        assert own in content  # output_dir, from the config that was logged
        assert not any(str(folder / other).encode() in content for other in JOBS if other != job)


def test_the_closing_table_has_a_row_a_job(sweep):
    _, outcome, _, _ = sweep
    rows = [line for line in outcome.text.splitlines() if line.startswith("│") and "eight_gaussians" in line]
    assert [row.split("│")[1].strip() for row in rows] == JOBS
    assert all(row.split("│")[2].strip() == "0" for row in rows)


def test_the_process_is_left_as_it_was_found(sweep):
    _, _, before, after = sweep
    for what, value in before.items():
        assert after[what] == value


def test_a_failing_job_stops_no_other_and_is_counted(tmp_path):
    outcome = command(*SWEEP, "objective.num_chains=64,3,65", f"hydra.sweep.dir={tmp_path}")
    assert outcome.code == 2
    endings = {f.parent.name[0]: json.loads(f.read_text()) for f in tmp_path.glob("*/ending.json")}
    assert [endings[str(i)]["exit_code"] for i in range(3)] == [0, 2, 0]
    assert "objective.num_chains=3 is less than" in endings["1"]["message"]
    assert (tmp_path / "2-pcd-eight_gaussians-s0" / "results.json").exists()
    assert "objective.num_chains=3 is less than" in " ".join(outcome.text.split("exit")[-1].split())
    assert "Traceback" not in outcome.text


def test_a_mistake_of_composition_refuses_the_whole_sweep_before_it_starts(tmp_path):
    outcome = command(*SWEEP, "objective=pcd,dms", f"hydra.sweep.dir={tmp_path}/sweep")
    assert outcome.code == 2
    assert "objective=dms is not an option, did you mean dsm?" in outcome.text
    assert not list(tmp_path.rglob("checkpoints"))


def test_several_devices_are_refused(tmp_path):
    outcome = command(*SWEEP, "seed=0", "trainer.devices=2", f"hydra.sweep.dir={tmp_path}")
    assert outcome.code == 2
    assert "a sweep runs its jobs on one device each" in outcome.text
    assert not list(tmp_path.rglob("checkpoints"))


def test_a_folder_for_all_jobs_is_refused(tmp_path):
    outcome = command(*SWEEP, "seed=0,1", f"output_dir={tmp_path}/one", f"hydra.sweep.dir={tmp_path}/sweep")
    assert outcome.code == 2
    assert "use hydra.sweep.dir in place of output_dir" in outcome.text


def test_nothing_leaks_into_the_second_job(tmp_path, monkeypatch):
    from ebm_lab.evaluation.final import Evaluation

    alone = tmp_path / "alone"
    single = [a for a in SWEEP if a != "-m"]
    assert command(*single, "objective=pcd", "seed=1", f"output_dir={alone}").code == 0
    evaluate = Evaluation.__call__

    def untidy(self, objective, data):
        found = evaluate(self, objective, data)
        if objective.seed == 0:
            torch.manual_seed(1)
            np.random.seed(1)
            random.seed(1)
            torch.set_default_dtype(torch.float64)
            os.environ["EBM_LAB_DEVICE"] = "nonsense"
        return found

    monkeypatch.setattr(Evaluation, "__call__", untidy)
    outcome = command(*SWEEP, "objective=pcd", "seed=0,1", f"hydra.sweep.dir={tmp_path}/sweep")
    assert outcome.code == 0, outcome.text
    assert_same_weights(alone, tmp_path / "sweep" / "1-pcd-eight_gaussians-s1")
    assert torch.get_default_dtype() == torch.float32


def test_who_stops_a_job_stops_the_sweep(tmp_path, monkeypatch):
    from ebm_lab.errors import Stopped
    from ebm_lab.objectives import PersistentContrastiveDivergence

    def stop(self, batch):
        raise Stopped("stopped at iteration 0", 130)

    monkeypatch.setattr(PersistentContrastiveDivergence, "loss", stop)
    outcome = command(*SWEEP, "seed=0,1", f"hydra.sweep.dir={tmp_path}")
    assert outcome.code == 130
    assert not list(tmp_path.glob("1-*/config.yaml"))


def test_an_offline_run_reads_back_with_samples_histograms_and_results(tmp_path):
    folder = tmp_path / "run"
    shown = [o for o in TINY if not o.startswith(("logger", "callbacks.samples"))]
    looks = ["trainer.val_check_interval=2", "callbacks.samples.num_samples=16", "iterations=4"]
    outcome = command(*shown, *looks, f"output_dir={folder}")
    assert outcome.code == 0, outcome.text
    (file,) = folder.rglob("*.wandb")
    logged, summary = defaultdict(list), {}
    for record in wandb_records(file):
        for item in record.history.item:
            logged[item.key, *item.nested_key].append(json.loads(item.value_json))
        summary |= {update.key: json.loads(update.value_json) for update in record.summary.update}
    for name in ("samples", "energies"):
        assert logged["", f"samples/{name}", "_type"] == ["images/separated"] * 2  # a look each
        (first,), (second,) = logged["", f"samples/{name}", "filenames"]
        assert first != second
        assert all((file.parent / "files" / path).exists() for path in (first, second))
    for name in ("data", "samples", "noise"):
        assert logged["", f"energies/{name}", "_type"] == ["histogram"] * 2
        assert [sum(counts) for counts in logged["", f"energies/{name}", "values"]] == [16, 16]
    results = json.loads((folder / "results.json").read_text())["measurements"]
    for name, measurement in results.items():
        assert summary[f"final/{name}"] == measurement["value"]
