"""The wrapper around `hydra.main`: a sentence and an exit code for every ending, no traceback for a mistake.

Imports neither torch nor Lightning, so that `--help`, `--cfg job` and misspelt overrides answer at once.

Exit codes: 0 done, 1 a run that diverged or a bug, 2 a mistake of the user's, 130 and 143 stopped by
Ctrl-C or SIGTERM with everything saved.
"""

import difflib
import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from ebm_lab import schema
from ebm_lab.binding import missing_package
from ebm_lab.errors import Diverged, Stopped, UserError

CONFIGS = Path(__file__).resolve().parent.parent / "configs"

STOPPED = (130, 143)  # by Ctrl-C, by SIGTERM
PIPE_CLOSED = 141  # what a shell calls a program that wrote to a reader that had gone
DIVERGENCE = (Diverged, FloatingPointError)  # of the loss, of a kernel

log = logging.getLogger("ebm_lab")


def run_command(task: Callable[[DictConfig], None], config_name: str) -> None:
    """Compose `configs/<config_name>.yaml` with the command line, run the task, exit with its code."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands exceptions over instead of printing them
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    schema.register()
    codes: list[int] = []
    ClosingTable.codes.clear()

    def job(cfg: DictConfig) -> None:
        in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
        codes.append(
            _finish(lambda: task(cfg), Path(HydraConfig.get().runtime.output_dir) if in_sweep else None)
        )
        if codes[-1] in STOPPED:
            sys.exit(codes[-1])  # who stops a job of a sweep means the sweep

    main = hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=config_name)
    try:
        code = _finish(lambda: _composing(main(job)), None)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read has gone: `train.py --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = PIPE_CLOSED
    sys.exit(code or max(codes + ClosingTable.codes, default=0))


def _composing(main: Callable[[], None]) -> None:
    """Jobs tell their own mistakes: a ValueError that arrives here is Hydra's about the command line."""
    try:
        main()
    except ValueError as error:
        raise UserError(_explain_override(error)) from error


def _finish(run: Callable[[], None], sweep_folder: Path | None) -> int:
    """Run, say how it ended, and leave that in the sweep's folder; the exit code."""
    code, message = 0, ""
    try:
        run()
    except BrokenPipeError:
        raise
    except (Exception, KeyboardInterrupt) as error:
        code, message = explain(error)
        print(f"error: {message}" if code == 2 else message, file=sys.stderr)
        if code == 1 and not isinstance(error, DIVERGENCE):
            traceback.print_exception(error)
    if sweep_folder is not None:
        (sweep_folder / "ending.json").write_text(json.dumps({"exit_code": code, "message": message}))
    return code


def explain(error: BaseException) -> tuple[int, str]:
    """Exit code and sentence for the way in which a run ended."""
    if isinstance(error, KeyboardInterrupt):
        return 130, "stopped by Ctrl-C"
    if isinstance(error, Stopped):
        return error.exit_code, str(error)
    if isinstance(error, DIVERGENCE):
        return 1, f"diverged: {error}"
    if isinstance(error, InstantiationException):
        return _explain_instantiation(error)
    if isinstance(error, MissingConfigException):
        return 2, _explain_missing_option(error)
    if isinstance(error, OverrideParseException):
        return 2, _explain_grammar(error)
    if isinstance(error, ConfigCompositionException) and (error.__cause__ or error.__context__):
        return 2, _explain_key(error.__cause__ or error.__context__)
    if isinstance(error, OmegaConfBaseException):
        return 2, _explain_key(error)
    if isinstance(error, UserError | HydraException) or _is_misconfiguration(error):
        return 2, _one_line(str(error))
    return 1, f"{type(error).__name__}: {error}"


def _explain_override(error: ValueError) -> str:
    """Hydra's sentence; where a group was given no option, the group and its options."""
    for override in sys.argv[1:]:
        group, equals, option = override.lstrip("+").partition("=")
        options = sorted(path.stem for path in (CONFIGS / group.partition("@")[0]).glob("*.yaml"))
        if equals and options and option == "null":
            return f"{override} is no option: {group} is one of {', '.join(options)}"
    return f"{_one_line(str(error))}: overrides read key=value or group=option"


