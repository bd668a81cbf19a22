"""Numbers and pictures of a trained run, beyond those that every run ends with: of images, and its log Z."""

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from ebm_lab import cli
from ebm_lab.binding import check_bindings
from ebm_lab.building import Run, load_run, refusals
from ebm_lab.data import InMemoryData
from ebm_lab.domains import DISCRETE
from ebm_lab.energies import Energy
from ebm_lab.errors import UserError
from ebm_lab.evaluation import Measurement, evaluate_in_chunks, median_bandwidths, mmd, plots, to_json
from ebm_lab.evaluation.classifier import FEATURES, Classifier, accuracy, classifier_of
from ebm_lab.evaluation.fid import inception_distances, require_extra
from ebm_lab.evaluation.images import (
    class_frequencies,
    frechet_between,
    nearer_than_held_out,
    nearest_neighbours,
    num_covered,
    paired_picture,
    share_error,
)
from ebm_lab.evaluation.likelihood import ask, by_learned_constant, of_model
from ebm_lab.evaluation.log_z import LogZ
from ebm_lab.evaluation.long_run import Look, fate, look_at, saturated_share
from ebm_lab.evaluation.measurement import mean_and_error
from ebm_lab.evaluation.ood import auroc, energy_scores
from ebm_lab.run_folder import RunFolder, write_atomically
from ebm_lab.samplers import run_chains

log = logging.getLogger("ebm_lab")

FEWEST = 20  # events that the jackknife and the quantiles of the comparisons need
SHOWN = 36  # samples in a picture


@dataclass
class Subject:
    """What is evaluated, and with what.

    Attributes:
        draws: of the law that the model learned, noise included where it learned noised data.
        x: the samples that are made of them.
        pixels: the same as a picture shows them.
        classifier: None where the data have no labels.
    """

    run: Run
    draws: Tensor
    x: Tensor
    pixels: Tensor
    classifier: Classifier | None
    generator: torch.Generator
    pictures: Path

    def num_classes_of(self, pixels: Tensor) -> int | None:
        """Number of classes that the classifier finds among images."""
        if self.classifier is None:
            return None
        return num_covered(class_frequencies(self.classifier.classes(pixels), self.run.data.num_classes))


def evaluate(cfg: DictConfig) -> None:
    """Measure a run's samples and energy and write `evaluation.json` and `samples/evaluation_*.png`.

    Of a run that is not of images, only log Z and what follows from it are measured, where asked for.

    Raises:
        UserError: for a run that cannot be loaded, or is not of images while no log Z is asked for; numbers
            out of range, a question that needs an energy where there is none, data of another shape, or a
            missing extra.
        FloatingPointError: when samples or energies are not finite.
    """
    _check_numbers(cfg)
    check_bindings(cfg)
    estimator = None if cfg.log_z is None else instantiate(cfg.log_z, _convert_="all")
    run = load_run(cfg.run, cfg.checkpoint)
    _check_run(cfg, run)
    folder = RunFolder(cfg.run)
    found = ([], []) if not _is_of_pictures(run) else _of_images(cfg, run, folder)
    by_log_z = ([], []) if estimator is None else _likelihood(estimator, run, cfg.seed)
    measurements, notes = (first + second for first, second in zip(by_log_z, found, strict=True))
    write_atomically(folder.evaluation, _as_json(cfg, run, measurements, notes).encode())
    for measurement in measurements:
        log.info("%s: %.4g%s", measurement.name, measurement.value, _error(measurement))
    for note in notes:
        log.info("%s", note)
    log.info("numbers: %s", folder.evaluation)


def _likelihood(estimator: LogZ, run: Run, seed: int) -> tuple[list[Measurement], list[str]]:
    """log Z from both sides, and the likelihood of the test events where it may be claimed."""
    if not isinstance(run.energy, Energy):
        raise UserError("this run trained a score network: there is no energy, leave log_z out")
    log.info("log Z by %s", type(estimator).__name__)
    generator = torch.Generator().manual_seed(seed)
    objective = run.objective
    with objective.uncounted(), objective.drawing_from(generator):
        x = objective.corrupted(run.data.test_x)
        bracket, notes = ask(estimator, objective, run.energy, run.data, x, generator)
    measurements = [] if bracket is None else list(of_model(bracket, objective, run.energy, run.data, x))
    return [*measurements, *by_learned_constant(objective, run.energy, run.data, x)], notes


