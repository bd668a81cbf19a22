"""Samples of a trained run, drawn by any kernel, as a picture and as numbers."""

import logging

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor

from ebm_lab import cli
from ebm_lab.binding import check_bindings
from ebm_lab.building import Run, load_run
from ebm_lab.domains import check_domain
from ebm_lab.energies import Energy
from ebm_lab.errors import UserError
from ebm_lab.evaluation import evaluate_in_chunks, plots
from ebm_lab.run_folder import RunFolder
from ebm_lab.samplers import run_chains

log = logging.getLogger("ebm_lab")

LOW_ACCEPTANCE = 0.05


def draw(cfg: DictConfig) -> None:
    """Run chains from the run's noise and write `samples/<sampler>-s<seed>.png` and `.npz`.

    Raises:
        UserError: for a run that cannot be loaded, numbers out of range, or a model without an energy.
    """
    if cfg.num_samples < 1 or (cfg.num_steps is not None and cfg.num_steps < 1):
        raise UserError(
            f"num_samples and num_steps must be at least 1, got {cfg.num_samples} and {cfg.num_steps}"
        )
    check_bindings(cfg)
    run = load_run(cfg.run, cfg.checkpoint)
    generator = torch.Generator().manual_seed(cfg.seed)
    num_steps = run.num_steps if cfg.num_steps is None else cfg.num_steps
    if cfg.sampler is None:  # as the method generates: its own map, or the evaluation's kernel from the noise
        x = run.objective.generate(cfg.num_samples, run.sampler, num_steps, generator)
    else:
        x = _run_kernel(cfg, run, num_steps, generator)
    name = cli.choices().get("sampler", "own")
    stem = RunFolder(cfg.run).samples / f"{name}-s{cfg.seed}"
    stem.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"x": x.numpy()}
    if run.data.transform is not None:
        arrays["pixels"] = run.data.pixels(x).numpy()
    if isinstance(run.energy, Energy):
        arrays["energy"] = evaluate_in_chunks(run.energy, x).numpy()
    np.savez(stem.with_suffix(".npz"), **arrays)
    log.info("numbers: %s", stem.with_suffix(".npz"))
    figure = plots.picture(x, run.data.test_x, run.data)
    if figure is not None:
        log.info("picture: %s", plots.save(figure, stem.with_suffix(".png")))


def _run_kernel(cfg: DictConfig, run: Run, num_steps: int, generator: torch.Generator) -> Tensor:
    """Chains of the given kernel on the model, from the noise."""
    kernel = instantiate(cfg.sampler, _convert_="all").on(run.objective.noise)
    check_domain("sampler", kernel, run.data.domain)
    kernel.check(run.energy)
    if kernel.temperature != 1:
        law = kernel.describe() if kernel.temperature is None else f"temperature {kernel.temperature:g}"
        log.info("these are samples of another law than the model's: %s", law)
    start = run.objective.noise.sample(cfg.num_samples, generator)
    chains = run_chains(kernel, run.energy, start, num_steps, generator)
    if chains.acceptance is not None:
        step = "" if chains.step_size is None else f" of {chains.step_size:.3g}"
        log.info("mean acceptance %.3f over %d steps%s", float(chains.acceptance), num_steps, step)
        if chains.swap_acceptance is not None:
            log.info("mean acceptance of exchanges %.3f", float(chains.swap_acceptance))
        if chains.acceptance < LOW_ACCEPTANCE:
            log.info("hardly a proposal was accepted: these are the starts; set a smaller sampler.step_size")
    return chains.x
