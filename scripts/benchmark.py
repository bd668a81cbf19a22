"""What the lab costs over bare PyTorch: `python scripts/benchmark.py [section ...]`.

    kernels  one Langevin step of `run_chains` over a loop written by hand; other kernels and libraries too
    losses   loss and gradient of every objective in configs/objective over those of the energy alone
    scores   score matching and its kin against one another and against other modes of automatic
             differentiation, at the sizes of the papers: time and peak memory
    loader   batches of the lab's loader over those of a `DataLoader` on single events, images by torchvision
    step     one iteration of the Trainer over the same loss and optimizer without Lightning

Without a name: all five. Contestants take turns in one process, in an order that is shuffled anew in every
round; times are medians over rounds with their quartiles, and a ratio is taken within each round, so that
what slows the machine for a while slows both. One thread; on a CPU its processor time is counted, on a GPU
the wall's, with the device waited for. EBM_LAB_DEVICE (cpu, gpu, auto; default: cpu) is the device.
`--tiny` runs everything at sizes that mean nothing, to see that it runs.
"""

import argparse
import copy
import itertools
import logging
import math
import os
import platform
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import hydra
import numpy as np
import pytorch_lightning
import torch
from hydra.utils import instantiate
from PIL import Image
from pytorch_lightning import Callback
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.func import grad, jvp, vmap
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.functional import to_tensor

from ebm_lab import schema
from ebm_lab.building import Built, build
from ebm_lab.callbacks import Budget
from ebm_lab.data import Batch, IterationLoader
from ebm_lab.data.in_memory import dequantised
from ebm_lab.energies import MLP, ConvNet, Energy, score
from ebm_lab.errors import UserError
from ebm_lab.objectives import Objective, Player
from ebm_lab.objectives.slices import draw_slices
from ebm_lab.samplers import HMC, MALA, Kernel, Langevin, run_chains

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
SEED = 0
STEP_SIZE = 0.01  # of every kernel; time does not depend on it
LANGEVIN_TARGET = 1.05  # times the bare loop around the same energy, at most
LOADER_TARGET = 10.0  # times as fast as a DataLoader, at least
COPIES = "floats, only indexed"
STEP_OBJECTIVES = ("pcd", "dsm")
SCORE_OBJECTIVES = (
    "nce", "dsm", "fd_dsm", "ssm", "fd_ssm", "curvature_propagation", "approximate_diagonal",
    "score_matching",
)  # fmt: skip
POINT_OBJECTIVES = (*SCORE_OBJECTIVES, "explicit_score_matching", "multiscale_dsm")
LEVEL_OBJECTIVES = ("ncsn", "score_sde", "dual_score_matching", "diffclf")
AT_ONCE = 16  # coordinates of a chunk
FORWARD = "forward over reverse"
CHUNKED = f"forward over reverse, {AT_ONCE} at once"
LOOP = "Hessian-vector products in a loop"
SLICED_FORWARD = "ssm, forward over reverse"
RIVALS = {  # what a method is to be as many times as fast as at least: the fastest of these, by name
    "fd_dsm": (("dsm",), 1.4),
    "ssm": ((SLICED_FORWARD,), None),
    "fd_ssm": (("ssm",), 2.4),
    "score_matching": ((FORWARD, CHUNKED, LOOP), 0.95),  # no slower: up to four coordinates it is the loop
}
DEVICES = {
    "cpu": "cpu",
    "gpu": "cuda",
    "cuda": "cuda",
    "auto": "cuda" if torch.cuda.is_available() else "cpu",
}

Run = Callable[[], object]


@dataclass(frozen=True)
class Sizes:
    """How much is timed.

    Attributes:
        rounds: turns of each contestant.
        image_rounds: the same with the convolutional network, which takes long.
        seconds: at least so long is a turn; short calls are repeated.
        width, batch: of the multilayer perceptron's problem.
        side, image_batch: of the convolutional network's.
        steps, image_steps: Langevin steps in a run of chains.
        num, num_images: events of a data set.
        block: iterations of a turn in `step`.
        score_width, score_depth, score_batch: of the wide perceptrons in `scores`.
        features: of their events, as many as an image has and few enough for the exact trace.
        exact_batch: of the narrow ones.
    """

    rounds: int = 25
    image_rounds: int = 8
    seconds: float = 0.05
    width: int = 128
    batch: int = 256
    side: int = 28
    image_batch: int = 64
    steps: int = 50
    image_steps: int = 5
    num: int = 50_000
    num_images: int = 4_000
    block: int = 20
    score_width: int = 512
    score_depth: int = 3
    score_batch: int = 64
    features: tuple[int, int] = (784, 100)
    exact_batch: int = 128