def _of_images(cfg: DictConfig, run: Run, folder: RunFolder) -> tuple[list[Measurement], list[str]]:
    """All that is measured and drawn of images."""
    outside = None if cfg.ood is None else other_data(cfg.ood, run)
    generator = torch.Generator().manual_seed(cfg.seed)
    classifier = _classifier(run, folder)
    num_steps = run.num_steps if cfg.num_steps is None else cfg.num_steps
    log.info("drawing %d samples", cfg.num_samples)
    draws = run.objective.walk(cfg.num_samples, run.sampler, num_steps, generator)
    x = run.objective.jump(draws)
    if not (draws.isfinite().all() and x.isfinite().all()):
        raise FloatingPointError("the chains that draw the samples have left the numbers")
    for old in folder.samples.glob("evaluation_*.png"):  # of an earlier evaluation
        old.unlink()
    subject = Subject(run, draws, x, run.data.pixels(x), classifier, generator, folder.samples)
    return _measure(cfg, subject, outside)


def _check_numbers(cfg: DictConfig) -> None:
    if cfg.num_samples < FEWEST or (cfg.num_steps is not None and cfg.num_steps < 1) or cfg.long_run < 0:
        raise UserError(
            f"evaluate.py needs num_samples >= {FEWEST}, num_steps >= 1 and long_run >= 0, got "
            f"{cfg.num_samples}, {cfg.num_steps} and {cfg.long_run}"
        )
    if cfg.fid:
        require_extra()


def _is_of_pictures(run: Run) -> bool:
    shape = run.data.shape
    return len(shape) == 3 and shape[0] in (1, 3) and run.data.domain in ("image", "binary")


def _check_run(cfg: DictConfig, run: Run) -> None:
    if not _is_of_pictures(run):
        if cfg.log_z is not None and not (cfg.ood or cfg.long_run or cfg.fid):
            return
        raise UserError(
            f"evaluate.py measures images of 1 or 3 channels, these are {run.data.domain} data of shape "
            f"{list(run.data.shape)}: results.json in the run's folder holds what is known of them, and "
            "log_z=ais alone estimates their log Z"
        )
    if min(len(run.data.val_x), len(run.data.test_x)) < FEWEST:
        raise UserError(f"evaluate.py needs {FEWEST} validation and {FEWEST} test events: hold out more data")
    asked = [key for key in ("ood", "long_run") if cfg[key]]
    if asked and not isinstance(run.energy, Energy):
        raise UserError(f"this run trained a score network: there is no energy, leave {asked[0]} out")


def other_data(name: str, run: Run) -> InMemoryData:
    """An option of the group data, built as its YAML says, from the run's folder of data sets.

    Raises:
        UserError: when there is no such option, its data cannot be read, or they do not fit the run's.
    """
    options = {file.stem: OmegaConf.load(file) for file in sorted((cli.CONFIGS / "data").glob("*.yaml"))}
    complete = {stem: node for stem, node in options.items() if _is_of_images(node)}
    if name not in complete:
        raise UserError(f"ood={name} is not an option: ood is one of {', '.join(complete)}")
    node = complete[name]
    del node["defaults"]
    if "root" in node:
        node.root = str(data_root(run))
    data = instantiate(OmegaConf.create({"data": node, "seed": 0}).data, _convert_="all")
    if data.shape != run.data.shape or data.domain != run.data.domain:
        raise UserError(
            f"ood={name} is {data.domain} data of shape {list(data.shape)}, the run's are {run.data.domain} "
            f"data of shape {list(run.data.shape)}: choose data of the same kind and shape"
        )
    with refusals("ood"):
        data.setup()
    return data


def _is_of_images(node: DictConfig) -> bool:
    """Whether a data set's YAML states the shape of an image, and leaves nothing for the user to say."""
    written = OmegaConf.to_container(node)
    shape = written.get("shape")
    return isinstance(shape, list) and len(shape) == 3 and "???" not in written.values()


def data_root(run: Run) -> Path:
    """The folder of data sets that the run reads."""
    return Path(run.config.data.get("root") or os.environ.get("EBM_LAB_DATA", "data")).expanduser()


