"""The folder of one run: what lies where, and that nothing saved is ever overwritten by another run."""

import hashlib
import json
import os
import platform
import subprocess
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from ebm_lab import resolvers
from ebm_lab.errors import UserError

MAY_CHANGE = ("iterations", "seconds", "energy_evaluations", "logger", "trainer", "output_dir", "resume")
"""Top-level keys that may differ between a run and its continuation: length, logger and device."""


class RunFolder:
    """Paths of a run's files, and the only code that creates them."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.about = self.path / "about.yaml"
        self.metrics = self.path / "metrics.csv"
        self.samples = self.path / "samples"
        self.checkpoints = self.path / "checkpoints"
        self.untrained = self.path / "untrained.json"
        self.results = self.path / "results.json"
        self.evaluation = self.path / "evaluation.json"
        self.report = self.path / "report.html"
        self.log = self.path / "run.log"

    def refuse_occupied(self) -> None:
        """Raise a UserError where a run lives already: asked before minutes of building, claimed after."""
        if self.config.exists():
            raise UserError(
                f"{self.path} already holds a run: continue it with resume={self.path}, or choose another "
                "output_dir"
            )

    def claim(self, cfg: DictConfig, about: dict[str, Any]) -> None:
        """Make the folder and write the config and what made it; refuse a folder that holds a run.

        Interpolations are kept, so that a run that goes on can be lengthened or moved in one place. The
        config is created exclusively, so that two runs that start at once cannot share a folder.

        Raises:
            UserError: when the folder holds a run already, or cannot be written.
        """
        config, made_by = OmegaConf.to_yaml(cfg), about | provenance()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with open(self.config, "x") as file:
                file.write(config)
        except FileExistsError as error:
            self.refuse_occupied()
            raise UserError(f"{self.path} is a file: choose another output_dir") from error
        except OSError as error:
            raise UserError(
                f"cannot write to {self.path} ({error.strerror}): choose another output_dir"
            ) from error
        self.about.write_text(yaml.safe_dump(made_by, sort_keys=False))

    def release(self) -> None:
        """Give up a claim under which nothing was trained: the corrected command may use the folder."""
        for file in (self.config, self.about, self.untrained, self.metrics, self.path / "wandb_id"):
            file.unlink(missing_ok=True)

    def saved_config(self) -> DictConfig:
        """The config that the run was started with.

        Raises:
            UserError: when there is no run in this folder.
        """
        if not self.config.is_file():
            raise UserError(f"{self.path} holds no run: it has no config.yaml")
        resolvers.register()
        try:
            config = OmegaConf.load(self.config)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{self.config} is damaged ({error}): put its own text back") from error
        if "objective" not in config:
            raise UserError(f"{self.config} is cut short: start again in a new folder")
        return config

    def checkpoint(self, name: str = "last") -> Path:
        """The file of a checkpoint, which need not exist yet."""
        return self.checkpoints / f"{name}.ckpt"

    def read_about(self) -> dict[str, Any]:
        """Choices, overrides and versions of the run; a kill at its very start leaves the name only."""
        known = {"name": self.path.name, "choices": {}, "overrides": []}
        return known | (yaml.safe_load(self.about.read_text()) or {} if self.about.exists() else {})


def default_folder(name: str) -> Path:
    """outputs/<date>/<time>-<name>, with a number behind it where that is taken in this second."""
    now = datetime.now()
    stem = Path("outputs") / now.strftime("%Y-%m-%d") / f"{now.strftime('%H-%M-%S')}-{name}"
    taken = (stem.with_name(f"{stem.name}-{i}") for i in range(1, 1000))
    return stem if not stem.exists() else next(p for p in taken if not p.exists())


def digest(cfg: DictConfig) -> str:
    """A fingerprint of all that must not change between a checkpoint and the run that continues it."""
    written = OmegaConf.to_container(cfg, resolve=False)
    fixed = {k: v for k, v in written.items() if k not in (*MAY_CHANGE, "callbacks", "evaluation", "log_z")}
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:16]


def provenance() -> dict[str, Any]:
    """Versions and commit behind a run."""
    packages = ("ebm_lab", "torch", "torchvision", "pytorch-lightning", "hydra-core", "omegaconf", "wandb")
    return {
        "python": platform.python_version(),
        "packages": {p: version(p) for p in packages},
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    """Commit of the tree that this package is run from, with -dirty behind it; None outside of git."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        found = subprocess.run(git, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # git is not installed
        return None
    return found.stdout.strip() or None


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file in one step: a reader, or a kill at any moment, finds the old bytes or the new ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(data)
    replace_durably(temporary, path)


def replace_durably(temporary: Path, path: Path) -> None:
    """Put a finished file in the place of another, its bytes on the disk before its name."""
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
