import itertools

import pytest
import torch
from pytorch_lightning import LightningDataModule, LightningModule, Trainer

from ebm_lab.data import Batch, EvaluationLoader, IterationLoader

X = torch.arange(23.0)[:, None]
LABELS = torch.arange(23) * 10


def taken(loader, num):
    return [batch.x[:, 0].tolist() for batch in itertools.islice(loader, num)]


def noisy(x, generator):
    return x + torch.rand(x.shape, generator=generator)


def test_batch_is_a_function_of_its_index():
    loader = IterationLoader(X, LABELS, 5, seed=3, transform=noisy)
    in_order = [loader.batch(t) for t in range(12)]
    for t in (11, 2, 7, 0):
        for again in (loader.batch(t), IterationLoader(X, LABELS, 5, seed=3, transform=noisy).batch(t)):
            assert torch.equal(again.x, in_order[t].x) and torch.equal(again.label, in_order[t].label)


def test_seed_changes_order_and_transform():
    first, second = (IterationLoader(X, None, 23, seed=s, transform=noisy).batch(0).x for s in (0, 1))
    assert not torch.equal(first.floor(), second.floor())
    first, second = (IterationLoader(0 * X, None, 23, seed=s, transform=noisy).batch(0).x for s in (0, 1))
    assert not torch.equal(first, second)


def test_each_epoch_is_a_new_permutation_less_its_rest():
    batches = taken(IterationLoader(X, None, 5, seed=0), 12)
    epochs = [sum(batches[4 * e : 4 * e + 4], []) for e in range(3)]
    for epoch in epochs:
        assert len(set(epoch)) == 20 and set(epoch) <= set(range(23))
    assert epochs[0] != epochs[1] != epochs[2]


def test_every_event_is_met_over_epochs():
    counts = torch.zeros(23)
    for batch in taken(IterationLoader(X, None, 5, seed=0), 4 * 200):
        counts[torch.tensor(batch).long()] += 1
    # each epoch leaves out 3 of 23: Binomial(200, 20/23), deviation 4.8
    assert ((counts - 200 * 20 / 23).abs() < 4 * 4.8).all()


def test_labels_stay_with_their_events():
    batch = IterationLoader(X, LABELS, 7, seed=0).batch(5)
    assert torch.equal(batch.label, 10 * batch.x[:, 0].long())


def test_the_transform_is_new_in_every_iteration():
    loader = IterationLoader(0 * X, None, 23, seed=0, transform=noisy)
    assert not torch.equal(loader.batch(0).x, loader.batch(1).x)


def test_ranks_share_an_epoch_without_overlap():
    batches = [taken(IterationLoader(X, None, 3, seed=0, rank=r, world_size=2), 3) for r in (0, 1)]
    seen = sum(batches[0] + batches[1], [])
    assert len(seen) == len(set(seen)) == 18


def test_ranks_transform_differently():
    ones = torch.ones(8, 1)
    first, second = (
        IterationLoader(ones, None, 4, 0, noisy, rank=r, world_size=2).batch(0).x for r in (0, 1)
    )
    assert not torch.equal(first, second)


def test_state_names_the_next_batch_and_resumes_inside_an_epoch():
    loader = IterationLoader(X, LABELS, 5, seed=1, transform=noisy)
    whole = taken(loader, 11)
    stopped = IterationLoader(X, LABELS, 5, seed=1, transform=noisy)
    taken(stopped, 6)
    assert stopped.state_dict() == {"iteration": 6}
    resumed = IterationLoader(X, LABELS, 5, seed=1, transform=noisy)
    iterator = iter(resumed)  # Lightning makes the iterator before or after it loads the state
    resumed.load_state_dict(stopped.state_dict())
    assert taken(iterator, 5) == whole[6:]


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(
        ValueError, match=r"batch_size=12 on 2 process\(es\) exceeds the 23 events: set it to at most 11"
    ):
        IterationLoader(X, None, 12, seed=0, world_size=2)


def test_evaluation_loader_gives_everything_once_in_order():
    loader = EvaluationLoader(X, LABELS, 5)
    batches = list(loader)
    assert len(batches) == len(loader) == 5
    assert torch.equal(torch.cat([b.x for b in batches]), X)
    assert torch.equal(torch.cat([b.label for b in batches]), LABELS)


class Recorder(LightningModule):
    """Keeps what it is given and learns nothing."""

    def __init__(self):
        super().__init__()
        self.seen, self.validated = [], 0
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch, batch_idx):
        assert isinstance(batch, Batch)
        self.seen.append(batch.x[:, 0].tolist())
        return self.weight * batch.x.sum()

    def validation_step(self, batch, batch_idx):
        self.validated += len(batch.x)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


class Data(LightningDataModule):
    def train_dataloader(self):
        return IterationLoader(X, LABELS, 5, seed=1, transform=noisy)

    def val_dataloader(self):
        return EvaluationLoader(X, LABELS, 5)


def fit(folder, steps, checkpoint=None):
    module = Recorder()
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        val_check_interval=4,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=Data(), ckpt_path=checkpoint, weights_only=True)
    trainer.save_checkpoint(folder / "last.ckpt")
    return module


@pytest.mark.filterwarnings("ignore")  # of Lightning, about loaders without workers
def test_lightning_resumes_in_the_middle_of_an_epoch(tmp_path):
    whole = fit(tmp_path, 11)
    assert whole.seen == taken(Data().train_dataloader(), 11)
    assert whole.validated == 2 * len(X)
    stopped = fit(tmp_path, 6)
    resumed = fit(tmp_path, 11, tmp_path / "last.ckpt")
    assert stopped.seen + resumed.seen == whole.seen
