"""The benchmark's arithmetic on a clock of its own, and that every section runs; no time is asserted."""

import importlib.util
import math
from pathlib import Path

import pytest
import torch

from ebm_lab.energies import MLP
from ebm_lab.samplers import HMC, Langevin, run_chains

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "benchmark.py"
SPEC = importlib.util.spec_from_file_location("benchmark", SCRIPT)
benchmark = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(benchmark)


class Clock:
    """Time passes only when a contestant says so."""

    def __init__(self):
        self.now = 0.0
        self.order = []

    def __call__(self):
        return self.now

    def contestant(self, name, seconds, units=1):
        def run():
            self.now += seconds
            self.order.append(name)

        return benchmark.Contestant(run, units)


@pytest.fixture
def fake_clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(benchmark, "clock", made)
    return made


def test_spread_is_the_median_and_the_interpolated_quartiles():
    assert benchmark.spread([5.0, 1.0, 2.0, 4.0, 3.0]) == (3.0, 2.0, 4.0)
    assert benchmark.spread([1.0, 2.0]) == (1.5, 1.25, 1.75)
    assert benchmark.spread([7.0]) == (7.0, 7.0, 7.0)


def test_ratio_is_taken_within_each_round():
    """A slow round doubles both: the ratio knows nothing of it, the ratio of medians would."""
    assert benchmark.ratio([3.0, 6.0, 30.0], [1.0, 2.0, 10.0]) == (3.0, 3.0, 3.0)
    assert benchmark.ratio([1.0, 20.0, 3.0], [1.0, 10.0, 1.0]).median == 2.0


def test_time_is_per_unit_of_work(fake_clock):
    """4 calls of 6 s and 3 units: 2 s per unit."""
    assert benchmark.timed(fake_clock.contestant("a", 6.0, units=3), calls=4) == 2.0
    assert fake_clock.order == ["a"] * 4


def test_short_calls_are_repeated_until_a_turn_is_long_enough(fake_clock):
    """A turn of 1 s holds 8 calls of 1/8 s, whatever they count as, and one call of 5 s."""
    assert benchmark.calls_for(fake_clock.contestant("a", 0.125, units=5), seconds=1.0) == 8
    assert benchmark.calls_for(fake_clock.contestant("a", 5.0), seconds=1.0) == 1


def test_contestants_take_turns_in_a_shuffled_order_that_repeats(fake_clock):
    contestants = {"a": fake_clock.contestant("a", 1.0), "b": fake_clock.contestant("b", 4.0, units=2)}
    sizes = benchmark.Sizes(rounds=20, seconds=0.0)
    orders = []
    for _ in range(2):
        fake_clock.order.clear()
        times = benchmark.interleave(contestants, sizes)
        orders.append(fake_clock.order[-40:])
        assert times == {"a": [1.0] * 20, "b": [2.0] * 20}
    rounds = [tuple(orders[0][i : i + 2]) for i in range(0, 40, 2)]
    assert set(rounds) == {("a", "b"), ("b", "a")}
    assert orders[0] == orders[1]


def test_the_trainer_and_the_bare_step_take_turns(fake_clock):
    """Iterations of 3 s against bare steps of 2 s: the first block is warm-up, no time is paid twice."""
    turns = benchmark.TakesTurns(fake_clock.contestant("bare", 2.0), rounds=10, block=4)

    class Module:
        iteration = 0

    for _ in range(11 * 4):
        fake_clock.now += 3.0
        Module.iteration += 1
        turns.on_train_batch_end(None, Module, None, None, 0)
    assert turns.times == {"lab": [3.0] * 10, "bare": [2.0] * 10}
    assert len(fake_clock.order) == 11 * 4


def test_the_bare_loop_is_the_same_chain_as_the_lab_s():
    """Like is compared with like: the same draws give the same events, bit for bit."""
    energy = MLP((2,), width=8).double()
    x = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    by_hand = benchmark.bare_langevin(energy.network, x, 7, 0.01, torch.Generator().manual_seed(2))
    by_lab = run_chains(Langevin(0.01), energy, x, 7, torch.Generator().manual_seed(2)).x
    assert torch.equal(by_hand, by_lab)
    assert not torch.equal(by_hand, x)


