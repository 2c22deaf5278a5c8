"""Random streams: the published generator, laws to 5 standard errors, and independence of all that must not matter."""

import copy
import itertools
import math
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import python
from scipy import stats

from nnsim import Box, InputError, Lattice, NNSimWarning, Simulation, State
from nnsim.integrators import (
    Brownian,
    GradientDescent,
    HybridMonteCarlo,
    Langevin,
    MonteCarlo,
    NoseHoover,
    VelocityVerlet,
)
from nnsim.protocols import Integrator
from nnsim.random import philox
from nnsim.random.streams import Purpose, RandomStreams, below, mersenne_state, unit
from nnsim.systems import AnalyticSystem, Harmonic, NeuralNetwork
from nnsim.systems.initialisation import SCHEMES
from nnsim.systems.modules import mlp

NOISE, MOVE, START = Purpose.NOISE, Purpose.MOVE, Purpose.START


def normal(seed: int, walkers: int, n: int, purpose: Purpose = NOISE, step: int = 0, draw: int = 0) -> np.ndarray:
    return RandomStreams(seed).normal(purpose, (walkers, n), step=step, draw=draw).numpy()


# ---------------------------------------------------------------------- the generator

# Random123-1.14, kat_vectors: counter, key, block of philox4x32 with 10 rounds.
KNOWN = [
    ((0,) * 4, (0,) * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


@pytest.mark.parametrize(("counter", "key", "block"), KNOWN)
def test_published_blocks(counter: tuple[int, ...], key: tuple[int, ...], block: str) -> None:
    found = philox.block.py_func(*map(np.uint64, (*counter, *key)))
    assert " ".join(f"{int(word):08x}" for word in found) == block
    # The same counters as a stream: block number, walker and purpose, step and draw are its words.
    walker, purpose = counter[1] % 2**26, counter[1] // 2**26
    step, draw = counter[2] + (counter[3] % 2**16 << 32), counter[3] // 2**16
    if counter[0] == 0:
        streams = RandomStreams(key[0] + 2**32 * key[1], first_walker=walker)
        words = streams.words(Purpose(purpose), (1, 4), step=step, draw=draw)
        assert " ".join(f"{word:08x}" for word in words[0].tolist()) == block


def test_the_meaning_of_a_seed_never_changes() -> None:
    """Numbers of today, to the bit; should one differ, then no run can be repeated or resumed any more."""
    streams = RandomStreams(12345)
    words = streams.words(MOVE, (2, 2), step=7, draw=0)
    assert words.tolist() == [[3661395085, 2170231075], [2785606536, 359502383]]
    drawn = {
        "normal": streams.normal(NOISE, (1, 3), step=2**40 + 5, draw=1)[0],
        "uniform": streams.uniform(START, (1, 2))[0],
        "torch": torch.rand(2, generator=streams, dtype=torch.float64),
    }
    assert {name: [value.hex() for value in numbers.tolist()] for name, numbers in drawn.items()} == {
        "normal": ["0x1.a0e7122df313dp-1", "0x1.21c42e1154964p-1", "0x1.9a25d21a9b4bap-3"],
        "uniform": ["0x1.02065aa23efe0p-5", "0x1.2d98965ce4638p-2"],
        "torch": ["0x1.a4a2579ff0650p-4", "0x1.0111b181b25d0p-3"],
    }
    assert {purpose.name: int(purpose) for purpose in Purpose} == {
        "TORCH": 0, "START": 1, "VELOCITY": 2, "NOISE": 3, "MOVE": 4, "ORDER": 5, "SWAP": 6, "PROBE": 7,
    }  # fmt: skip


def test_numbers_do_not_depend_on_how_many_are_drawn() -> None:
    whole = normal(3, 40, 700, step=9)
    for walkers, n in ((1, 1), (40, 3), (7, 5), (3, 699), (40, 1), (2, 256), (13, 33)):
        assert np.array_equal(normal(3, walkers, n, step=9), whole[:walkers, :n]), (walkers, n)
    streams = RandomStreams(3, first_walker=11)
    assert np.array_equal(streams.normal(NOISE, (5, 700), step=9, draw=0).numpy(), whole[11:16])
    assert np.array_equal(streams.normal(NOISE, (2, 35, 20), step=9, draw=0).view(2, 700).numpy(), whole[11:13])
    single = RandomStreams(3).normal(NOISE, (40, 700), step=9, draw=0, dtype=torch.float32)
    assert np.array_equal(single.numpy(), whole.astype(np.float32))
    assert RandomStreams(3).normal(NOISE, (0, 3), step=9).shape == (0, 3)
    assert RandomStreams(3).normal(NOISE, (), step=9, draw=0).item() == whole[0, 0]


def test_every_coordinate_of_a_counter_counts() -> None:
    """Also the highest bits of each: no two of these streams have a word in common."""
    places = [
        (seed, purpose, walker, step, draw)
        for seed in (0, 1, 2**32, 2**64 - 1)
        for purpose in (NOISE, MOVE)
        for walker in (0, 1, 2**26 - 1)
        for step in (0, 1, 2**32, 2**47, 2**48 - 1)
        for draw in (0, 1, 2**16 - 1)
    ]
    rows = [
        tuple(RandomStreams(seed, first_walker=walker).words(purpose, (1, 4), step=step, draw=draw)[0].tolist())
        for seed, purpose, walker, step, draw in places
    ]
    assert len(set(rows)) == len(places)


@pytest.mark.slow
def test_the_same_numbers_in_another_process_and_on_other_threads(tmp_path: Path) -> None:
    code = (
        "import torch; torch.set_num_threads(2)\n"
        "from nnsim.random.streams import *\n"
        "s = RandomStreams(5); print(s.normal(Purpose.NOISE, (3, 100), step=4).sum().item().hex(), "
        "torch.randn(10, generator=s).sum().item().hex())"
    )
    there = python(code, tmp_path)
    streams = RandomStreams(5)
    here = streams.normal(NOISE, (3, 100), step=4).sum().item(), torch.randn(10, generator=streams).sum().item()
    assert there.out == " ".join(value.hex() for value in here) + "\n", there.err


# ---------------------------------------------------------------------- accuracy and laws


def test_normal_numbers_are_accurate() -> None:
    """Against 64 bits of mantissa: within 4e-15, a few units in the last place of the largest numbers."""
    edges = [0, 1, 2**30 - 1, 2**30, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1]
    pairs = np.array(list(itertools.product(edges, edges)), dtype=np.uint64)
    pairs = np.concatenate([pairs, RandomStreams(1).words(NOISE, (20_000, 2), step=0).numpy().astype(np.uint64)])
    found = np.array([philox.normal_pair.py_func(a, b) for a, b in pairs])
    a, b = pairs.astype(np.longdouble).T
    radius = np.sqrt(-2 * np.log((a + 0.5) / 2**32))
    angle = (b % 2**30 + 0.5) / 2**30 * (np.longdouble(np.pi) / 2)
    sign = [1 - 2 * ((pairs[:, 1] >> np.uint64(bit)) & np.uint64(1)).astype(int) for bit in (31, 30)]
    exact = np.stack([sign[0] * radius * np.cos(angle), sign[1] * radius * np.sin(angle)], 1)
    assert float(np.abs(found - exact).max()) < 4e-15
    assert np.abs(found).max() < 6.77


COUNT = 2**24


@pytest.mark.slow
def test_the_law_of_normal_numbers() -> None:
    """16.8 million: moments to 5 standard errors, 1000 classes by chi-square, Kolmogorov-Smirnov, and the tails."""
    z = normal(1, 64, COUNT // 64).ravel()
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3), (6, 15)):
        spread = math.sqrt((stats.norm.moment(2 * power) - moment**2) / COUNT)
        assert abs((z**power).mean() - moment) < 5 * spread, power
    counts = np.diff(np.searchsorted(np.sort(z), stats.norm.ppf(np.linspace(0, 1, 1001))))
    assert abs(((counts - COUNT / 1000) ** 2).sum() / (COUNT / 1000) - 999) < 5 * math.sqrt(2 * 999)
    assert stats.kstest(z[: 2**20], "norm").statistic * 2**10 < 2.7  # one of a million exceeds it
    for limit in (3.0, 4.0, 4.5, 5.0):
        for beyond in (z > limit, z < -limit):
            expected = COUNT * stats.norm.sf(limit)
            assert abs(beyond.sum() - expected) < 5 * math.sqrt(expected), limit
    radius = z.reshape(-1, 4)[:, :2]
    angle = np.arctan2(*radius.T)
    counts = np.histogram(angle, bins=512, range=(-np.pi, np.pi))[0]
    assert abs(((counts - counts.mean()) ** 2).sum() / counts.mean() - 511) < 5 * math.sqrt(2 * 511)


@pytest.mark.slow
def test_the_law_of_uniform_numbers_and_words() -> None:
    """4.2 million pairs in 64 x 64 classes by chi-square, every bit in half of the words, bounds."""
    streams = RandomStreams(2)
    u = streams.uniform(NOISE, (64, COUNT // 128), step=0).numpy()
    assert 0 <= u.min() < 1e-5
    assert 1 - 1e-5 < u.max() < 1
    counts = np.histogram2d(u[:, ::2].ravel(), u[:, 1::2].ravel(), bins=64, range=[[0, 1], [0, 1]])[0]
    assert abs(((counts - counts.mean()) ** 2).sum() / counts.mean() - 4095) < 5 * math.sqrt(2 * 4095)
    assert np.array_equal(u * 2**53, np.floor(u * 2**53))
    assert (np.floor(u * 2**53).astype(np.int64) & 1).any()  # 53 bits
    words = streams.words(NOISE, (64, COUNT // 256), step=1).numpy()
    for bit in range(32):
        assert abs(((words >> bit) & 1).mean() - 0.5) < 5 * 0.5 / words.size**0.5
    ends = torch.tensor([0, 2**32 - 1])
    assert unit(ends).tolist() == [2**-33, 1 - 2**-33]
    assert below(ends, 7).tolist() == [0, 6]
    found = streams.integers(NOISE, 3, (64, 10_000), step=2).numpy()
    for value in range(3):
        assert abs((found == value).mean() - 1 / 3) < 5 * math.sqrt(2 / 9 / found.size)


def correlated(rows: np.ndarray, limit: float) -> list[tuple[int, int]]:
    """Pairs of rows whose numbers, or their squares, are correlated by more than `limit` standard errors."""
    found = []
    for values in (rows, rows**2, np.abs(rows)):
        matrix = np.corrcoef(values) * math.sqrt(rows.shape[1])
        found += [(int(i), int(j)) for i, j in np.argwhere(np.abs(np.triu(matrix, 1)) > limit)]
    return found


@pytest.mark.slow
def test_streams_are_independent() -> None:
    """256 streams of 65536 numbers that differ in one or two coordinates: 98000 correlations, none beyond 6 sigma.

    One of them is beyond by chance once in 5000 sets. Among them are neighbouring seeds, walkers, steps, purposes and
    draws, seeds equal modulo 2^32, and walker i + 1 of seed n with walker i of seed n + 1.
    """
    n = 2**16
    seeds = [0, 1, 2, 3, 2**32, 2**32 + 1, 2**63 - 1, 2**64 - 1]
    rows = [normal(seed, 8, n) for seed in seeds]
    rows += [normal(1, 8, n, step=step) for step in (1, 2, 3, 4, 2**31, 2**32, 2**32 + 1, 2**40)]
    rows += [normal(1, 8, n, purpose=purpose) for purpose in Purpose if purpose != NOISE]
    rows += [normal(1, 8, n, step=1, draw=draw) for draw in (1, 2, 3, 255, 256, 1000, 65535)]
    rows += [normal(1, 24, n, step=10)]
    assert correlated(np.concatenate(rows), 6.0) == []


@pytest.mark.slow
def test_neighbouring_numbers_are_independent() -> None:
    """16.8 million numbers against those 1 to 8 further on in the stream, 5 standard errors."""
    z = normal(9, 1, COUNT)[0]
    for values, spread in ((z, 1.0), (z**2 - 1, 2.0)):
        for lag in range(1, 9):
            mean = values[:-lag] @ values[lag:] / COUNT
            assert abs(mean) < 5 * spread / COUNT**0.5, lag


def test_orders_are_permutations_and_every_place_is_as_likely() -> None:
    """2000 walkers of 7 points: each point at each place in a seventh, 5 standard errors."""
    streams = RandomStreams(4)
    orders = streams.orders(Purpose.ORDER, (2000, 7), step=3)
    assert bool((orders.sort(dim=1).values == torch.arange(7)).all())
    for place, point in itertools.product(range(7), range(7)):
        share = (orders[:, place] == point).double().mean()
        assert abs(share - 1 / 7) < 5 * math.sqrt(6 / 49 / 2000)
    assert torch.equal(orders[:5], streams.orders(Purpose.ORDER, (5, 7), step=3))
    assert not torch.equal(orders, streams.orders(Purpose.ORDER, (2000, 7), step=4))


# ---------------------------------------------------------------------- torch's own generator


def test_torchs_generator_takes_all_bits_of_the_seed() -> None:
    seeds = (0, 1, 2**32, 2**32 + 1, 2**63, 2**64 - 1)
    drawn = np.stack([torch.randn(2**16, generator=RandomStreams(seed)).numpy() for seed in seeds])
    assert correlated(drawn, 5.0) == []
    assert abs(drawn.mean()) < 5 / drawn.size**0.5
    assert [RandomStreams(seed).initial_seed() for seed in seeds] == list(seeds)


def test_a_state_of_torchs_generator_is_made_of_words() -> None:
    """The words of a state, put into another one, give its numbers: they lie where they are thought to."""
    known = torch.Generator().manual_seed(77)
    words = known.get_state()[24 : 24 + 8 * 624].view(torch.int64)
    assert bool(((words >= 0) & (words < 2**32)).all())
    other = torch.Generator()
    other.set_state(mersenne_state(words))
    assert torch.equal(torch.rand(2000, generator=other), torch.rand(2000, generator=known))


def test_a_plain_generator_serves_as_a_seed_and_is_advanced() -> None:
    plain = [torch.Generator().manual_seed(seed) for seed in (1, 1, 2)]
    first, same, other = (Box(1.0).uniform(3, 2, generator) for generator in plain)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert not torch.equal(first, Box(1.0).uniform(3, 2, plain[0]))
    streams = RandomStreams(1)
    assert RandomStreams.of(streams) is streams


def test_streams_can_be_copied() -> None:
    streams = RandomStreams(7, first_walker=2)
    streams.normal(Purpose.VELOCITY, (2, 3))
    for copied in (copy.copy(streams), copy.deepcopy(streams), pickle.loads(pickle.dumps(streams))):
        assert (copied.key, copied.first_walker) == (7, 2)
        again = copy.deepcopy(streams)
        assert torch.equal(copied.normal(Purpose.VELOCITY, (2, 3)), again.normal(Purpose.VELOCITY, (2, 3)))
        assert torch.equal(torch.rand(3, generator=copied), torch.rand(3, generator=again))


def test_other_devices_have_torchs_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done on a GPU, here by torch's generator on the CPU: all kinds of numbers, runs of all integrators."""
    monkeypatch.setattr(RandomStreams, "_compiled", lambda self: None)
    streams, plain = RandomStreams(3), torch.Generator().manual_seed(3)
    drawn = streams.normal(NOISE, (4, 5), step=1, dtype=torch.float32)
    assert torch.equal(drawn, torch.randn(4, 5, generator=plain))
    assert streams.uniform(START, (2, 3)).dtype == torch.float64
    words = streams.words(MOVE, (50, 4), step=1, draw=0)
    assert 0 <= int(words.min()) < 2**31 < int(words.max()) < 2**32
    assert streams.integers(MOVE, 3, (50,)).unique().tolist() == [0, 1, 2]
    assert torch.equal(streams.orders(Purpose.ORDER, (3, 7)).sort(dim=1).values, torch.arange(7).expand(3, 7))
    for make in INTEGRATORS.values():
        one, other = (harmonic(make(), 3).advance(5) for _ in range(2))
        assert torch.equal(one.state.positions, other.state.positions)
        other.load_state_dict(one.state_dict())
        assert torch.equal(one.advance(5).state.positions, other.advance(5).state.positions)
        assert not torch.equal(one.state.positions, harmonic(make(), 3, seed=2).advance(10).state.positions)


# ---------------------------------------------------------------------- draws in a step


def test_no_number_is_drawn_twice() -> None:
    """Whoever asks again, in the same step too, gets other numbers: positions, velocities, noise."""
    streams = RandomStreams(1)
    box = Box(1.0)
    drawn = [box.uniform(2, 3, streams) for _ in range(3)] + [Lattice([0.0, 1.0]).uniform(2, 3, streams)]
    assert len({tuple(one.flatten().tolist()) for one in drawn}) == 4
    q = torch.zeros(2, 3, dtype=torch.float64)
    state = State(q, q.clone(), q.clone(), q[:, 0], q[:, 0], q[:, :0], streams)
    noise = []
    for step in (0, 0, 1, 1, 2):
        state.step = step
        noise += [state.normal(q), state.normal(q), state.normal(q[0]), state.normal(q[0, 0])]
    noise += [streams.normal(NOISE, (2, 3)) for _ in range(3)]  # that belongs to no step
    numbers = torch.cat([one.flatten() for one in noise])
    assert len(set(numbers.tolist())) == len(numbers)


def test_numbers_of_no_walker_are_the_same_in_every_part_of_a_run() -> None:
    """Noise that all walkers share, in a run whose first walkers are elsewhere."""
    shared, own = [], []
    for first in (0, 2):
        q = torch.zeros(2, 3, dtype=torch.float64)
        state = State(q, q.clone(), q.clone(), q[:, 0], q[:, 0], q[:, :0], RandomStreams(1, first_walker=first))
        shared.append(state.normal(q[0]))
        own.append(state.normal(q))
    assert torch.equal(*shared)
    assert not torch.equal(*own)


def test_more_draws_in_a_step_than_can_be_told_apart_are_refused() -> None:
    streams = RandomStreams(1)
    streams.restore({**streams.draws(), "NOISE": [3, 2**16 - 1, 0]})
    streams.normal(NOISE, (1, 1), step=3)
    with pytest.raises(InputError, match="65537 draws in step 3 must be at most 65536; draw more numbers at once"):
        streams.normal(NOISE, (1, 1), step=3)
    streams.normal(NOISE, (1, 1), step=4)
    streams.restore({**streams.draws(), "VELOCITY": [0, 0, 2**16 - 1]})  # without a step there is no end
    assert not torch.equal(streams.normal(Purpose.VELOCITY, (1, 4)), streams.normal(Purpose.VELOCITY, (1, 4)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomStreams(-1), "seed = -1 must be a whole number of at least 0"),
        (lambda: RandomStreams(2**64), "seed = 18446744073709551616 must be below 2\\^64; take a smaller seed"),
        (lambda: RandomStreams(1.5), "seed = 1.5 must be a whole number"),
        (lambda: RandomStreams(1, first_walker=-1), "first_walker = -1 must be"),
        (lambda: RandomStreams(1, first_walker=2**26 - 1).words(MOVE, (2, 1)), "walkers = 67108865 must be at most"),
    ],
)
def test_bad_input(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


# ---------------------------------------------------------------------- runs

INTEGRATORS: dict[str, Callable[[], Integrator]] = {
    "langevin": lambda: Langevin(dt=0.1, friction=1.0),
    "two O in a step": lambda: Langevin(dt=0.1, friction=1.0, splitting="OBABO"),
    "brownian": lambda: Brownian(dt=0.1, friction=1.0),
    "verlet": lambda: VelocityVerlet(dt=0.1),
    "nose-hoover": lambda: NoseHoover(dt=0.1, tau=1.0),
    "hybrid": lambda: HybridMonteCarlo(dt=0.5, steps=3, refreshment=0.5),
    "moves": lambda: MonteCarlo(0.5),
    "all": lambda: MonteCarlo(0.5, move="all"),
}


def harmonic(integrator: Integrator, walkers: int, seed: int = 1) -> Simulation:
    return Simulation(AnalyticSystem(5, Harmonic(), box=Box(2.0)), integrator, walkers=walkers, seed=seed)


@pytest.mark.parametrize("make", INTEGRATORS.values(), ids=INTEGRATORS.keys())
def test_a_walker_moves_the_same_whatever_the_number_of_walkers(make: Callable[[], Integrator]) -> None:
    four, eight = (harmonic(make(), walkers).advance(50).state for walkers in (4, 8))
    assert torch.equal(four.positions, eight.positions[:4])
    assert torch.equal(four.velocities, eight.velocities[:4])
    assert len(torch.unique(eight.positions)) == eight.positions.numel()


@pytest.mark.parametrize("make", INTEGRATORS.values(), ids=INTEGRATORS.keys())
def test_every_seed_gives_another_run(make: Callable[[], Integrator]) -> None:
    """Also those that are equal modulo 2^32, consecutive ones, and the largest; the start as well as the way."""
    seeds = (0, 1, 2**32, 2**32 + 1, 2**63, 2**64 - 1)
    runs = [harmonic(make(), 2, seed) for seed in seeds]
    starts = torch.cat([run.state.positions for run in runs])
    ends = torch.cat([run.advance(20).state.positions for run in runs])
    assert len(torch.unique(starts)) == starts.numel()
    assert len(torch.unique(ends)) == ends.numel()
    assert torch.equal(harmonic(make(), 2, 2**63).advance(20).state.positions, ends[8:10])


def classifier(initial: str) -> NeuralNetwork:
    x = torch.linspace(-1, 1, 30).view(10, 3)
    box = None if initial in SCHEMES else Box(2.0)
    return NeuralNetwork(mlp((3, 4, 2)), (x, torch.arange(10) % 2), box=box, initial=initial)


@pytest.mark.parametrize("initial", ["uniform", "normal", "reinitialise", *SCHEMES])
def test_a_walker_starts_the_same_whatever_the_number_of_walkers(initial: str) -> None:
    """And differently from all others, from any other seed, and in every parameter that has a random start."""
    system = classifier(initial)
    four, eight, other = (system.initial_positions(w, RandomStreams(seed)) for w, seed in ((4, 1), (8, 1), (8, 2)))
    assert torch.equal(four, eight[:4])
    assert torch.equal(system.initial_positions(3, RandomStreams(1, first_walker=5)), eight[5:])
    random = eight.std(dim=0) > 0
    assert int(random.sum()) >= 20  # the weights, at least
    numbers = torch.cat([eight[:, random], other[:, random]])
    assert len(numbers.unique()) == numbers.numel()
    lattice = Lattice([0.0, 1.0])
    assert torch.equal(lattice.uniform(4, 50, RandomStreams(1)), lattice.uniform(8, 50, RandomStreams(1))[:4])


def test_the_order_of_an_epoch_follows_from_its_number() -> None:
    """For every number of walkers, and whatever was drawn before."""

    def order(walkers: int, steps: int) -> torch.Tensor:
        system = classifier("reinitialise")
        run = Simulation(system, GradientDescent(0.1, batch_size=3), walkers=walkers, seed=1).advance(steps)
        return run.state.integrator_state["order"]

    assert torch.equal(order(4, 9), order(8, 10)[:4])  # both in the third epoch of four batches
    assert torch.equal(order(4, 9), RandomStreams(1).orders(Purpose.ORDER, (4, 10), step=2))
    assert not torch.equal(order(4, 9), order(4, 3))


class Own(Integrator):
    """Draws noise before and after it counts the step, and from torch's generator: all of it must be restored."""

    def init(self, positions, force_field, generator):  # type: ignore[no-untyped-def]
        energy, bias_energy, cvs, forces = force_field(positions, 0)
        return State(positions, torch.zeros_like(positions), forces, energy, bias_energy, cvs, generator)

    def step(self, state, force_field):  # type: ignore[no-untyped-def]
        state.positions += 0.1 * state.normal(state.positions)
        state.step += 1
        state.positions += 0.1 * state.normal(state.positions)
        state.positions += 0.1 * torch.randn(state.positions.shape, generator=state.generator, dtype=torch.float64)
        state.energy, state.bias_energy, state.cvs, state.forces = force_field(state.positions, state.step)
        return state


def test_draws_before_and_after_a_step_is_counted_resume_to_the_bit(tmp_path: Path) -> None:
    def build() -> Simulation:
        return Simulation(AnalyticSystem(3, Harmonic(), start=0.0), Own(), walkers=2, every=1)

    whole = build().run(10, output=tmp_path / "whole.zarr", progress=False)
    build().run(5, output=tmp_path / "halves.zarr", progress=False)
    halves = build().run(10, output=tmp_path / "halves.zarr", resume=True, progress=False)
    assert torch.equal(whole.state.positions, halves.state.positions)


def test_the_state_of_an_older_version_warns_once_where_numbers_are_drawn() -> None:
    simulation = harmonic(Langevin(dt=0.1, friction=1.0), 2)
    saved = simulation.state_dict()
    del saved["state"]["draws"]
    simulation.load_state_dict(saved)
    with pytest.warns(NNSimWarning, match="begun by nnsim 0.1, which drew other random numbers") as caught:
        simulation.advance(3)
    assert len(caught) == 1
    still = harmonic(VelocityVerlet(dt=0.1), 2)
    saved = still.state_dict()
    del saved["state"]["draws"]
    still.load_state_dict(saved)
    still.advance(3)  # warns nobody, or the test would fail


def test_a_copied_simulation_goes_on_by_itself() -> None:
    one = harmonic(Langevin(dt=0.1, friction=1.0), 2).advance(5)
    other = copy.deepcopy(one)
    assert torch.equal(one.advance(5).state.positions, other.advance(5).state.positions)