TINY = Sizes(
    rounds=2, image_rounds=2, seconds=0.0, width=4, batch=8, side=8, image_batch=4, steps=3, image_steps=2,
    num=64, num_images=256, block=2, score_width=4, score_depth=1, score_batch=4,
    features=(20, 18), exact_batch=4,
)  # fmt: skip


class Spread(NamedTuple):
    """Median and quartiles."""

    median: float
    low: float
    high: float

    def show(self, scale: float = 1.0, digits: int = 3) -> str:
        """As `median [quartile, quartile]`, each times `scale`."""
        middle, low, high = (f"{scale * value:.{digits}f}" for value in self)
        return f"{middle} \\[{low}, {high}]"  # rich would read a bare bracket as markup


class Contestant(NamedTuple):
    """What takes turns: a call, and how many units of work it does."""

    run: Run
    units: int = 1


# --- timing ------------------------------------------------------------------------------------------


def spread(values: list[float]) -> Spread:
    """Median and quartiles of numbers, which interpolate linearly between order statistics."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(middle, low, high)


def ratio(times: list[float], reference: list[float]) -> Spread:
    """Spread of times / reference, round by round."""
    return spread([a / b for a, b in zip(times, reference, strict=True)])


def clock() -> float:
    """Seconds: the process's own on a CPU, which others on the machine hardly change; the wall's on a GPU."""
    return time.perf_counter() if torch.cuda.is_initialized() else time.process_time()


def synchronise() -> None:
    """Wait for the device."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def timed(contestant: Contestant, calls: int) -> float:
    """Seconds per unit of work over so many calls."""
    synchronise()
    begun = clock()
    for _ in range(calls):
        contestant.run()
    synchronise()
    return (clock() - begun) / (calls * contestant.units)


def calls_for(contestant: Contestant, seconds: float) -> int:
    """Calls that last at least so many seconds, judged by the faster of two after a warm-up."""
    contestant.run()
    once = contestant.units * min(timed(contestant, 1), timed(contestant, 1))
    return max(1, math.ceil(seconds / once)) if once > 0 else 1


def interleave(contestants: dict[str, Contestant], sizes: Sizes) -> dict[str, list[float]]:
    """Seconds per unit of work of each contestant in each round."""
    calls = {name: calls_for(c, sizes.seconds) for name, c in contestants.items()}
    times: dict[str, list[float]] = {name: [] for name in contestants}
    order, shuffler = list(contestants), random.Random(SEED)
    for _ in range(sizes.rounds):
        shuffler.shuffle(order)
        for name in order:
            times[name].append(timed(contestants[name], calls[name]))
    return times


# --- kernels -----------------------------------------------------------------------------------------


def bare_langevin(
    network: nn.Module, x: Tensor, num_steps: int, step_size: float, generator: torch.Generator
) -> Tensor:
    """What a user would write who needs nothing else; the parameters take no gradient."""
    noise = math.sqrt(2 * step_size)
    for _ in range(num_steps):
        x = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(network(x).sum(), x)
        z = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        x = x.detach().sub(gradient, alpha=step_size).add_(z, alpha=noise)
    return x


def lab_chains(
    kernel: Kernel, energy: Energy, x: Tensor, num_steps: int, generator: torch.Generator
) -> Contestant:
    """The lab's chains, per evaluation of the energy and its gradient, the one at the start included."""
    run = partial(run_chains, kernel, energy, x, num_steps, generator)
    seen: list[int] = []
    hook = energy.register_forward_pre_hook(lambda *_: seen.append(1))
    run()
    hook.remove()
    return Contestant(run, len(seen))


