"""The lab's own classifier: it tells the classes of samples, and they are compared in its features."""

import hashlib
import math
import pickle
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ebm_lab.data import InMemoryData
from ebm_lab.data.seeding import seeded_generator
from ebm_lab.errors import UserError
from ebm_lab.evaluation.measurement import Measurement, mean_and_error
from ebm_lab.run_folder import replace_durably

FEATURES = "features of ebm_lab's own classifier"
SEED = 50909  # of its weights and batches, the same whatever the run's seed
ITERATIONS, BATCH_SIZE, LEARNING_RATE = 1500, 128, 2e-3  # half a minute on MNIST and one core
NUM_FEATURES = 64
CHUNK = 1024


class Classifier(nn.Module):
    """Two 3×3 convolutions, each with a pooling, and two linear maps: pixels -> logits of the classes.

    It reads pixels as a picture shows them: what lies beyond [-1, 1] is taken as ±1.

    Args:
        shape: (channels, height, width) of one image.
        num_classes: number of classes.
    """

    def __init__(self, shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        channels, height, width = shape
        self.trunk = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True),
            nn.Flatten(),
            nn.Linear(32 * math.ceil(height / 4) * math.ceil(width / 4), NUM_FEATURES), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(NUM_FEATURES, num_classes)

    def forward(self, pixels: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch classes"]:
        """Logits."""
        return self.head(self.trunk(pixels.clamp(-1, 1)))

    @torch.no_grad()
    def features(self, pixels: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch features"]:
        """The layer before the logits, in float64."""
        return torch.cat([self.trunk(chunk.clamp(-1, 1)).double() for chunk in pixels.split(CHUNK)])

    @torch.no_grad()
    def classes(self, pixels: Float[Tensor, "batch *shape"]) -> Int[Tensor, " batch"]:
        """The most likely class of each image."""
        return torch.cat([self(chunk).argmax(1) for chunk in pixels.split(CHUNK)])


def train_classifier(
    pixels: Float[Tensor, "num *shape"],
    labels: Int[Tensor, " num"],
    num_classes: int,
    iterations: int = ITERATIONS,
) -> Classifier:
    """Cross entropy by Adam at a rate that falls to 0, on seeded batches: the same data, the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        classifier = Classifier(tuple(pixels.shape[1:]), num_classes)
    generator = seeded_generator(SEED)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    for _ in range(iterations):
        rows = torch.randint(len(pixels), (BATCH_SIZE,), generator=generator)
        loss = F.cross_entropy(classifier(pixels[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return classifier.eval().requires_grad_(False)


def classifier_of(data: InMemoryData, name: str, root: str | Path) -> Classifier:
    """The classifier of a labelled data set: read from `<root>/classifiers/`, or trained and written there.

    The file's name holds a digest of the training data and of how the classifier is trained, so that other
    data, or another version of the classifier, have a file of their own.

    Raises:
        UserError: when the file is damaged.
    """
    pixels = data.pixels(data.train_x)
    path = (
        Path(root).expanduser()
        / "classifiers"
        / f"{name}-{_digest(pixels, data.train_labels, data.num_classes)}.pt"
    )
    if path.exists():
        return _read(path, data.shape, data.num_classes)
    classifier = train_classifier(pixels, data.train_labels, data.num_classes)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    torch.save(classifier.state_dict(), temporary)
    replace_durably(temporary, path)
    return classifier


def accuracy(classifier: Classifier, data: InMemoryData) -> Measurement:
    """Share of the test events that it classifies right: what every number that uses it can be trusted to."""
    right = (classifier.classes(data.pixels(data.test_x)) == data.test_labels).double()
    value, error = mean_and_error(right)
    note = f"of ebm_lab's own classifier on {len(right)} test events"
    return Measurement("classifier_accuracy", value, error, "", note)


def _digest(pixels: Tensor, labels: Tensor, num_classes: int) -> str:
    constants = (SEED, ITERATIONS, BATCH_SIZE, LEARNING_RATE, NUM_FEATURES, num_classes, tuple(pixels.shape))
    found = hashlib.sha256(repr(constants).encode())
    for tensor in (pixels, labels):
        found.update(tensor.contiguous().numpy().data)
    return found.hexdigest()[:16]


def _read(path: Path, shape: tuple[int, ...], num_classes: int) -> Classifier:
    classifier = Classifier(shape, num_classes)
    try:
        classifier.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (RuntimeError, OSError, EOFError, TypeError, AttributeError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{path} is cut short or damaged ({type(error).__name__}): delete it, and it is trained again"
        ) from error
    return classifier.eval().requires_grad_(False)
