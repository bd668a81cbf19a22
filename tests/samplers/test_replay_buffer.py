import io
import math

import pytest
import torch

from ebm_lab.errors import UserError
from ebm_lab.samplers import Langevin, ReplayBuffer, run_chains


def counting_start():
    """Starts 0, 1, 2, ...: every fresh event is told from every other."""
    count = 0

    def start(n):
        nonlocal count
        count += n
        return torch.arange(count - n, count, dtype=torch.float64).view(n, 1)

    return start


def make(size=10, restart_fraction=0.0, start=None, seed=0):
    return ReplayBuffer(
        size, start or counting_start(), restart_fraction, torch.Generator().manual_seed(seed)
    )


def test_nothing_is_drawn_before_the_first_draw():
    buffer = make()
    assert buffer.states is None and buffer.ages is None
    buffer.draw(3)
    assert buffer.states.flatten().tolist() == list(range(10)) and buffer.ages.tolist() == [0] * 10


def test_without_restarts_every_chain_comes_from_its_slot():
    buffer = make()
    for _ in range(20):
        x, slots = buffer.draw(4)
        assert len(set(slots.tolist())) == 4
        assert x.flatten().tolist() == slots.tolist()  # slot i was filled with i
    assert buffer.restarts == 0


def test_with_certain_restarts_every_chain_is_fresh():
    buffer = make(restart_fraction=1.0)
    x, slots = buffer.draw(4)
    assert x.flatten().tolist() == [10, 11, 12, 13]
    buffer.write(slots, x - 100, num_steps=5)
    x, slots = buffer.draw(4)
    assert x.flatten().tolist() == [14, 15, 16, 17] and buffer.restarts == 8
    assert buffer.ages[slots].tolist() == [0] * 4


def test_write_back_goes_to_the_drawn_slots_and_adds_age():
    buffer = make()
    x, slots = buffer.draw(4)
    before = buffer.states.clone()
    written = (x + 100).requires_grad_(True)
    buffer.write(slots, written, num_steps=7)
    others = torch.ones(10, dtype=torch.bool).index_fill(0, slots, False)
    assert torch.equal(buffer.states[slots], written.detach()) and not buffer.states.requires_grad
    assert torch.equal(buffer.states[others], before[others])
    assert buffer.ages[slots].tolist() == [7] * 4 and buffer.ages[others].tolist() == [0] * 6
    buffer.write(slots[:1], x[:1], num_steps=3)
    assert buffer.ages[slots].tolist() == [10, 7, 7, 7]


def test_a_drawn_batch_is_a_copy():
    buffer = make()
    x, slots = buffer.draw(10)
    x += 1000
    assert buffer.states.max() < 10


def test_size_equal_to_the_batch_is_persistent_contrastive_divergence():
    buffer = make(size=4)
    x, slots = buffer.draw(4)
    buffer.write(slots, x + 0.5, 1)
    x, slots = buffer.draw(4)
    assert sorted(x.flatten().tolist()) == [0.5, 1.5, 2.5, 3.5]


def test_restarts_are_binomial_and_independent_of_the_slot():
    rho, rounds, n = 0.05, 400, 50
    buffer = make(size=100, restart_fraction=rho, seed=1)
    per_round = []
    for _ in range(rounds):
        before = buffer.restarts
        x, slots = buffer.draw(n)
        buffer.write(slots, x, 1)
        per_round.append(buffer.restarts - before)
    counts = torch.tensor(per_round, dtype=torch.float64)
    variance = n * rho * (1 - rho)
    assert abs(counts.mean() - n * rho) < 4 * math.sqrt(variance / rounds)
    # A variance of 400 near-normal counts has relative SE √(2/400 (1 + 1/(2·variance))) < 0.08.
    assert abs(counts.var() / variance - 1) < 4 * 0.08
    assert buffer.restarts == counts.sum()


def test_every_slot_is_drawn_equally_often():
    buffer, counts = make(size=20, seed=2), torch.zeros(20)
    for _ in range(2000):
        counts[buffer.draw(5)[1]] += 1
    error = math.sqrt(2000 * 0.25 * 0.75)
    assert ((counts - 500).abs() < 4 * error).all()


def test_chains_reach_the_stationary_law_of_the_sampler():
    # PCD with a frozen energy: variance 1/(λ(1 - hλ/2)) = 4/3 at h = 1/2, λ = 1.
    buffer = make(size=5000, start=lambda n: torch.zeros(n, 1, dtype=torch.float64))
    generator = torch.Generator().manual_seed(3)
    for _ in range(10):
        x, slots = buffer.draw(5000)
        x = run_chains(Langevin(0.5), lambda x: x.square().sum(1) / 2, x, 3, generator).x
        buffer.write(slots, x, 3)
    assert abs(buffer.states.square().mean() / (4 / 3) - 1) < 4 * math.sqrt(2 / 5000)
    assert buffer.ages.eq(30).all()


@pytest.mark.parametrize("rounds", [0, 3])
def test_a_saved_buffer_continues_identically(rounds):
    def build():
        generator = torch.Generator().manual_seed(5)
        return ReplayBuffer(12, lambda n: torch.randn(n, 2, generator=generator), 0.3, generator)

    def play(buffer, rounds):
        for _ in range(rounds):
            x, slots = buffer.draw(6)
            buffer.write(slots, x * 0.9, 2)
        return buffer

    original, file = play(build(), rounds), io.BytesIO()
    torch.save(original.state_dict(), file)
    file.seek(0)
    resumed = build()
    resumed.draw(3)  # a state that loading has to replace
    resumed.load_state_dict(torch.load(file, weights_only=True))
    play(original, 4), play(resumed, 4)
    assert torch.equal(original.states, resumed.states) and torch.equal(original.ages, resumed.ages)
    assert original.restarts == resumed.restarts > 0
    assert torch.equal(original.draw(6)[1], resumed.draw(6)[1])


def test_a_buffer_of_another_size_is_refused():
    small = make(size=4)
    small.draw(1)
    with pytest.raises(UserError, match="has 4 chains and this one 10; set its size to 4"):
        make().load_state_dict(small.state_dict())


def test_a_draw_larger_than_the_buffer_is_refused():
    with pytest.raises(
        UserError, match="size 10 cannot give 11 distinct chains; set its size to at least 11"
    ):
        make().draw(11)


def test_a_start_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match=r"start\(10\) must give 10 events"):
        make(start=lambda n: torch.zeros(1, 2)).draw(2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": 0}, "size must be an integer, at least 1, got 0"),
        ({"size": 2.5}, "size must be an integer, at least 1, got 2.5"),
        ({"restart_fraction": 1.5}, r"restart_fraction must be in \[0, 1\], got 1.5"),
        ({"restart_fraction": -0.1}, r"restart_fraction must be in \[0, 1\], got -0.1"),
    ],
)
def test_numbers_are_checked(arguments, words):
    with pytest.raises(ValueError, match=words):
        make(**arguments)


def test_augmentation_meets_chains_that_walked_and_no_others():
    augmented = ReplayBuffer(
        10, counting_start(), 0.5, torch.Generator().manual_seed(0), augment=lambda x, generator: x + 1000
    )
    x, slots = augmented.draw(10)
    assert x.max() < 1000  # all have just been started
    augmented.write(slots, x, 1)
    x, slots = augmented.draw(10)
    walked = augmented.ages[slots] > 0
    assert torch.equal(walked, x.flatten() >= 1000) and 0 < walked.sum() < 10
    assert augmented.states.max() < 1000  # the slots are as they were