def torchebm_chains(energy: Energy, x: Tensor, num_steps: int, generator: torch.Generator) -> Contestant:
    """Langevin dynamics of torchebm."""
    from torchebm.core import BaseModel
    from torchebm.samplers import LangevinDynamics

    class Wrapped(BaseModel):
        def __init__(self) -> None:
            super().__init__(device=x.device)
            self.energy = energy

        def forward(self, x: Tensor) -> Tensor:
            return self.energy(x)

    sampler = LangevinDynamics(Wrapped(), step_size=STEP_SIZE, noise_scale=1.0, device=x.device)
    return Contestant(partial(sampler.sample, x=x, n_steps=num_steps, generator=generator), num_steps)


def ebmkit_chains(energy: Energy, x: Tensor, num_steps: int, generator: torch.Generator) -> Contestant:
    """Langevin dynamics of ebmkit, which draws from the global generator."""
    from ebm.samplers import LangevinDynamics

    sampler = LangevinDynamics(step_size=STEP_SIZE, steps=num_steps)
    return Contestant(partial(sampler.sample, energy, x), num_steps)


OTHERS = {"torchebm": torchebm_chains, "ebmkit": ebmkit_chains}


def chain_contestants(energy: Energy, x: Tensor, num_steps: int) -> dict[str, Contestant]:
    """The bare loop and all that is held against it, each with an energy and a generator of its own."""

    def own() -> tuple[Energy, Tensor, int, torch.Generator]:
        return copy.deepcopy(energy), x, num_steps, torch.Generator(x.device).manual_seed(SEED)

    def by_hand(network: nn.Module) -> Contestant:
        frozen = copy.deepcopy(network).requires_grad_(False)
        return Contestant(partial(bare_langevin, frozen, x, num_steps, STEP_SIZE, own()[-1]), num_steps)

    leapfrogs = 5
    short_energy, _, _, generator = own()
    return {
        "bare": by_hand(energy),
        "bare, without its checks": by_hand(energy.network),
        "Langevin": lab_chains(Langevin(STEP_SIZE), *own()),
        "MALA": lab_chains(MALA(STEP_SIZE), *own()),
        f"HMC, {leapfrogs} leapfrogs": lab_chains(
            HMC(STEP_SIZE, leapfrogs), short_energy, x, -(-num_steps // leapfrogs), generator
        ),
    } | {f"{name} Langevin": make(*own()) for name, make in OTHERS.items() if installed(name)}


def kernels(sizes: Sizes, device: torch.device) -> Table:
    """Time per evaluation of energy and gradient; per step, for Langevin."""
    problems = {
        "mlp": (MLP((2,), width=sizes.width), sizes.batch, sizes.steps, sizes),
        "conv": (
            ConvNet((1, sizes.side, sizes.side)), sizes.image_batch, sizes.image_steps,
            replace(sizes, rounds=sizes.image_rounds),
        ),
    }  # fmt: skip
    table = new_table(
        "kernels: ms per energy and gradient", "network", "batch", "chains", "ms", "over bare", ""
    )
    for size, (energy, batch, num_steps, turns) in problems.items():
        energy = energy.to(device)
        x = torch.randn(batch, *energy.shape, device=device)
        times = interleave(chain_contestants(energy, x, num_steps), turns)
        for name, values in times.items():
            over = ratio(values, times["bare"])
            note = (
                verdict(over.median <= LANGEVIN_TARGET, f"<= {LANGEVIN_TARGET}") if name == "Langevin" else ""
            )
            table.add_row(size, str(batch), name, spread(values).show(1e3), over.show(), note)
    absent = [name for name in OTHERS if not installed(name)]
    table.caption = f"not installed, not timed: {', '.join(absent)}" if absent else None
    return table


# --- losses ------------------------------------------------------------------------------------------


def point_overrides(sizes: Sizes) -> list[str]:
    """The default 2-D data, labelled by their modes, and the default network."""
    return [
        "logger=none",
        "+data.labelled=true",
        f"energy.width={sizes.width}",
        f"data.batch_size={sizes.batch}",
        f"data.num_train={sizes.num}",
    ]


def image_overrides(sizes: Sizes, folder: Path) -> list[str]:
    """White noise of 256 levels as images of two classes, and the convolutional network."""
    path = folder / f"images_{sizes.side}.npz"
    shape = (sizes.num_images, 1, sizes.side, sizes.side)
    pixels = np.random.default_rng(SEED).integers(256, size=shape, dtype=np.uint8)
    np.savez(path, x=pixels, y=np.arange(len(pixels)) % 2)
    return [
        "logger=none", "data=npz", f"data.path={path}", "data.label_key=y", "data.domain=image",
        "data.levels=256", "energy=convnet", "evaluation=images", f"data.batch_size={sizes.image_batch}",
    ]  # fmt: skip


def built_on(device: torch.device, objective: str, overrides: list[str]) -> Built:
    """The lab's own objects for an objective, with the data and networks on the device."""
    built = build(hydra.compose("train", overrides=[f"objective={objective}", *overrides]))
    built.objective.to(device)
    return built


def first_batch(built: Built) -> Batch:
    """Batch 0, on the objective's device."""
    batch, device = built.data.train_dataloader().batch(0), built.objective.device
    return Batch(batch.x.to(device), None if batch.label is None else batch.label.to(device))


def parameters_of(player: Player) -> list[Tensor]:
    """All that a player's optimizer moves."""
    return [p for group in player.parameter_groups() for p in group["params"]]


def gradient(loss: Callable[[], Tensor], parameters: list[Tensor]) -> None:
    """A loss and its gradient in the parameters, into fresh `grad`s."""
    for p in parameters:
        p.grad = None
    loss().backward(inputs=parameters)


def all_gradients(objective: Objective, batch: Batch) -> Run:
    """Every player's losses and gradients, as often as it steps in an iteration."""
    turns = [(partial(p.loss, batch), parameters_of(p), p.steps) for p in objective.players().values()]

    def run() -> None:
        for loss, parameters, steps in turns:
            for _ in range(steps):
                gradient(loss, parameters)

    return run


def plain_gradient(energy: nn.Module, batch: Batch) -> Run:
    """One forward and one parameter gradient of the network's mean output."""
    parameters = [p for p in energy.parameters() if p.requires_grad]
    return partial(gradient, lambda: energy(batch.x).mean(), parameters)


def time_loss(objective: str, overrides: list[str], sizes: Sizes, device: torch.device) -> list[str]:
    """Cells of a row, or the sentence with which the lab refuses the pair."""
    try:
        built = built_on(device, objective, overrides)
    except UserError as error:
        return ["", "", "", str(error)]
    batch, plain = first_batch(built), copy.deepcopy(built.objective.model())
    times = interleave(
        {
            "loss": Contestant(all_gradients(built.objective, batch)),
            "plain": Contestant(plain_gradient(plain, batch)),
        },
        sizes,
    )
    shown = [spread(times[name]).show(1e3) for name in ("loss", "plain")]
    return [*shown, ratio(times["loss"], times["plain"]).show(digits=2), ""]


def objectives() -> list[str]:
    """All that there are: a new one joins by existing."""
    return sorted(f.stem for f in (CONFIGS / "objective").glob("*.yaml"))


def losses(sizes: Sizes, device: torch.device) -> Table:
    """Every objective in configs/objective, at both sizes."""
    table = new_table(
        "losses: ms per loss with its gradient",
        "network",
        "batch",
        "objective",
        "loss",
        "energy alone",
        "ratio",
        "",
    )
    with tempfile.TemporaryDirectory() as folder:
        problems = {
            "mlp": (sizes.batch, point_overrides(sizes), sizes),
            "conv": (
                sizes.image_batch,
                image_overrides(sizes, Path(folder)),
                replace(sizes, rounds=sizes.image_rounds),
            ),
        }
        for (size, (batch, overrides, turns)), name in itertools.product(problems.items(), objectives()):
            table.add_row(size, str(batch), name, *time_loss(name, overrides, turns, device))
    return table


# --- scores ------------------------------------------------------------------------------------------


def peak_memory(run: Run, device: torch.device) -> float:
    """Most bytes that one call holds beyond what was there before, in MB."""
    run()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as seen:
        run()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = itertools.accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns()))
    return max(held, default=0) / 1e6


