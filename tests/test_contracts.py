"""What every config and every objective owes the others; a new YAML joins by existing."""

import hydra
import pytest
import torch
from hydra.utils import get_class
from omegaconf import OmegaConf
from pytorch_lightning import Trainer

from ebm_lab import schema
from ebm_lab.binding import check_bindings
from ebm_lab.building import build
from ebm_lab.callbacks import Budget
from ebm_lab.cli import CONFIGS
from ebm_lab.energies import Energy
from ebm_lab.errors import UserError
from ebm_lab.objectives import KnownTruth, Objective

DATA = {
    "eight_gaussians": ["data=eight_gaussians", "data.num_train=100", "data.num_val=20", "data.num_test=20"],
    "gaussian": ["data=gaussian", "data.dim=3", "data.num_train=100", "data.num_val=20", "data.num_test=20"],
    "gaussian_classes": [
        "data=gaussian_classes", "data.num_train=100", "data.num_val=20", "data.num_test=20"
    ],
    "digits": ["data=digits"],
    "nonnegative": ["data=nonnegative", "data.num_train=100", "data.num_val=20", "data.num_test=20"],
    "unit": ["data=unit", "data.num_train=100", "data.num_val=20", "data.num_test=20"],
    "boltzmann": ["data=boltzmann", "data.num_train=100", "data.num_val=20", "data.num_test=20"],
}  # fmt: skip
DOMAINS = {
    "digits": "image",
    "boltzmann": "binary",
    "nonnegative": "nonnegative",
    "unit": "unit",
}  # of the others: real
LABELLED = {"gaussian_classes", "digits"}
OF_UNKNOWN_DENSITY = {"digits"}
ANSWERING = ("gaussian_classes", "nonnegative", "unit", "boltzmann")
NEEDS_A_FILE = {"npz", "folder", "tabular", "adbench"}


def options(group: str) -> list[str]:
    return sorted(f.stem for f in (CONFIGS / group).glob("*.yaml"))


def method_of(objective: str) -> type[Objective]:
    return get_class(OmegaConf.load(CONFIGS / "objective" / f"{objective}.yaml")._target_)


def compose(*overrides: str):
    schema.register()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose("train", overrides=["logger=none", *overrides])


GROUPS = [
    "energy",
    "noise",
    "sampler",
    "optimizer",
    "evaluation",
    "objective",
    "trainer",
    "callbacks",
    "debug",
]
EVERY = [(group, option) for group in GROUPS for option in options(group)]


@pytest.mark.parametrize(("group", "option"), EVERY, ids=[f"{g}={o}" for g, o in EVERY])
def test_every_option_composes_and_binds(group, option):
    images = option == "convnet" or "images" in option
    cfg = compose(f"{group}={option}", "data=digits" if images else "data=eight_gaussians", "output_dir=x")
    OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    check_bindings(cfg)


@pytest.mark.parametrize("name", [d for d in options("data") if d not in NEEDS_A_FILE])
def test_every_data_set_composes_binds_and_takes_every_objective(name):
    for objective in options("objective"):
        cfg = compose(f"data={name}", f"objective={objective}", "output_dir=x")
        OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
        check_bindings(cfg)


def recipe_parts(name: str) -> list:
    """A recipe and before it those that it shares, as deep as they go."""
    recipe = OmegaConf.load(CONFIGS / "recipe" / f"{name}.yaml")
    shared = [other for other in recipe.pop("defaults", []) if other != "_self_"]
    return [part for other in shared for part in recipe_parts(other)] + [recipe]


@pytest.mark.parametrize("name", options("recipe"))
def test_every_recipe_is_of_a_pair_and_is_used(name):
    objective = next(o for o in options("objective") if name.startswith(f"{o}_"))
    data = name.removeprefix(f"{objective}_")
    assert data in options("data")
    cfg = compose(f"objective={objective}", f"data={data}", "output_dir=x")
    assert OmegaConf.merge(cfg, *recipe_parts(name)) == cfg


def take_steps(cfg, iterations: int = 2):
    built = build(cfg)
    trainer = Trainer(
        accelerator="cpu", max_epochs=-1, logger=False, enable_checkpointing=False, limit_val_batches=0,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[Budget(iterations=iterations)],
    )  # fmt: skip
    trainer.fit(built.objective, datamodule=built.data)
    return built


def refusal(objective: str, data: str) -> str | None:
    """The words in which an objective refuses data; None where it accepts them."""
    method = method_of(objective)
    if DOMAINS.get(data, "real") not in method.domains:
        return f"trains on .* data, these are {DOMAINS.get(data, 'real')}"
    if method.needs_labels and data not in LABELLED:
        return "learns from labels, and these data have none: choose data=digits"
    if method.needs_density and data in OF_UNKNOWN_DENSITY:
        return "learns from the density of the data, and that of these is not known: choose data=gaussian"
    return None


PAIRS = [(objective, data) for objective in options("objective") for data in DATA]
ACCEPTED = [pair for pair in PAIRS if refusal(*pair) is None]


@pytest.mark.parametrize(("objective", "data"), [pair for pair in PAIRS if pair not in ACCEPTED])
def test_other_kinds_of_data_are_refused(objective, data):
    with pytest.raises(UserError, match=refusal(objective, data)):
        build(compose(f"objective={objective}", *DATA[data], "data.batch_size=16"))


