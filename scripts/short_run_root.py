"""What short-run MCMC learns, by the number of its steps: `python scripts/short_run_root.py [picture.png]`

Data of law N(0, 1/4), the energy λx²/2, K unadjusted Langevin steps of h = 0.01 from N(0, 1). Maximum
likelihood is λ = 4; the loss of short_run is stationary where K steps end with the data's variance. Trains at
some K and draws the learned λ on the curve of these roots.
"""

import sys
from pathlib import Path

import hydra
import torch
from matplotlib.figure import Figure

from ebm_lab import schema
from ebm_lab.building import build
from ebm_lab.cli import CONFIGS
from ebm_lab.evaluation.plots import CYCLE, MUTED, save
from ebm_lab.objectives import Objective
from ebm_lab.objectives.short_run import short_run_precision
from ebm_lab.samplers import Langevin

VARIANCE, STEP_SIZE = 0.25, 0.01
TRAINED = (3, 10, 30, 100)
ITERATIONS = 600
TICKS = (4, 6, 10, 20, 30)


def learned_precision(num_steps: int) -> float:
    """λ after training the objective of `experiment=short_run_root` with K steps."""
    overrides = ["experiment=short_run_root", f"objective.num_steps={num_steps}", "output_dir=x"]
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        built = build(hydra.compose("train", overrides=overrides))
    method: Objective = built.objective
    optimizer = torch.optim.Adam(method.energy.parameters(), 0.02)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, ITERATIONS)
    for _, batch in zip(range(ITERATIONS), built.data.train_dataloader(), strict=False):
        optimizer.zero_grad()
        method.loss(batch).backward()
        optimizer.step()
        schedule.step()
    return float(torch.trace(method.energy.precision.detach())) / 2


def main() -> None:
    """One line a K, and the picture."""
    torch.set_num_threads(1)
    schema.register()
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    axes = figure.subplots()
    steps = range(2, 201)
    roots = [float(short_run_precision(VARIANCE, STEP_SIZE, k, 1.0)) for k in steps]
    axes.plot(steps, roots, color=CYCLE[0], label="root of the K-step variance")
    for k in TRAINED:
        found = learned_precision(k)
        print(f"K = {k:3d}: learned {found:.4f}, root {roots[k - 2]:.4f}")
        axes.plot(k, found, "o", color=CYCLE[1], label="learned" if k == TRAINED[0] else None)
    limit = float(Langevin(STEP_SIZE).gaussian_precision(torch.tensor(VARIANCE, dtype=torch.float64)))
    axes.axhline(limit, color=MUTED, linestyle=":", label=f"K = ∞: {limit:.3f}")
    axes.axhline(1 / VARIANCE, color=MUTED, label="maximum likelihood: 4")
    axes.set(xscale="log", yscale="log", xlabel="steps K", ylabel="learned λ")
    axes.set_yticks(TICKS, [str(tick) for tick in TICKS], minor=False)
    axes.minorticks_off()
    axes.legend(frameon=False)
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/short_run_root.png")
    print(save(figure, path))


if __name__ == "__main__":
    main()