def forward_over_reverse(energy: Energy, x: Tensor, at_once: int | None = None) -> Tensor:
    """The loss of `score_matching`, ∇s e_i by forward over reverse for all i, or so many, at once."""
    field, basis = score_field(energy), torch.eye(x[0].numel(), dtype=x.dtype, device=x.device)

    def entry(e: Tensor) -> tuple[Tensor, Tensor]:
        s, along = jvp(field, (x,), (e.expand_as(x),))
        return s, (along * e).flatten(1).sum(1)

    divergence = x.new_zeros(len(x))
    for chunk in basis.view(-1, 1, *x.shape[1:]).split(at_once or len(basis)):
        s, diagonal = vmap(entry, out_dims=(None, 0))(chunk)
        divergence = divergence + diagonal.sum(0)
    return (divergence + 0.5 * s.flatten(1).square().sum(1)).mean()


def products_in_a_loop(energy: Energy, x: Tensor) -> Tensor:
    """The same loss by one Hessian-vector product after the other, reverse over reverse."""
    x = x.detach().requires_grad_(True)
    s = score(energy, x, create_graph=True).flatten(1)
    divergence = x.new_zeros(len(x))
    for i in range(s.shape[1]):
        (row,) = torch.autograd.grad(s[:, i].sum(), x, create_graph=True)
        divergence = divergence + row.flatten(1)[:, i]
    return (divergence + 0.5 * s.square().sum(1)).mean()