def _classifier(run: Run, folder: RunFolder) -> Classifier | None:
    if run.data.num_classes is None:
        return None
    name = folder.read_about()["choices"].get("data", type(run.data).__name__.lower())
    log.info("classifier: read from, or trained once for, %s", data_root(run) / "classifiers")
    return classifier_of(run.data, name, data_root(run))


def _measure(
    cfg: DictConfig, subject: Subject, outside: InMemoryData | None
) -> tuple[list[Measurement], list[str]]:
    measurements: list[Measurement] = []
    notes: list[str] = []
    if subject.classifier is None:
        notes.append("The data have no labels: there are no class frequencies and no feature distances.")
    else:
        measurements += _by_classifier(subject)
    measurements += _memorisation(subject)
    if outside is not None:
        measurements += _ood(subject, outside, cfg.ood)
    if cfg.long_run:
        found, sentence = _long_run(subject, cfg.long_run)
        measurements += found
        notes.append(sentence)
    if cfg.fid:
        log.info("Inception features, some 0.2 s an image")
        test = subject.run.data.pixels(subject.run.data.test_x[: len(subject.x)])
        measurements += inception_distances(subject.pixels, test)
    return measurements, notes


def _by_classifier(subject: Subject) -> Iterator[Measurement]:
    """Accuracy, distances in features at one number of events, and what classes the samples have."""
    data, classifier = subject.run.data, subject.classifier
    yield accuracy(classifier, data)
    num = min(len(subject.x), len(data.test_x), len(data.val_x))
    test = classifier.features(data.pixels(data.test_x[:num]))
    validation = classifier.features(data.pixels(data.val_x[:num]))
    features = classifier.features(subject.pixels[:num])
    for suffix, compared, who in (("", features, "samples"), ("_data", validation, "validation events")):
        note = f"of {num} {who} to as many test events, {FEATURES}"
        value, error = frechet_between(compared, test)
        biased = "biased upwards, compare at the same number; jackknife error"
        yield Measurement(f"frechet{suffix}", value, error, "", f"{note}; {biased}")
        value, error = mmd(compared, test, *median_bandwidths(test))
        yield Measurement(f"mmd_features{suffix}", value, error, "", f"MMD² {note}")
    yield from _classes(subject.pixels, subject, "samples", "")
    frequencies = class_frequencies(data.test_labels, data.num_classes)
    yield Measurement("num_classes_data", num_covered(frequencies), None, "", "the same of the test labels")


def _classes(pixels: Tensor, subject: Subject, who: str, suffix: str) -> Iterator[Measurement]:
    """How many classes hold more than a fifth of an even share, and the share of each."""
    num_classes = subject.run.data.num_classes
    frequencies = class_frequencies(subject.classifier.classes(pixels), num_classes)
    note = f"of {num_classes}, with more than {20 / num_classes:.3g} % of {len(pixels)} {who}"
    yield Measurement(
        f"num_classes{suffix}", num_covered(frequencies), None, "", f"{note}, by the classifier"
    )
    for number, share in enumerate(frequencies.tolist()):
        note = f"share of the {who}, by the classifier"
        yield Measurement(f"class_{number}{suffix}", share, share_error(share, len(pixels)), "", note)


def _memorisation(subject: Subject) -> Iterator[Measurement]:
    """Distances to the nearest training image, of samples and of as many held-out images; with a picture."""
    data = subject.run.data
    train = data.pixels(data.train_x)
    held_out = nearest_neighbours(data.pixels(data.test_x[: len(subject.x)]), train).distance
    found = nearest_neighbours(subject.pixels, train)
    for name, distances, who in (("", found.distance, "samples"), ("_data", held_out, "test events")):
        value, error = mean_and_error(distances)
        note = f"mean distance of {len(distances)} {who} to the nearest training event, pixels in [-1, 1]"
        yield Measurement(f"neighbour_distance{name}", value, error, "", note)
    value, error = nearer_than_held_out(found.distance, held_out)
    note = "share of samples nearer to training data than all but 1 % of test events; .01 if none is a copy"
    yield Measurement("nearer_than_held_out", value, error, "", note)
    figure = paired_picture(subject.pixels[:SHOWN], train[found.index[:SHOWN]])
    log.info("picture: %s", plots.save(figure, subject.pictures / "evaluation_neighbours.png"))