@pytest.mark.parametrize(("objective", "data"), ACCEPTED)
def test_every_objective_steps_on_every_kind_of_data_that_it_accepts(objective, data):
    cfg = compose(f"objective={objective}", *DATA[data], "data.batch_size=16")
    before = {k: v.clone() for k, v in build(cfg).objective.state_dict().items()}
    built = take_steps(cfg)
    after = built.objective.state_dict()
    may_wait = {
        parameter
        for player in built.objective.players().values()
        for parameter in player.module.parameters()
        if player.only_while is not None
    }
    learning = {n for n, p in built.objective.named_parameters() if p.requires_grad and p not in may_wait}
    still = {n for n in learning if torch.equal(before[n], after[n])}
    # An additive constant of the energy has no gradient, or one that cancels: its bias alone may stay.
    assert still <= {n for n in learning if ".network." in n and before[n].numel() == 1}
    assert built.objective.iteration == 2
    assert built.objective.training and all(p.requires_grad for p in built.objective.parameters())
    # The same seed gives the same weights, another seed does not.
    again = take_steps(cfg).objective.state_dict()
    assert all(torch.equal(after[k], again[k]) for k in after)
    cfg.seed = 1
    other = take_steps(cfg).objective.state_dict()
    assert any(not torch.equal(after[k], other[k]) for k in after)


@pytest.mark.parametrize(("objective", "data"), [p for p in ACCEPTED if p[1] in ANSWERING])
def test_every_objective_leaves_a_model_that_answers(objective, data):
    built = build(compose(f"objective={objective}", *DATA[data], "data.batch_size=16"))
    for parameter in built.objective.energy.parameters():  # a closed form may start flat
        torch.nn.init.normal_(parameter, std=0.1) if not parameter.any() else None
    method, generator = built.objective, torch.Generator().manual_seed(0)
    model = method.model()
    assert isinstance(model, Energy)
    x = built.data.val_x
    gradients = [p.grad for p in method.parameters()]
    samples = method.generate(4, built.evaluation.kernel, 2, generator)
    torch.testing.assert_close(
        samples, method.generate(4, built.evaluation.kernel, 2, torch.Generator().manual_seed(0))
    )
    assert not samples.requires_grad
    assert [p.grad for p in method.parameters()] == gradients
    # log p is defined up to a constant: the model tells events apart
    assert model(x).detach().std() > 0
    evaluations = method.energy_evaluations
    built.evaluation.num_samples, built.evaluation.num_steps, built.evaluation.grid_points = 8, 2, 61
    built.evaluation(method, built.data)
    assert method.energy_evaluations == evaluations


PROBLEMS = [
    (objective, truth) for objective in options("objective") for truth in method_of(objective).truths()
]


def compose_truth(objective: str, truth: type[KnownTruth], *overrides: str):
    """The objective on the smallest of a closed-form problem."""
    posed, own = truth.posed(truth.sizes[0]), method_of(objective).truth_overrides
    return compose(*posed, *own, f"objective={objective}", *overrides)


@pytest.mark.parametrize(("objective", "truth"), PROBLEMS)
def test_every_objective_knows_its_truths_by_the_names_of_what_it_learns(objective, truth):
    built = build(compose_truth(objective, truth, "data.num_train=2000", "data.batch_size=16"))
    truth = truth.of(built.data)
    assert built.objective.known_truth(truth).keys() == built.objective.learned(truth).keys()


@pytest.mark.parametrize(("objective", "truth"), PROBLEMS)
def test_truth_is_stationary_and_nothing_else_is(objective, truth):
    """Gradients averaged over batches vanish at the known truth, and not at 0.7 or 1.4 times it.

    In the direction of `Objective.place`, in standard errors: |z| < 4 at the truth is one false alarm in
    16 000, and a wrong sign or factor moves z by tens. A loss whose every event is stationary there leaves
    rounding alone, which is told from a slope by its size beside that at 1.4.
    """
    cfg = compose_truth(objective, truth, "data.num_train=40000", "data.batch_size=1000")
    slopes = {factor: _slope_and_error(cfg, truth, factor) for factor in (0.7, 1.0, 1.4)}
    rounding = 1e-10 * abs(slopes[1.4][0])
    scores = {factor: slope / max(error, rounding) for factor, (slope, error) in slopes.items()}
    assert abs(scores[1.0]) < 4, scores
    assert scores[0.7] < -5, scores
    assert scores[1.4] > 5, scores


def _slope_and_error(cfg, truth: type[KnownTruth], factor: float) -> tuple[float, float]:
    """Mean of the loss's slope along `place`'s direction, and its standard error, over batches."""
    built = build(cfg)
    method = built.objective.double()
    direction = method.place(truth.of(built.data), factor)
    loss_of = method.players()["energy"].loss
    loader, slopes = iter(built.data.train_dataloader()), []
    for _ in range(24):
        batch = next(loader)
        batch = batch._replace(x=batch.x.double())
        loss = loss_of(batch)
        for _ in range(11 if method.chain_state() and not slopes else 0):
            loss = loss_of(batch)  # persistent chains must forget where they started
        gradients = torch.autograd.grad(loss, list(direction))
        slopes.append(sum((g * t).sum() for g, t in zip(gradients, direction.values(), strict=True)))
    slopes = torch.stack(slopes)
    return float(slopes.mean()), float(slopes.std() / len(slopes) ** 0.5)