def test_chains_are_counted_in_evaluations_of_the_energy():
    """HMC: 3 steps of 5 leapfrogs and the start are 16; the counting leaves no hook behind."""
    energy = MLP((2,), width=4)
    contestant = benchmark.lab_chains(HMC(0.01, 5), energy, torch.zeros(2, 2), 3, torch.Generator())
    assert contestant.units == 16
    assert not energy._forward_pre_hooks


def test_gradients_are_fresh_in_every_call():
    """d/dw of w · 3 is 3 after any number of calls."""
    w = torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
    for _ in range(2):
        benchmark.gradient(lambda: w * 3, [w])
        assert w.grad == 3


def test_both_loaders_give_batches_of_one_shape():
    x = torch.arange(40.0).view(20, 2)
    single = benchmark.DataLoader(benchmark.SingleEvents(x, None), 4, shuffle=True, drop_last=True)
    batches = benchmark.endless(single, torch.device("cpu"))
    epoch = torch.cat([next(batches) for _ in range(5)])
    assert torch.equal(epoch.sort(0).values, x)
    assert next(batches).shape == (4, 2)


@pytest.mark.parametrize("section", ["kernels", "loader", "step"])
def test_a_section_prints_its_table_alone(section, capsys):
    assert benchmark.main([section, "--tiny"]) == 0
    printed = capsys.readouterr().out
    assert "torch" in printed and "1 thread" in printed
    assert [name for name in benchmark.SECTIONS if f"{name}: " in printed] == [section]


def test_losses_have_a_row_for_every_objective_at_both_sizes(capsys, monkeypatch):
    """For two of them here; `objectives` names them all."""
    assert set(benchmark.objectives()) >= {"cd", "dsm", "nce", "pcd"}
    monkeypatch.setattr(benchmark, "objectives", lambda: ["dsm", "pcd"])
    assert benchmark.main(["losses", "--tiny", "--rounds", "1"]) == 0
    rows = [line.split()[1::2][:3] for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert rows == [["mlp", "8", "dsm"], ["mlp", "8", "pcd"], ["conv", "4", "dsm"], ["conv", "4", "pcd"]]


def test_scores_have_a_row_for_every_method_and_every_mode():
    """The two that go through layers have a sentence in the place of numbers on images."""
    benchmark.schema.register()
    sizes = benchmark.replace(benchmark.TINY, image_rounds=1)
    with benchmark.hydra.initialize_config_dir(str(benchmark.CONFIGS), version_base="1.3"):
        table = benchmark.scores(sizes, torch.device("cpu"))
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    exact = ["score_matching", benchmark.FORWARD, benchmark.LOOP]
    chunked = [*exact, benchmark.CHUNKED]
    common = ["energy alone", *benchmark.SCORE_OBJECTIVES, benchmark.SLICED_FORWARD, *chunked[1:]]
    of_points = [*common, "explicit_score_matching", "multiscale_dsm"]
    expected = {
        "conv": common,
        "mlp, 20": of_points,
        "mlp, 18": of_points,
        "mlp of levels, 18": ["energy alone", "ncsn", "score_sde", "dual_score_matching", "diffclf"],
        "mlp, 18 nonnegative": ["energy alone", "nonnegative_score_matching"],
        "mlp, 18 unit": ["energy alone", "unit_score_matching"],
        "mlp, 16 bits": ["energy alone", "ratio_matching"],
        "narrow mlp, 2": ["energy alone", *exact],
        "narrow mlp, 10": ["energy alone", *exact],
        "conv, 8 x 8": ["energy alone", *chunked],
    }
    found = sorted((network, name) for network, name, *_ in rows)
    assert found == sorted((network, name) for network, names in expected.items() for name in names)
    refused = [(network, name) for network, name, milliseconds, *_ in rows if not milliseconds]
    assert refused == [("conv", "curvature_propagation"), ("conv", "approximate_diagonal")]
    compared = [name for _, name, *_, note in rows if "times as fast as" in note]
    assert compared == ["fd_dsm", "ssm", "fd_ssm", "score_matching"] * 3 + ["score_matching"] * 3


def test_the_fastest_rival_is_the_measure():
    times = {"score_matching": [2.0, 4.0], benchmark.FORWARD: [5.0, 10.0], benchmark.LOOP: [3.0, 6.0]}
    note = benchmark.against_rivals("score_matching", times)
    assert note == f"1.50 \\[1.50, 1.50] times as fast as {benchmark.LOOP}: ok (>= 0.95)"
    assert "0.60" in benchmark.against_rivals("score_matching", times | {benchmark.FORWARD: [1.2, 2.4]})
    assert "MISSED" in benchmark.against_rivals("fd_dsm", {"fd_dsm": [1.0, 1.0], "dsm": [1.3, 1.3]})
    slower = {"ssm": [2.0, 2.0], benchmark.SLICED_FORWARD: [1.0, 1.0]}
    assert benchmark.against_rivals("ssm", slower).endswith(benchmark.SLICED_FORWARD)  # no target
    assert benchmark.against_rivals("dsm", {"dsm": [1.0, 1.0], "fd_dsm": [1.0, 1.0]}) == ""


@pytest.mark.parametrize("network", [["data=gaussian", "data.dim=20", "energy.width=5"], ["data=digits"]])
@pytest.mark.parametrize("objective", ["ssm", "score_matching"])
def test_every_mode_has_the_loss_and_the_gradient_of_the_lab_s(objective, network):
    """Noise and directions from the same draws, in float64; on 20 features the last chunk is a short one."""
    benchmark.schema.register()
    noise = ["objective.sigma=0.3", "logger=none"]
    with benchmark.hydra.initialize_config_dir(str(benchmark.CONFIGS), version_base="1.3"):
        built = benchmark.built_on(torch.device("cpu"), objective, [*network, *noise])
    method = built.objective.double()
    batch = benchmark.Batch(built.data.val_x[:3].double())
    parameters = [p for p in method.energy.parameters() if p.requires_grad]

    def loss_and_gradient(loss):
        with method.drawing_from(torch.Generator().manual_seed(0)):
            value = loss(batch)
        gradients = torch.autograd.grad(value, parameters, allow_unused=True)
        return value, [
            torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True)
        ]

    expected = loss_and_gradient(method.loss)
    assert max(g.abs().max() for g in expected[1]) > 1e-3
    ways = benchmark.by_hand(objective, method)
    assert len(ways) == {"ssm": 1, "score_matching": 3}[objective]
    for way, loss in ways.items():
        torch.testing.assert_close(loss_and_gradient(loss), expected, rtol=1e-9, atol=1e-11, msg=way)