def sliced_forward(energy: Energy, x: Tensor, v: Tensor) -> Tensor:
    """The variance-reduced loss of `ssm`, ∇s v by forward over reverse."""
    s, along = jvp(score_field(energy), (x,), (v,))
    return ((along * v).flatten(1).sum(1) + 0.5 * s.flatten(1).square().sum(1)).mean()


def score_field(energy: Energy) -> Callable[[Tensor], Tensor]:
    """x -> -∇E(x), as `torch.func` differentiates it."""
    gradient = grad(lambda y: energy(y).sum())
    return lambda y: -gradient(y)


def by_hand(name: str, objective: Objective) -> dict[str, Callable[[Batch], Tensor]]:
    """The objective's loss in other modes of automatic differentiation."""
    energy = objective.energy
    if name == "ssm":

        def sliced(batch: Batch) -> Tensor:
            x = objective.corrupted(batch.x)
            return sliced_forward(energy, x, draw_slices(objective.slices, x, objective.generator))

        return {SLICED_FORWARD: sliced}
    if name != "score_matching":
        return {}
    chunked = {CHUNKED: partial(forward_over_reverse, at_once=AT_ONCE)}
    has_chunks = math.prod(energy.shape) > AT_ONCE
    ways = {FORWARD: forward_over_reverse, **(chunked if has_chunks else {}), LOOP: products_in_a_loop}
    return {way: lambda batch, f=f: f(energy, objective.corrupted(batch.x)) for way, f in ways.items()}


class ScoreProblem(NamedTuple):
    """Objectives that take turns on one network, and its config."""

    objectives: tuple[str, ...]
    overrides: list[str]


def score_problems(sizes: Sizes, folder: Path) -> dict[str, ScoreProblem]:
    """A ConvNet and wide perceptrons for all, and small networks where the exact trace is cheap.

    On the fewer features each method has data of its domain. Energies of noise levels, bounded numbers and
    bits come by themselves, held against an energy alone of their own. `explicit_score_matching` is not timed
    on images, whose density is not known; what the lab refuses has its sentence in the table.
    """
    many, few = sizes.features
    side = math.isqrt(few)
    points = [
        "logger=none", "energy=mlp", f"data.num_train={sizes.num_images}", "data.num_val=100",
        "data.num_test=100",
    ]  # fmt: skip
    wide = [
        *points, f"energy.width={sizes.score_width}", f"energy.depth={sizes.score_depth}",
        f"data.batch_size={sizes.score_batch}",
    ]  # fmt: skip
    narrow = [*points, f"energy.width={sizes.width}", f"data.batch_size={sizes.exact_batch}"]

    def draws(data: str, num: int) -> list[str]:
        return [f"data={data}", f"data.dim={num}"]

    problems = {
        "conv": (SCORE_OBJECTIVES, image_overrides(sizes, folder)),
        f"mlp, {many}": (POINT_OBJECTIVES, [*wide, *draws("gaussian", many)]),
        f"mlp, {few}": (POINT_OBJECTIVES, [*wide, *draws("gaussian", few)]),
        f"mlp of levels, {few}": (LEVEL_OBJECTIVES, [*wide, *draws("gaussian", few)]),
        f"mlp, {few} nonnegative": (("nonnegative_score_matching",), [*wide, *draws("nonnegative", few)]),
        f"mlp, {few} unit": (("unit_score_matching",), [*wide, *draws("unit", few)]),
        f"mlp, {side**2} bits": (("ratio_matching",), [*wide, "data=ising", f"data.side={side}"]),
        "narrow mlp, 2": (("score_matching",), [*narrow, *draws("gaussian", 2)]),
        "narrow mlp, 10": (("score_matching",), [*narrow, *draws("gaussian", 10)]),
        "conv, 8 x 8": (("score_matching",), image_overrides(replace(sizes, side=8), folder)),
    }
    return {name: ScoreProblem(*problem) for name, problem in problems.items()}