def _explain_missing_option(error: MissingConfigException) -> str:
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    options = list(error.options or [])
    if not options:
        return f"{group}={option} is not an option: {group} has none in the config search path"
    near = difflib.get_close_matches(option, options, n=1)
    hint = f", did you mean {near[0]}?" if near else ":"
    return f"{group}={option} is not an option{hint} {group} is one of {', '.join(sorted(options))}"


def _explain_grammar(error: OverrideParseException) -> str:
    key, equals, value = error.override.partition("=")
    said = _one_line(str(error)).split(" See https")[0]
    hint = f"quote the value twice, \"{key}='{value}'\"" if equals else "overrides read key=value"
    return f"{error.override} cannot be read ({said}): {hint}"


def _explain_key(error: BaseException) -> str:
    """What OmegaConf says, and the nearest valid key."""
    told = next((e for e in _chain(error) if isinstance(e, UserError)), None)
    if told is not None:  # by a resolver
        return str(told)
    missing = re.search(r"[Mm]issing mandatory value: ([\w.]+)", str(error))
    if missing:
        return f"{missing[1]} has no value: set it, {missing[1]}=..."
    sentence = _one_line(str(error)).split(" full_key:")[0]
    key, parent = getattr(error, "key", None), getattr(error, "parent_node", None)
    full_key = getattr(error, "full_key", None) or key
    if key is None or not isinstance(error, ConfigAttributeError | ConfigKeyError):
        return f"{full_key}: {sentence}" if full_key else sentence
    holder = parent if isinstance(parent, DictConfig) else [f.name for f in fields(schema.RunSchema)]
    keys = [str(k) for k in holder if k != "_target_"]
    near = difflib.get_close_matches(str(key), keys, n=1)
    hint = f"did you mean {str(full_key)[: -len(str(key))]}{near[0]}?" if near else f"keys: {', '.join(keys)}"
    return f"there is no key {full_key}; {hint}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _explain_instantiation(error: InstantiationException) -> tuple[int, str]:
    cause = error.__cause__
    where = str(error).rpartition("full_key:")[2].strip()
    if isinstance(cause, UserError | ValueError | TypeError) or _is_misconfiguration(cause):
        return 2, f"{where}: {_one_line(str(cause))}" if where else _one_line(str(cause))
    missing = missing_package(error)
    if missing:
        return 2, f"{where or 'the config'} needs the package {missing}: pip install {missing}"
    return (2 if cause is None else 1), _one_line(str(error))


def _is_misconfiguration(error: BaseException | None) -> bool:
    return type(error).__name__ == "MisconfigurationException"  # Lightning's word for a mistake


def _one_line(text: str) -> str:
    return " ".join(text.split())


class ClosingTable(Callback):
    """After a sweep: one row a job with its exit code, and a non-zero exit when one failed."""

    codes: list[int] = []

    def on_multirun_end(self, config: DictConfig, **kwargs: object) -> None:
        """Read what every job left in its folder and print the table."""
        from rich.console import Console
        from rich.table import Table

        folder = Path(config.hydra.sweep.dir)
        table = Table(title=f"{folder}", title_justify="left")
        for column in ("job", "exit", "result"):
            table.add_column(column, overflow="fold")
        for job in sorted(folder.glob("*/ending.json"), key=lambda f: int(f.parent.name.partition("-")[0])):
            ending = json.loads(job.read_text())
            ClosingTable.codes.append(ending["exit_code"])
            table.add_row(
                job.parent.name, str(ending["exit_code"]), ending["message"] or _headline(job.parent)
            )
        Console(width=None if sys.stdout.isatty() else 120).print(table)


def _headline(folder: Path) -> str:
    """The first numbers of a job's results, for the table."""
    results = folder / "results.json"
    if not results.exists():
        return ""
    measurements = json.loads(results.read_text())["measurements"]
    return ", ".join(f"{name} {m['value']:.4g}" for name, m in list(measurements.items())[:3])


def overrides() -> list[str]:
    """The command line's overrides, as typed."""
    return list(HydraConfig.get().overrides.task)


def choices() -> dict[str, str]:
    """Which option of each group was chosen."""
    runtime = OmegaConf.to_container(HydraConfig.get().runtime.choices)
    return {k: v for k, v in runtime.items() if not k.startswith("hydra/") and v is not None}
