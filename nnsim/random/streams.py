"""Where every random number of a run comes from: streams by counter."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from nnsim.errors import InputError, NNSimWarning, require_integer, shown

SEEDS, WALKERS, DRAWS = 2**64, 2**26, 2**16  # how many there can be, see `nnsim.random.philox`
NO_STEP = 2**47  # and more stand for draws that belong to no step, in the place of the step
DIRECT = {torch.float64, torch.float32, torch.int64}  # what compiled code can fill


class Purpose(IntEnum):
    """What numbers are drawn for. The values are part of the counters: they never change, and none is used twice."""

    TORCH = 0  # the state of torch's own generator
    START = 1  # positions of the walkers at the start
    VELOCITY = 2  # velocities at the start, those of thermostats too
    NOISE = 3  # Langevin and Brownian dynamics, refreshed velocities, `State.normal`
    MOVE = 4  # proposals and acceptance of Monte Carlo, of hybrid Monte Carlo its time steps and acceptance
    ORDER = 5  # in which an epoch visits the train points
    SWAP = 6  # replica exchange
    PROBE = 7  # of the curvature, see `nnsim.running.step_error.meters`


class RandomStreams(torch.Generator):
    r"""Random numbers by counter: each is a function of (seed, purpose, walker, step, number of the draw in the step).

    They come from Philox4x32-10 (`nnsim.random.philox`), one function compiled for all: the same numbers on the
    reference and the native platform, for any number of threads, processes and other walkers, and after any restart. A
    walker has the same ones in a run of 4 walkers as in one of 8, and two seeds, also consecutive ones and such that
    are equal modulo 2^32, have nothing in common.

    | method | numbers | type |
    |---|---|---|
    | `normal` | mean 0, variance 1 | as asked for |
    | `uniform` | in [0, 1), 53 bits | float64 |
    | `integers` | 0 ... count - 1, each as likely | int64 |
    | `words` | 0 ... 2^32 - 1 | int64 |
    | `orders` | permutations of 0 ... N - 1 | int64 |

    Each takes a purpose and a shape [W, ...], the first axis being that of the walkers. A step and the number of a draw
    name certain numbers; without the latter it takes the next draw of the step, and without a step the next of those
    that belong to none, hence never the same numbers twice.

    It is also a generator of torch, for parts of your own that pass it on to torch's functions
    (`torch.randn(..., generator=generator)`). Those numbers follow from the seed too, all of its 64 bits, and are saved
    with the state, but depend on the order of the calls and on how many walkers there are.

    On a GPU all numbers are those of torch's generator there: as good, and as repeatable on one device, but others than
    on the CPU.

    Args:
        seed: at least 0 and below 2^64.
        device: of torch.
        first_walker: number of the walker in the first row, for a part of a larger run; rows and walkers below 2^26.

    Raises:
        InputError: a number out of its range.

    Reference: J. K. Salmon et al., SC11 (2011), doi:10.1145/2063384.2063405.

    >>> from nnsim.random.streams import Purpose, RandomStreams
    >>> streams = RandomStreams(seed=1)
    >>> eight, four = (streams.normal(Purpose.NOISE, (walkers, 3), step=7, draw=0) for walkers in (8, 4))
    >>> bool((eight[:4] == four).all())
    True
    """

    def __new__(cls, seed: int = 0, device: torch.device | str = "cpu", *, first_walker: int = 0) -> RandomStreams:
        """A generator of torch on the device."""
        try:
            return super().__new__(cls, device)  # type: ignore[call-arg]
        except (RuntimeError, TypeError):
            raise InputError(f"RandomStreams: device = {shown(device)} is not there; give 'cpu'") from None

    def __init__(self, seed: int = 0, device: torch.device | str = "cpu", *, first_walker: int = 0) -> None:
        self.first_walker = require_integer("RandomStreams", "first_walker", first_walker, least=0)
        self._older = False  # whether the run was begun by a version that drew other numbers
        self._philox = self._compiled()
        self.manual_seed(seed)

    def _compiled(self) -> ModuleType | None:
        """Compiled code, which takes a while to load; there is none for GPUs."""
        if self.device.type != "cpu":
            return None
        from nnsim.random import philox

        return philox

    @classmethod
    def of(cls, generator: torch.Generator) -> RandomStreams:
        """The generator itself if it is one of these, or else a new one with a seed drawn from it."""
        if isinstance(generator, cls):
            return generator
        if not isinstance(generator, torch.Generator):
            raise InputError(f"RandomStreams: generator = {shown(generator)} must be one of torch; give one")
        drawn = torch.randint(-(2**63), 2**63 - 1, (1,), generator=generator, device=generator.device)
        return cls(int(drawn) % SEEDS, generator.device)

    def manual_seed(self, seed: int) -> RandomStreams:
        """Begin anew with a seed."""
        self._take(require_seed("RandomStreams", seed))
        super().manual_seed(self.key)
        if self._philox is not None:  # of the seed torch itself takes 32 bits only
            self.set_state(mersenne_state(self.words(Purpose.TORCH, (1, MERSENNE), step=0, draw=0)[0], self.key))
        return self

    def _take(self, seed: int) -> None:
        """Take a seed, of which nothing is drawn yet."""
        self.key = seed
        self._signed_key = seed - SEEDS if seed >= SEEDS // 2 else seed  # as compiled code takes it
        self._draws = [[0, 0, 0] for _ in Purpose]  # of each purpose: a step, the draws in it, and those in none so far

    def __reduce__(self) -> Any:
        return _restored, (self.device, self.first_walker, self.get_state(), self.draws(), self._older)

    # ------------------------------------------------------------------ numbers

    def normal(
        self,
        purpose: Purpose,
        shape: tuple[int, ...],
        *,
        step: int | None = None,
        draw: int | None = None,
        dtype: torch.dtype = torch.float64,
        first: int | None = None,
    ) -> Tensor:
        """Independent unit normal numbers, [W, ...], within +-6.77; of walkers from number `first` on, if given."""
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise InputError(f"RandomStreams: dtype = {shown(dtype)} must be a floating type; give torch.float64")
        place = self._place(purpose, step, draw)
        if self._philox is None:
            return torch.randn(shape, generator=self, device=self.device, dtype=dtype)
        return self._fill(self._philox.NORMAL, purpose, shape, place, dtype, first)

    def uniform(
        self, purpose: Purpose, shape: tuple[int, ...], *, step: int | None = None, draw: int | None = None
    ) -> Tensor:
        """Numbers uniform in [0, 1), [W, ...], float64, multiples of 2^-53."""
        place = self._place(purpose, step, draw)
        if self._philox is None:
            return torch.rand(shape, generator=self, device=self.device, dtype=torch.float64)
        return self._fill(self._philox.UNIFORM, purpose, shape, place, torch.float64)

    def words(
        self, purpose: Purpose, shape: tuple[int, ...], *, step: int | None = None, draw: int | None = None
    ) -> Tensor:
        """Whole numbers from 0 to 2^32 - 1, [W, ...], int64: the blocks of Philox as they are."""
        place = self._place(purpose, step, draw)
        if self._philox is None:
            return torch.randint(2**32, shape, generator=self, device=self.device)
        return self._fill(self._philox.WORDS, purpose, shape, place, torch.int64)

    def integers(
        self,
        purpose: Purpose,
        count: int,
        shape: tuple[int, ...],
        *,
        step: int | None = None,
        draw: int | None = None,
    ) -> Tensor:
        """Whole numbers from 0 to count - 1 < 2^31, [W, ...]; their probabilities differ by 2^-32 at most."""
        if require_integer("RandomStreams", "count", count, least=1) > 2**31:
            raise InputError(f"RandomStreams: count = {count} must be at most 2^31; make it of two draws")
        return below(self.words(purpose, shape, step=step, draw=draw), count)

    def orders(self, purpose: Purpose, shape: tuple[int, int], *, step: int | None = None) -> Tensor:
        """A permutation of 0 ... N - 1 for each walker, [W, N]."""
        if len(shape) != 2:
            raise InputError(f"RandomStreams: shape = {shown(shape)} must be [W, N]; change shape")
        return self.uniform(purpose, shape, step=step, draw=0 if step is not None else None).argsort(dim=1, stable=True)

    def _fill(
        self,
        kind: int,
        purpose: Purpose,
        shape: tuple[int, ...],
        place: tuple[int, int],
        dtype: torch.dtype,
        first: int | None = None,
    ) -> Tensor:
        if dtype not in DIRECT:
            return self._fill(kind, purpose, shape, place, torch.float32, first).to(dtype)
        assert self._philox is not None
        # torch's own memory, whose alignment is always the same: sums over it may depend on that
        out = torch.empty(_whole(shape), dtype=dtype, device="cpu")
        if not out.numel():
            return out
        flat = (out if len(shape) == 2 else out.view(shape[0] if shape else 1, -1)).numpy()
        first = self.first_walker if first is None else require_integer("RandomStreams", "first", first, least=0)
        if first + len(flat) > WALKERS:
            raise InputError(f"RandomStreams: walkers = {first + len(flat)} must be at most 2^26; take fewer")
        self._philox.fill(flat, kind, self._signed_key, first + WALKERS * purpose, *place)
        return out

    # ------------------------------------------------------------------ counters

    def _place(self, purpose: Purpose, step: int | None, draw: int | None) -> tuple[int, int]:
        """Step and draw of a counter, after the next draw was taken where none is given."""
        if self._older:
            self.warn_older()
        if not isinstance(purpose, Purpose):
            listed = ", ".join(one.name for one in Purpose)
            raise InputError(f"RandomStreams: purpose = {shown(purpose)} must be a Purpose; choose one of {listed}")
        if step is not None:
            step = _below("step", step, 2 * NO_STEP)
        if draw is not None:
            draw = _below("draw", draw, DRAWS)
            if step is None:
                raise InputError(f"RandomStreams: draw = {draw} is one of a step; give step=, too, or leave draw out")
            return step, draw
        before = self._draws[purpose]
        if step is None:
            before[2] += 1
            return NO_STEP + (before[2] - 1) // DRAWS, (before[2] - 1) % DRAWS
        if step != before[0]:
            before[:2] = step, 0
        draw = before[1]
        before[1] += 1
        if draw >= DRAWS:
            raise InputError(
                f"RandomStreams: {draw + 1} draws in step {step} must be at most {DRAWS}; draw more numbers at once"
            )
        return step, draw

    def taken(self, purpose: Purpose, step: int, draws: int) -> None:
        """Count so many draws in a step that compiled code has made itself, so that later ones are others."""
        self.warn_older()
        if draws:
            self._draws[purpose][:2] = step, draws

    def draws(self) -> dict[str, Any]:
        """What must be saved, beside the state of torch's generator: the seed, and the number of draws so far."""
        return {"seed": self.key, **{purpose.name: list(self._draws[purpose]) for purpose in Purpose}}

    def restore(self, draws: dict[str, Any] | None) -> None:
        """Take over what `draws` gave; None is that of a version that had no counters, see `warn_older`."""
        self._older = draws is None
        if draws is not None:
            self._take(int(draws["seed"]))
            for purpose in Purpose:
                self._draws[purpose] = [int(number) for number in draws[purpose.name]]

    def warn_older(self) -> None:
        """Warn once, at the first draw, that a run which an older version began goes on with other random numbers."""
        if not self._older:
            return
        self._older = False
        warnings.warn(
            "this run was begun by nnsim 0.1, which drew other random numbers from its seed: it goes on as well, but "
            "not with the bits that it would have had there",
            NNSimWarning,
            stacklevel=3,
        )