def score_contestants(
    problem: ScoreProblem, device: torch.device
) -> tuple[dict[str, Contestant], dict[str, str]]:
    """What can be timed, and the sentences with which the lab refuses the others."""
    contestants: dict[str, Contestant] = {}
    refused: dict[str, str] = {}
    for name in problem.objectives:
        try:
            built = built_on(device, name, problem.overrides)
        except UserError as error:
            refused[name] = str(error)
            continue
        objective, batch = built.objective, first_batch(built)
        if not contestants:
            plain = copy.deepcopy(objective.model())
            contestants["energy alone"] = Contestant(plain_gradient(plain, batch))
        contestants[name] = Contestant(all_gradients(objective, batch))
        for way, loss in by_hand(name, objective).items():
            parameters = parameters_of(objective.players()["energy"])
            contestants[way] = Contestant(partial(gradient, partial(loss, batch), parameters))
    return contestants, refused


def against_rivals(name: str, times: dict[str, list[float]]) -> str:
    """How many times as fast it is as the fastest of its rivals."""
    rivals, target = RIVALS.get(name, ((), None))
    present = [rival for rival in rivals if rival in times]
    if not present:
        return ""
    rival = min(present, key=lambda rival: statistics.median(times[rival]))
    faster = ratio(times[rival], times[name])
    reached = "" if target is None else f": {verdict(faster.median >= target, f'>= {target}')}"
    return f"{faster.show(digits=2)} times as fast as {rival}{reached}"


def time_scores(problem: ScoreProblem, sizes: Sizes, device: torch.device) -> Iterator[list[str]]:
    """A row for every method: all take turns."""
    contestants, refused = score_contestants(problem, device)
    times = interleave(contestants, sizes)
    for name, contestant in contestants.items():
        over = ratio(times[name], times["energy alone"]).show(digits=2)
        memory = f"{peak_memory(contestant.run, device):.1f}"
        yield [name, spread(times[name]).show(1e3), over, memory, against_rivals(name, times)]
    for name, sentence in refused.items():
        yield [name, "", "", "", sentence]


def scores(sizes: Sizes, device: torch.device) -> Table:
    """Losses that need the energy's derivatives, or go without them."""
    table = new_table(
        "scores: ms per loss with its gradient", "network", "objective", "loss", "over energy alone",
        "peak, MB", "",
    )  # fmt: skip
    turns = replace(sizes, rounds=sizes.image_rounds)
    with tempfile.TemporaryDirectory() as folder:
        for size, problem in score_problems(sizes, Path(folder)).items():
            for row in time_scores(problem, turns, device):
                table.add_row(size, *row)
    return table


# --- loader ------------------------------------------------------------------------------------------


def dequantised_picture(k: Tensor, generator: torch.Generator, levels: int) -> Tensor:
    """One image as torchvision's sets give it, through Pillow and `to_tensor`, then dequantised."""
    s = to_tensor(Image.fromarray(k[0].numpy()))  # k / 255
    u = torch.rand(s.shape, generator=generator)
    return 2 * ((levels - 1) * s + u) / levels - 1