def _ood(subject: Subject, outside: InMemoryData, name: str) -> Iterator[Measurement]:
    """AUROC of the test set against another data set's, mapped into the space in which the model lives."""
    data = subject.run.data
    other = _in_the_space_of(data, outside)
    ours, theirs = (energy_scores(subject.run.energy, x) for x in (data.test_x, other))
    formulas = {"energy": "-E(x)", "gradient": "-‖∇E(x)‖"}
    if data.domain in DISCRETE:
        del formulas["gradient"]
    for key, formula in formulas.items():
        value, error = auroc(ours[key], theirs[key])
        note = (
            f"by {formula}, {len(data.test_x)} test events against {len(other)} of {name}; .5 is chance, "
            "below it the others score higher; DeLong's error"
        )
        yield Measurement(f"auroc_{key}", value, error, "", note)


def _in_the_space_of(data: InMemoryData, outside: InMemoryData) -> Tensor:
    """The other data's test events as a model of `data` sees them, whatever transform either has."""
    if data.domain == "binary":
        return outside.test_x
    pixels = outside.pixels(outside.test_x)
    return pixels if data.transform is None else data.transform.forward(pixels)


def _long_run(subject: Subject, num_steps: int) -> tuple[list[Measurement], str]:
    """Go on with the run's kernel from the samples, and say what became of them."""
    run = subject.run
    log.info("long run: %d more steps of %d chains", num_steps, len(subject.x))
    x = run_chains(run.sampler, run.energy, subject.draws, num_steps, subject.generator).x
    pixels = run.data.pixels(run.objective.jump(x))
    before, after = _look(subject, subject.draws, subject.pixels), _look(subject, x, pixels)
    of_data = saturated_share(run.data.pixels(run.data.test_x))
    word, why = fate(before, after, of_data)
    kernel = type(run.sampler).__name__
    sentence = f"After {num_steps} more steps of {kernel} the long-run chain {word}: {why}."
    measurements = [
        *_energies(subject, x, sentence),
        Measurement(
            "saturated_before", before.saturated, None, "", "share of pixels with |x| > .99, samples"
        ),
        Measurement("saturated_after", after.saturated, None, "", "the same after the long run"),
        Measurement("saturated_data", of_data, None, "", "the same of the test events"),
        Measurement("spread_before", before.spread, None, "", "r.m.s. deviation of a pixel over the samples"),
        Measurement("spread_after", after.spread, None, "", "the same after the long run"),
    ]
    if subject.classifier is not None:
        measurements += _classes(pixels, subject, "chains after the long run", "_after")
    _save_before_and_after(subject, pixels)
    return measurements, sentence


def _energies(subject: Subject, x: Tensor, sentence: str) -> Iterator[Measurement]:
    for name, events, note in (
        ("before", subject.draws, "mean E of the chains that make the samples"),
        ("after", x, sentence),
    ):
        value, error = mean_and_error(evaluate_in_chunks(subject.run.energy, events, chunk_size=512))
        yield Measurement(f"energy_{name}", value, error, "nats", note)


def _save_before_and_after(subject: Subject, pixels: Tensor) -> None:
    """Rows of samples, and under each row the same chains after the long run."""
    figure = paired_picture(subject.pixels[:SHOWN], pixels[:SHOWN])
    path = plots.save(figure, subject.pictures / "evaluation_long_run.png")
    log.info("picture, samples and under them the same chains after the long run: %s", path)


def _look(subject: Subject, x: Tensor, pixels: Tensor) -> Look:
    energies = evaluate_in_chunks(subject.run.energy, x, chunk_size=512)
    return look_at(pixels, energies, subject.num_classes_of(pixels))


def _as_json(cfg: DictConfig, run: Run, measurements: list[Measurement], notes: list[str]) -> str:
    """The measurements as in results.json, and under further keys how they were made and what to know."""
    settings = {k: v for k, v in OmegaConf.to_container(cfg, resolve=True).items() if k != "run"}
    content = json.loads(to_json(measurements)) | {
        "settings": settings | {"iteration": run.objective.iteration},
        "notes": notes,
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _error(measurement: Measurement) -> str:
    return "" if measurement.error is None else f" ± {measurement.error:.2g}"
