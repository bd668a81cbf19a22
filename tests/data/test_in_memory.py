import itertools
import math
from types import SimpleNamespace

import pytest
import torch

from ebm_lab.data import Batch, InMemoryData, Logit, Splits, dequantise, in_memory
from ebm_lab.data.splits import split_at_random, split_official
from ebm_lab.errors import UserError


class Given(InMemoryData):
    """Data as a test hands them in."""

    def __init__(self, train, *, labels=None, **kwargs):
        defaults = {"shape": train.shape[1:], "batch_size": 4, "order_seed": 0, "domain": "real"}
        super().__init__(**(defaults | kwargs))
        self.given, self.labels, self.loads = train, labels, 0

    def load(self):
        self.loads += 1
        train = Batch(self.given, self.labels)
        return Splits(
            train, Batch(self.given[:3], self.labels), Batch(self.given[:2], self.labels), "the test"
        )


LEVELS = torch.arange(24).remainder(5).view(12, 2)


def test_setup_loads_once():
    data = Given(torch.arange(24.0).view(12, 2))
    data.setup()
    x = data.train_x
    data.setup("fit")
    assert data.loads == 1 and data.train_x is x
    assert (data.train_labels, data.num_classes) == (None, None)
    assert data.log_jacobian_to_levels(x).tolist() == [0.0] * 12


def test_data_go_to_the_trainers_device_and_ranks_share_them():
    data = Given(LEVELS.repeat(2, 1), levels=5, domain="image")
    data.trainer = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device("meta")), global_rank=1, world_size=2
    )
    data.setup()
    assert {t.device.type for t in (data.train_x, data.val_x, data.test_x, data._train_source)} == {"meta"}


def test_loader_takes_rank_and_seed():
    data = Given(torch.arange(24.0).view(12, 2), order_seed=7)
    data.trainer = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device("cpu")), global_rank=1, world_size=2
    )
    data.setup()
    loader = data.train_dataloader()
    assert (loader.rank, loader.world_size, loader.seed) == (1, 2, 7)


def test_training_batches_are_dequantised_anew_and_held_out_data_once():
    data = Given(LEVELS, levels=5, domain="image", batch_size=12)
    data.setup()
    first, second = (b.x for b in itertools.islice(data.train_dataloader(), 2))
    floor = lambda x: ((x + 1) / 2 * 5).floor().flatten().sort().values  # noqa: E731
    assert not torch.equal(first.sort(0).values, second.sort(0).values)
    for x in (first, second, data.train_x):
        assert torch.equal(floor(x), LEVELS.float().flatten().sort().values)
    again = Given(LEVELS, levels=5, domain="image", order_seed=9)
    again.setup()
    assert torch.equal(data.val_x, again.val_x) and torch.equal(data.train_x, again.train_x)
    assert not torch.equal(data.train_x[:2], data.test_x)
    to_levels = data.log_jacobian_to_levels(data.test_x)
    assert to_levels.tolist() == pytest.approx([2 * math.log(5 / 2)] * 2)


def test_dequantised_data_fill_their_bins_evenly():
    data = Given(torch.zeros(20_000, 1), levels=4, domain="image", batch_size=20_000)
    data.setup()
    low, high = dequantise(torch.zeros(2), 4, torch.tensor([0.0, 1.0])).tolist()
    x = next(iter(data.train_dataloader())).x
    error = (high - low) / math.sqrt(12 * len(x))
    assert low <= x.min() and x.max() <= high
    assert abs(float(x.mean()) - (low + high) / 2) < 4 * error


def test_data_own_their_transform():
    data = Given(LEVELS, levels=5, domain="image", batch_size=12, transform=Logit(0.05))
    plain = Given(LEVELS, levels=5, domain="image", batch_size=12)
    data.setup()
    plain.setup()
    for split in ("train_x", "val_x", "test_x"):
        torch.testing.assert_close(data.pixels(getattr(data, split)), getattr(plain, split))
    y, x = (next(iter(d.train_dataloader())).x for d in (data, plain))
    torch.testing.assert_close(data.pixels(y), x)
    assert torch.equal(plain.pixels(x), x)


def test_jacobian_to_levels_is_that_of_the_whole_way_from_levels_to_events():
    """dy/dk of k -> x -> y, against autograd."""
    data = Given(LEVELS, levels=5, domain="image", transform=Logit(0.05))
    k, u = LEVELS.double(), torch.full((12, 2), 0.3, dtype=torch.float64)
    y = data.transform.forward(dequantise(k, 5, u))
    for event, noise, log_jac in zip(k, u, data.log_jacobian_to_levels(y), strict=True):
        way = lambda k, u=noise: data.transform.forward(dequantise(k, 5, u))  # noqa: E731
        jacobian = torch.autograd.functional.jacobian(way, event)
        assert float(log_jac) == pytest.approx(-float(torch.linalg.slogdet(jacobian).logabsdet), rel=1e-10)