class SingleEvents(Dataset):
    """Events one by one, as most data sets give them."""

    def __init__(self, x: Tensor, transform: Callable[[Tensor], Tensor] | None) -> None:
        self.x, self.transform = x, transform

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> Tensor:
        return self.x[i] if self.transform is None else self.transform(self.x[i])


def endless(loader: DataLoader, device: torch.device) -> Iterator[Tensor]:
    """Batches on the device, epoch after epoch."""
    while True:
        for x in loader:
            yield x.to(device)


def time_loader(x: Tensor, levels: int | None, sizes: Sizes, device: torch.device) -> dict[str, list[float]]:
    """Seconds per batch of both, shuffled, and with fresh dequantisation where there are levels."""
    noise = torch.Generator().manual_seed(SEED)
    per_batch = None if levels is None else partial(dequantised, levels=levels)
    per_event = None if levels is None else partial(dequantised_picture, generator=noise, levels=levels)
    lab = iter(IterationLoader(x.to(device), None, sizes.batch, SEED, per_batch))
    single = DataLoader(SingleEvents(x, per_event), sizes.batch, shuffle=True, drop_last=True)
    contestants = {"IterationLoader": lab, "DataLoader": endless(single, device)}
    return interleave(
        {name: Contestant(partial(next, batches)) for name, batches in contestants.items()}, sizes
    )


def loader(sizes: Sizes, device: torch.device) -> Table:
    """Batches per second over points and images."""
    bytes_ = torch.randint(256, (sizes.num_images, 1, sizes.side, sizes.side), dtype=torch.uint8)
    problems = {
        "points": (torch.randn(sizes.num, 2), None),
        "images, dequantised": (bytes_, 256),
        COPIES: (bytes_.float(), None),
    }
    names = ("IterationLoader", "DataLoader")
    table = new_table("loader: batches per second", "data", "event", "batch", *names, "times as fast", "")
    for kind, (x, levels) in problems.items():
        times = time_loader(x, levels, sizes, device)
        faster = ratio(times["DataLoader"], times["IterationLoader"])
        rates = [spread([1 / t for t in times[name]]).show(digits=0) for name in names]
        event = str(tuple(x.shape[1:]))
        judged = kind != COPIES  # copying the batch's bytes is most of both
        note = verdict(faster.median >= LOADER_TARGET, f">= {LOADER_TARGET:g}") if judged else ""
        table.add_row(kind, event, str(sizes.batch), *rates, faster.show(digits=1), note)
    return table


# --- step --------------------------------------------------------------------------------------------