def test_peak_memory_is_what_a_call_holds_at_once():
    """Two tensors of 4 MB, of which one is freed before a third of 2 MB comes: 8 MB."""

    def run():
        first, second = torch.empty(1_000_000), torch.empty(1_000_000)
        del first
        return second, torch.empty(500_000)

    assert benchmark.peak_memory(run, torch.device("cpu")) == pytest.approx(8.0, rel=0.01)


def test_losses_say_why_the_lab_refuses_a_pair():
    """Denoising score matching needs a smooth network: a sentence in place of numbers."""
    benchmark.schema.register()
    overrides = ["logger=none", "energy.activation=relu", "data.num_train=256"]
    with benchmark.hydra.initialize_config_dir(str(benchmark.CONFIGS), version_base="1.3"):
        cells = benchmark.time_loss("dsm", overrides, benchmark.TINY, torch.device("cpu"))
    assert cells[:3] == ["", "", ""]
    assert "smooth activation" in cells[3]


@pytest.mark.parametrize(
    ("arguments", "device", "sentence"),
    [
        (["kernel"], "cpu", "there is no section kernel: choose from kernels, losses, scores, loader, step"),
        (["--rounds", "0"], "cpu", "--rounds must be at least 1, got 0"),
        (["kernels"], "abacus", "EBM_LAB_DEVICE must be one of cpu, gpu, cuda, auto, got abacus"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(arguments, device, sentence, monkeypatch, capsys):
    monkeypatch.setenv("EBM_LAB_DEVICE", device)
    with pytest.raises(SystemExit) as stopped:
        benchmark.main(arguments)
    assert stopped.value.code == 2
    assert sentence in capsys.readouterr().err


def test_numbers_are_shown_as_median_and_quartiles():
    assert benchmark.Spread(0.0015, 0.001, 0.002).show(1e3, digits=2) == "1.50 \\[1.00, 2.00]"
    assert math.isclose(benchmark.ratio([2.0], [4.0]).median, 0.5)
