"""Where metrics go: a CSV file that resume can continue, and wandb, offline unless asked otherwise."""

import csv
import io
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from ebm_lab.errors import UserError
from ebm_lab.run_folder import write_atomically


class MetricsFile(Logger):
    """metrics.csv: one row an iteration that logged something, one column a metric, `iteration` first.

    Lightning's CSV logger deletes the file that it finds; this one cuts it back to the checkpoint
    (`truncate`) and appends.

    Args:
        path: the file.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)
        self._rows = read_metrics(self.path)
        self._columns = list(dict.fromkeys(k for row in self._rows for k in row)) or ["iteration"]

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def version(self) -> str:
        """None is needed: a run has one file."""
        return ""

    def truncate(self, iteration: int) -> None:
        """Forget all rows after `iteration`."""
        self._rows = [row for row in self._rows if int(row["iteration"]) <= iteration]
        self._rewrite()

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add to the row of iteration `step`, writing it out at once."""
        row = {"iteration": step, **metrics}
        same_row = bool(self._rows) and int(self._rows[-1]["iteration"]) == step
        new_columns = [k for k in row if k not in self._columns]
        self._columns += new_columns
        if same_row:
            self._rows[-1] |= row
        else:
            self._rows.append(row)
        if same_row or new_columns or not self.path.exists():
            self._rewrite()
        else:
            with open(self.path, "a", newline="") as file:
                csv.DictWriter(file, self._columns).writerow(row)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the config lies beside the file."""

    def _rewrite(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns)
        writer.writeheader()
        writer.writerows(self._rows)
        write_atomically(self.path, text.getvalue().encode())


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of a metrics file; a last line that a kill cut short is left out."""
    if not path.exists():
        return []
    text = path.read_text()
    complete = text[: text.rfind("\n") + 1]
    return [{k: v for k, v in row.items() if v != ""} for row in csv.DictReader(io.StringIO(complete))]


def wandb_logger(
    folder: str,
    *,
    mode: Literal["offline", "online", "disabled"] = "offline",
    project: str = "ebm_lab",
    entity: str | None = None,
    group: str | None = None,
    name: str | None = None,
    tags: Sequence[str] = (),
    config: dict[str, Any] | None = None,
) -> WandbLogger:
    """A wandb run of its own in the run's folder; a resumed run continues the id that it finds there.

    `WandbLogger(offline=True)` would set WANDB_MODE for the whole process and leave it to the next job of
    a sweep, so the run is opened here and handed over.

    Args:
        folder: the run's folder; wandb writes to `folder/wandb`.
        mode: offline, online or disabled.
        project, entity, group, name, tags, config: as in `wandb.init`; seeds are averaged over a group.

    Raises:
        UserError: for an online run without an account.
    """
    import wandb

    id_file = Path(folder) / "wandb_id"
    known = id_file.exists()
    run_id = id_file.read_text().strip() if known else secrets.token_hex(4)
    write_atomically(id_file, run_id.encode())
    try:
        run = wandb.init(
            project=project, entity=entity, group=group, name=name, tags=list(tags), config=config,
            dir=folder, id=run_id, mode=os.environ.get("WANDB_MODE", mode), job_type="train",
            resume="allow" if known and mode == "online" else None, reinit="create_new",
            settings=wandb.Settings(silent=True, console="off"),
        )  # fmt: skip
    except (wandb.errors.UsageError, wandb.errors.CommError) as error:
        raise UserError(
            f"wandb could not start ({error}): run wandb login, or logger.wandb.mode=offline"
        ) from error
    return WandbLogger(experiment=run)