class TakesTurns(Callback):
    """Times blocks of the Trainer's iterations and, between them, blocks of a bare step.

    The first block warms up both. In each round either may come first.
    """

    def __init__(self, bare: Contestant, rounds: int, block: int) -> None:
        self.bare, self.rounds, self.block = bare, rounds, block
        self.times: dict[str, list[float]] = {"lab": [], "bare": []}
        self._coin = random.Random(SEED)
        self._bare_follows = False
        self._begun: float | None = None

    def on_train_batch_end(
        self,
        trainer: pytorch_lightning.Trainer,
        pl_module: Objective,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """At the end of a block: close the clock, let the bare step have its turn, start the clock."""
        if pl_module.iteration % self.block:
            return
        synchronise()
        self._close(clock())
        self._open()

    def _close(self, now: float) -> None:
        if self._begun is None:
            timed(self.bare, self.block)
            return
        self.times["lab"].append((now - self._begun) / self.block)
        if self._bare_follows:
            self.times["bare"].append(timed(self.bare, self.block))

    def _open(self) -> None:
        if len(self.times["lab"]) == self.rounds:
            return
        self._bare_follows = self._coin.random() < 0.5
        if not self._bare_follows:
            self.times["bare"].append(timed(self.bare, self.block))
        self._begun = clock()


def bare_step(built: Built) -> Run:
    """The objective's own loss and optimizer, on batches of its own loader, and no Lightning."""
    (player,) = built.objective.players().values()
    optimizer, _ = player.optimization.build(player.parameter_groups())
    batches, device = iter(built.data.train_dataloader()), built.objective.device

    def run() -> None:
        optimizer.zero_grad()
        player.loss(Batch(next(batches).x.to(device))).backward()
        optimizer.step()

    return run


def time_step(objective: str, sizes: Sizes, device: torch.device) -> dict[str, list[float]]:
    """Seconds per iteration with and without the Trainer, of two runs that are built alike."""
    overrides = point_overrides(sizes)
    turns = TakesTurns(
        Contestant(bare_step(built_on(device, objective, overrides))), sizes.rounds, sizes.block
    )
    cfg = hydra.compose("train", overrides=[f"objective={objective}", *overrides])
    built = build(cfg)
    trainer = instantiate(
        cfg.trainer, accelerator=device.type, logger=False, enable_checkpointing=False, limit_val_batches=0,
        callbacks=[Budget(iterations=(sizes.rounds + 1) * sizes.block), turns],
    )  # fmt: skip
    trainer.fit(built.objective, datamodule=built.data)
    return turns.times


def step(sizes: Sizes, device: torch.device) -> Table:
    """What an iteration costs beyond its loss and optimizer."""
    table = new_table(
        "step: ms per iteration, mlp", "objective", "batch", "Trainer", "bare", "ratio", "added, ms"
    )
    for objective in STEP_OBJECTIVES:
        times = time_step(objective, sizes, device)
        added = spread([a - b for a, b in zip(times["lab"], times["bare"], strict=True)])
        shown = [spread(times[name]).show(1e3) for name in ("lab", "bare")]
        over = ratio(times["lab"], times["bare"]).show(digits=2)
        table.add_row(objective, str(sizes.batch), *shown, over, added.show(1e3))
    return table


# --- the page ----------------------------------------------------------------------------------------

SECTIONS = {"kernels": kernels, "losses": losses, "scores": scores, "loader": loader, "step": step}


def installed(package: str) -> bool:
    """Whether a distribution of this name is there."""
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def new_table(title: str, *columns: str) -> Table:
    """An empty table; numbers are medians with quartiles."""
    table = Table(title=f"{title} (median \\[quartiles])", title_justify="left", caption_justify="left")
    for column in columns:
        table.add_column(column)
    return table


def verdict(reached: bool, target: str) -> str:
    """Whether a target is reached."""
    return f"{'ok' if reached else 'MISSED'} ({target})"


def machine(device: torch.device) -> str:
    """Versions, threads and device."""
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    others = [f"{name} {version(name)}" for name in OTHERS if installed(name)]
    load = f", load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores" if hasattr(os, "getloadavg") else ""
    return ", ".join(
        [f"Python {platform.python_version()}", f"torch {torch.__version__}",
         f"pytorch-lightning {pytorch_lightning.__version__}", *others,
         f"{torch.get_num_threads()} thread", f"{device.type} ({where}){load}"]
    )  # fmt: skip


def parse(arguments: list[str]) -> argparse.Namespace:
    """Sections, rounds and size; exits with 2 on a word that means nothing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "sections", nargs="*", metavar="section", help=f"of {', '.join(SECTIONS)}; all by default"
    )
    parser.add_argument("--rounds", type=int, help="turns of each contestant, at least 1")
    parser.add_argument("--tiny", action="store_true", help="sizes that mean nothing, to see that it runs")
    chosen = parser.parse_args(arguments)
    unknown = [name for name in chosen.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"there is no section {unknown[0]}: choose from {', '.join(SECTIONS)}")
    if chosen.rounds is not None and chosen.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {chosen.rounds}")
    wanted = os.environ.get("EBM_LAB_DEVICE", "cpu")
    if wanted not in DEVICES:
        parser.error(f"EBM_LAB_DEVICE must be one of {', '.join(DEVICES)}, got {wanted}")
    chosen.device = torch.device(DEVICES[wanted])
    return chosen


def main(arguments: list[str]) -> int:
    """One table a section."""
    chosen = parse(arguments)
    sizes = TINY if chosen.tiny else Sizes()
    sizes = (
        sizes if chosen.rounds is None else replace(sizes, rounds=chosen.rounds, image_rounds=chosen.rounds)
    )
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")  # by torch itself, at its first jvp
    schema.register()
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(machine(chosen.device))
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        for name in chosen.sections or SECTIONS:
            console.print(SECTIONS[name](sizes, chosen.device))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