def _below(name: str, value: int, limit: int) -> int:
    """A part of a counter; beyond its place it would change the others, and with them which numbers are drawn."""
    number = value if type(value) is int and value >= 0 else require_integer("RandomStreams", name, value, least=0)
    if number >= limit:
        raise InputError(f"RandomStreams: {name} = {number} must be below {limit}; change {name}")
    return number


def _whole(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape, after checking that it is one."""
    if not isinstance(shape, Sequence) or any(not isinstance(one, int) or one < 0 for one in shape):
        raise InputError(f"RandomStreams: shape = {shown(shape)} must be whole numbers (W, ...); change shape")
    return shape


def _restored(
    device: torch.device, first_walker: int, state: Tensor, draws: dict[str, Any], older: bool
) -> RandomStreams:
    """A copy, of what `RandomStreams.__reduce__` gave."""
    streams = RandomStreams(draws["seed"], device, first_walker=first_walker)
    streams.set_state(state)
    streams.restore(draws)
    streams._older = older
    return streams


@contextmanager
def undisturbed() -> Iterator[None]:
    """Leave Python's own generator as it is, although something is imported that draws from it, as rich does."""
    before = random.getstate()
    try:
        yield
    finally:
        random.setstate(before)


def require_seed(owner: str, seed: object) -> int:
    """Return the seed, or raise `InputError` unless it is a whole number from 0 to 2^64 - 1."""
    return require_integer(owner, "seed", seed, least=0)


# --------------------------------------------------------------- from words to numbers, as in `nnsim.random.philox`


def unit(words: Tensor) -> Tensor:
    """(word + 1/2) / 2^32, float64: in (0, 1), and symmetric about 1/2."""
    return (words.double() + 0.5) * 2.0**-32


def below(words: Tensor, count: int) -> Tensor:
    """Whole numbers from 0 to count - 1 < 2^31, from words."""
    return (words * count) >> 32


MERSENNE = 624  # words in the state of the Mersenne twister, which is torch's generator on a CPU
_HEADER = 24  # bytes before them: a seed and its place in the sequence


def mersenne_state(words: Tensor, seed: int = 0) -> Tensor:
    """A state of torch's generator on the CPU, as `set_state` takes it, made of words [624].

    torch's `manual_seed` uses the last 32 bits of a seed only; `seed` is what `initial_seed` will tell.
    """
    state = torch.Generator().manual_seed(seed).get_state()
    inside = state[_HEADER : _HEADER + 8 * MERSENNE].view(torch.int64)
    inside.copy_(words)
    return state
