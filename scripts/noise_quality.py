"""What ν and the noise do to NCE: `python scripts/noise_quality.py FOLDER [FOLDER ...] [--picture FILE]`

FOLDERs are those of sweeps such as `python train.py sweep=noise_quality`, on data whose density is known. One
line a run: the classifier's accuracy at the end, the error of the learned log Z beside the quadrature's, and
the divergence from data to model. The picture: all three over ν, a mark for each run and for each noise a
curve through the means over seeds.
"""

import argparse
import csv
import itertools
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure
from omegaconf import OmegaConf

from ebm_lab.evaluation.plots import CYCLE, save

LAST = 5  # logged lines that the accuracy is a mean over


class Run(NamedTuple):
    """What one run says; errors in nats."""

    noise: str
    nu: int
    accuracy: float
    log_z_error: float
    kl: float


def read(folder: Path) -> Run:
    """The numbers of a finished run of `objective=nce`."""
    cfg = OmegaConf.load(folder / "config.yaml")
    found = json.loads((folder / "results.json").read_text())["measurements"]
    with (folder / "metrics.csv").open() as lines:
        logged = [float(line["train/accuracy"]) for line in csv.DictReader(lines) if line["train/accuracy"]]
    name = cfg.noise._target_.rpartition(".")[2]
    scale = f", scale {cfg.noise.scale:g}" if "scale" in cfg.noise else ""
    base = ", its base" if "density" in (cfg.energy.get("base") or {}) else ""
    return Run(
        noise=name + scale + base,
        nu=cfg.objective.nu,
        accuracy=statistics.mean(logged[-LAST:]),
        log_z_error=found["log_z_learned"]["value"] - found["log_z"]["value"],
        kl=found["kl_data_model"]["value"],
    )


PANELS: dict[str, Callable[[Run], float]] = {
    "accuracy of the classifier": lambda run: run.accuracy,
    "|learned log Z - log Z|, nats": lambda run: abs(run.log_z_error),
    "KL(data ‖ model), nats": lambda run: run.kl,
}


def by_nu(runs: list[Run], value: Callable[[Run], float]) -> dict[int, list[float]]:
    """The values of all seeds at each ν, smallest first."""
    return {nu: [value(run) for run in runs if run.nu == nu] for nu in sorted({run.nu for run in runs})}


def picture(runs: list[Run], path: Path) -> Path:
    """All panels over ν."""
    figure = Figure(figsize=(10.8, 4.1), layout="constrained")
    panels = figure.subplots(1, 3)
    nus = sorted({run.nu for run in runs})
    for panel, (title, value) in zip(panels, PANELS.items(), strict=True):
        styles = itertools.product(("o-", "s--", "^:"), CYCLE)
        for noise, (style, colour) in zip(dict.fromkeys(run.noise for run in runs), styles, strict=False):
            found = by_nu([run for run in runs if run.noise == noise], value)
            means = [statistics.mean(values) for values in found.values()]
            panel.plot(list(found), means, style, color=colour, label=noise)
            for nu, values in found.items():
                panel.plot([nu] * len(values), values, style[0], color=colour, alpha=0.4, markersize=4)
        panel.set(xscale="log", xlabel="ν, noise events per data event", title=title)
        panel.set_xticks(nus, map(str, nus))
        panel.minorticks_off()
    panels[1].set(yscale="log")
    panels[2].set(yscale="log")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return save(figure, path)


def main() -> int:
    """The lines and the picture; 2 where there is no run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--picture", type=Path, default=Path("outputs/noise_quality.png"))
    arguments = parser.parse_args()
    finished = sorted(f.parent for folder in arguments.folders for f in folder.glob("*/results.json"))
    if not finished:
        print(f"error: no finished run in {arguments.folders[0]}", file=sys.stderr)
        return 2
    runs = sorted(map(read, finished))
    print(f"{'noise':28s}{'nu':>4s}{'accuracy':>10s}{'log Z error':>13s}{'KL':>9s}")
    for run in runs:
        print(f"{run.noise:28s}{run.nu:4d}{run.accuracy:10.3f}{run.log_z_error:13.4f}{run.kl:9.4f}")
    print(picture(runs, arguments.picture))
    return 0


if __name__ == "__main__":
    sys.exit(main())