def test_a_transform_needs_levels():
    with pytest.raises(ValueError, match="transform belongs to data with levels"):
        Given(torch.zeros(8, 2), transform=Logit(0.05))


def test_events_are_drawn_in_chunks_as_they_would_be_at_once(monkeypatch):
    whole, chunked = (Given(LEVELS, levels=5, domain="image") for _ in range(2))
    whole.setup()
    monkeypatch.setattr(in_memory, "CHUNK", 5)  # of 12 events
    chunked.setup()
    assert torch.equal(whole.train_x, chunked.train_x)


class Marked(Given):
    """Adds its level to every training event."""

    def augment(self, loaded, generator):
        return loaded + self.levels


def test_only_training_batches_are_augmented():
    data = Marked(LEVELS, levels=5, domain="image")
    data.setup()
    assert float(next(iter(data.train_dataloader())).x.min()) >= 1
    assert max(float(x.max()) for x in (data.train_x, data.val_x, data.test_x)) < 1


def test_classes_are_counted():
    data = Given(torch.zeros(3, 2), labels=torch.tensor([0, 4, 1]), batch_size=3)
    data.setup()
    assert data.num_classes == 5 and data.train_labels.tolist() == [0, 4, 1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Given(torch.zeros(8, 3), shape=(2,)), r"train split of the test has events of shape \[3\]"),
        (
            lambda: Given(torch.tensor([[math.nan, 1.0], [math.inf, 0.0]]), batch_size=1),
            "the train split of the test has 1 NaN and 1 infinite values of 4",
        ),
        (
            lambda: Given(torch.full((4, 1), 1e300, dtype=torch.float64)),
            "0 NaN and 4 infinite",
        ),
        (lambda: Given(torch.zeros(3, 2)), "data.batch_size=4 on 1 .* exceeds the 3 training .* at most 3"),
        (
            lambda: Given(LEVELS, levels=4, domain="image"),
            "integers from 0 to 3 and holds numbers from 0 to 4",
        ),
        (lambda: Given(LEVELS / 2, levels=4, domain="image"), "must hold integers from 0 to 3"),
        (lambda: Given(LEVELS - 1, levels=9, domain="image"), "holds numbers from -1 to 3"),
    ],
)
def test_data_that_do_not_fit_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make().setup()


def test_bytes_use_all_256_levels():
    data = Given(torch.arange(256, dtype=torch.uint8).view(-1, 1), levels=256, domain="image")
    data.setup()
    assert torch.equal(((data.train_x + 1) / 2 * 256).floor()[:, 0], torch.arange(256.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be an integer, at least 1, got 0"),
        ({"order_seed": -1}, "order_seed must be an integer, at least 0, got -1"),
        (
            {"domain": "images"},
            "binary, categorical, got 'images'",
        ),
        ({"levels": 1}, "levels must be an integer, at least 2, got 1"),
        ({"shape": []}, "shape must name at least one axis"),
        ({"shape": [0]}, "every axis of shape must be an integer, at least 1, got 0"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Given(torch.zeros(8, 2), **arguments)


def test_random_splits_are_disjoint_and_fixed():
    events = Batch(torch.arange(20)[:, None], torch.arange(20))
    splits = split_at_random(events, 3, 4, 5, "numbers")
    rows = [s.x[:, 0].tolist() for _, s in splits.named()]
    assert [len(r) for r in rows] == [13, 3, 4]
    assert sorted(sum(rows, [])) == list(range(20))
    assert all(torch.equal(s.x[:, 0], s.label) for _, s in splits.named())
    assert torch.equal(split_at_random(events, 3, 4, 5, "numbers").test.x, splits.test.x)
    assert not torch.equal(split_at_random(events, 3, 4, 6, "numbers").test.x, splits.test.x)


def test_the_official_test_part_stays_whole():
    train, test = Batch(torch.arange(20)[:, None], torch.arange(20)), Batch(torch.arange(20, 25)[:, None])
    splits = split_official(train, test, 6, 5, "numbers")
    kept, held_out = splits.train.x[:, 0].tolist(), splits.val.x[:, 0].tolist()
    assert (len(kept), len(held_out)) == (14, 6) and sorted(kept + held_out) == list(range(20))
    assert splits.test is test
    assert torch.equal(splits.val.x[:, 0], splits.val.label)
    assert torch.equal(split_official(train, test, 6, 5, "numbers").val.x, splits.val.x)
    assert not torch.equal(split_official(train, test, 6, 6, "numbers").val.x, splits.val.x)


def test_validation_events_must_leave_some_to_train_on():
    train = Batch(torch.zeros(4, 1))
    with pytest.raises(UserError, match="numbers has 4 training events to take data.num_val=4 from"):
        split_official(train, train, 4, 0, "numbers")


def test_too_few_events_to_split():
    with pytest.raises(UserError, match="numbers has 4 events, too few to split"):
        split_at_random(Batch(torch.zeros(4, 1)), 2, 2, 0, "numbers")
