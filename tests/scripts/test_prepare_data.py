import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from stand_ins import write_all

from ebm_lab.data.tables import SOURCES

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "prepare_data.py"


def run(*arguments, data):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env=os.environ | {"EBM_LAB_DATA": str(data)},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("by_argument", [True, False])
def test_files_that_are_there_are_named_with_their_place(tmp_path, by_argument):
    write_all(tmp_path)
    arguments = ["mnist", "cifar10", f"root={tmp_path}"] if by_argument else []
    done = run(*arguments, data="/nowhere" if by_argument else tmp_path)
    names = ["mnist", "cifar10"] if by_argument else ["mnist", "fashion_mnist", "cifar10"]
    assert done.stdout.splitlines() == [f"{n}: 60 training and 20 test images in {tmp_path}" for n in names]
    assert (done.returncode, done.stderr) == (0, "")


def test_a_name_that_is_none_is_told_in_a_sentence(tmp_path):
    done = run("mnist", "svhn", data=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == "error: there is no data set svhn: choose from mnist, fashion_mnist, cifar10, tabular, adbench\n"
    )


def test_tables_are_listed_and_the_missing_named_with_their_public_source(tmp_path):
    (tmp_path / "tabular").mkdir()
    np.savez(tmp_path / "tabular" / "magic.npz", X=np.zeros((7, 10)))
    done = run("tabular", data=tmp_path)
    place = tmp_path / "tabular"
    assert (done.returncode, done.stdout) == (2, f"tabular: magic, 7 rows of 10 numbers, in {place}\n")
    assert done.stderr.startswith(f"error: get these and save them as {place}/NAME.npz with X (n, columns)")
    assert "; winequality_red from https://archive.ics.uci.edu, Wine Quality" in done.stderr
    assert "magic" not in done.stderr
    for name in SOURCES["tabular"]:
        np.savez(tmp_path / "tabular" / f"{name}.npz", X=np.zeros((7, 10)))
    done = run("tabular", data=tmp_path)
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", len(SOURCES["tabular"]))
