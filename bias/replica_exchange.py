"""Replica exchange: walkers at a ladder of inverse temperatures that they swap among each other."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnsim.bias.boltzmann import Boltzmann
from nnsim.criteria import FEWEST_TRIPS
from nnsim.errors import InputError, require_each, require_integer, shown
from nnsim.protocols import CollectiveVariable, Integrator
from nnsim.random.streams import Purpose, RandomStreams
from nnsim.schedules import BiasFunction

AS_GIVEN = 0.2  # share of the given ladder's spacing in that of the pilot run
PILOT_ROUNDS = 5  # the pilot run spaces the ladder anew after 1/16, 1/8, 1/4, 1/2 and all of its steps


class ReplicaExchange(Boltzmann):
    r"""V = kT beta s, with a beta for each walker that it swaps with others: parallel tempering on U = beta s.

        V_w(s) / kT = beta_r s                     r = r(w) the rung of walker w
        accept a swap of walkers on rungs k, k + 1 with probability min(1, exp((beta_k - beta_k+1) (s_k - s_k+1)))

    Every `every` steps neighbours are offered a swap, by turns the pairs (0, 1), (2, 3), ... and (1, 2), (3, 4), ...
    For s the train loss L the walkers on rung k sample exp(-beta_k L) on the box. A walker that is stuck at a high beta
    comes back to it by way of the low ones, where it moves freely: the number of such round trips tells whether a run
    is long enough. MBAR then gives S(ln L) and averages from all rungs: `nnsim.analysis.profile`.

    Walkers swap beta and keep their positions, so that trajectories are continuous; forces are computed anew after a
    swap. W walkers on K rungs make W / K independent ladders, walkers 0 to K - 1 the first.

    A swap changes beta at once, but `Langevin` keeps velocities, and `Brownian` of Leimkuhler and Matthews half of its
    noise, of the steps before, which belong to the old beta: `every` must be longer than they remember, 10 steps and
    more. At every = 1 mean energies of 0.92 to 1.08 times the exact ones have been measured, at every = 20 the exact
    ones. Monte Carlo remembers nothing.

    Where the rungs need time steps of their own, `each` makes one that follows the rung of a walker.

    The pilot run spaces the rungs so that all pairs reject alike, keeping the lowest and the highest: with r_k the
    mean rejection of pair k, the barrier Lambda(beta) = sum of r_k up to beta is interpolated, and the rungs go to
    equal steps of it. A fifth of the rungs stays spread as in the given ladder, in case that the pilot run has not come
    to equilibrium at high beta and rejects too little there. The number of round trips is best with about 2 Lambda + 1
    rungs, which swap half of the time; Lambda is logged at the end of the pilot run, which belongs to no average.

    Args:
        cv: the collective variable s, such as `cv.Loss("train")`.
        beta: of the K rungs, ascending, per unit of the CV, at least 2; the spacing is only the start if there is a
            pilot run. The lowest should leave the walkers free (0 is the flat prior).
        every: steps from one round of swaps to the next, at least 1; of a dynamics 10 and more (see above).
        pilot: length of the pilot run in steps, at least 0, rounded up to a multiple of `every`, so that all later
            steps belong to the final ladder; 0 leaves the ladder as it is.
        kT: the temperature of the dynamics, above 0.
        name: name of the bias.

    Attributes:
        ladder: beta of each rung, [K].
        rung: the rung of each walker, [W].
        round_trips: from rung 0 to the highest and back, of each walker, since the pilot run, [W].

    Raises:
        InputError: no CV, a number out of its range, a ladder that does not ascend, or a number of walkers that is no
            multiple of the number of rungs.

    Reference: R. H. Swendsen and J.-S. Wang, Phys. Rev. Lett. 57, 2607 (1986), doi:10.1103/PhysRevLett.57.2607; the
    order of swaps and the spacing: S. Syed, A. Bouchard-Cote, G. Deligiannidis and A. Doucet, J. R. Stat. Soc. B 84,
    321 (2022), doi:10.1111/rssb.12464, algorithms 1 and 4.

    >>> from nnsim import cv
    >>> from nnsim.bias import ReplicaExchange
    >>> bias = ReplicaExchange(cv.Loss("train"), [0, 1, 3, 10, 30, 100], every=50, pilot=10_000)  # 6, 12, ... walkers
    """

    formula = "ladder"
    native = "exchange"  # for native platforms
    every: int

    def __init__(
        self,
        cv: CollectiveVariable,
        beta: Sequence[float],
        *,
        every: int = 100,
        pilot: int = 0,
        kT: float = 1.0,
        name: str = "replica_exchange",
    ) -> None:
        super().__init__(cv, beta, kT=kT, name=name)
        rising = all(low < high for low, high in zip(self.beta, self.beta[1:], strict=False))
        if len(self.beta) < 2 or not rising:
            raise InputError(
                f"ReplicaExchange: beta = {shown(beta)} must be at least 2 ascending numbers; sort them, give each once"
            )
        self.every = require_integer("ReplicaExchange", "every", every, least=1)
        self.pilot = require_integer("ReplicaExchange", "pilot", pilot, least=0)
        if 0 < self.pilot < PILOT_ROUNDS * 2**PILOT_ROUNDS * self.every:
            least = PILOT_ROUNDS * 2**PILOT_ROUNDS * self.every
            raise InputError(
                f"ReplicaExchange: pilot = {self.pilot} must be 0 or at least {least} steps at every = {self.every}, "
                "to tell how often pairs swap; make it longer"
            )
        self.pilot = -(-self.pilot // self.every) * self.every  # it ends with a round of swaps
        self._generator: RandomStreams | None = None
        self._numbers: list[OfRung] = []  # of the rungs, which are saved with the ladder
        self._reset()

    def respace(self, beta: Sequence[float]) -> None:
        """Put other rungs in place of the given ones, equally many, before the first step.

        Raises:
            InputError: another number of rungs, or a ladder that does not ascend.
        """
        given = require_each("ReplicaExchange", "beta", beta)
        rungs = [given] if isinstance(given, float) else list(given)
        if len(rungs) != len(self.beta) or sorted(set(rungs)) != rungs:
            raise InputError(
                f"ReplicaExchange: beta = {shown(beta)} must be {len(self.beta)} ascending numbers, as many as before; "
                "sort them, give each once"
            )
        self.beta = rungs
        self._reset()

    def _reset(self) -> None:
        """The given ladder, with nobody on it yet, and all counts at zero."""
        self.ladder = torch.tensor(self.beta, dtype=torch.float64)
        pairs = len(self.beta) - 1
        self.offers = torch.zeros(pairs, dtype=torch.int64)
        self.swaps = torch.zeros(pairs, dtype=torch.int64)
        self._acceptance = torch.zeros(pairs, dtype=torch.float64)  # sum of probabilities, less noisy than swaps
        self.rung = self.round_trips = self._been = torch.zeros(0, dtype=torch.int64)

    # ------------------------------------------------------------------ potential

    def prepare(self, device: torch.device) -> None:
        """Bring the ladder to a device."""
        super().prepare(device)
        for name in ("ladder", "offers", "swaps", "_acceptance", "rung", "round_trips", "_been"):
            setattr(self, name, getattr(self, name).to(device))

    def attach(self, integrator: Integrator, generator: torch.Generator) -> None:
        """Begin on the given ladder, with the random numbers of swaps from the generator of the run."""
        self._generator = RandomStreams.of(generator)
        self._reset()
        self.prepare(generator.device)

    def full_slope(self, walkers: int) -> Tensor:
        """Slope kT beta of each walker on its present rung, [W]."""
        if walkers != len(self.rung):
            self._place(walkers)
        return self.kT * self.ladder[self.rung]

    def _place(self, walkers: int) -> None:
        """Put walker w on rung w modulo K."""
        if walkers % len(self.beta):
            raise InputError(
                f"ReplicaExchange: {walkers} walkers on {len(self.beta)} rungs; give each rung one walker, or equally "
                "many (independent ladders)"
            )
        self.rung = torch.arange(walkers, device=self.ladder.device) % len(self.beta)
        self.round_trips, self._been = torch.zeros_like(self.rung), (self.rung == 0).long()

    def each(self, values: Sequence[float], begin: Sequence[float] | None = None, ramp: int = 0) -> OfRung:
        """A time step or friction for each rung, as a function of the step that gives each walker that of its rung.

        Args:
            values: of the K rungs, from the lowest beta to the highest, finite: a list, array or tensor [K].
            begin: those of the first step, from which the values are reached within `ramp` steps, by the same factor at
                each of them; all above 0. None is the values themselves.
            ramp: steps, at least 0.

        Raises:
            InputError: more or fewer values than rungs, or a number out of its range.

        >>> from nnsim import Simulation, cv
        >>> from nnsim.bias import ReplicaExchange
        >>> from nnsim.integrators import Langevin
        >>> from nnsim.systems import AnalyticSystem, Harmonic
        >>> exchange = ReplicaExchange(cv.Energy(Harmonic()), [1.0, 4.0, 16.0], every=20)
        >>> integrator = Langevin(dt=exchange.each([0.2, 0.1, 0.05]), friction=1.0)
        >>> system = AnalyticSystem(3, Harmonic(), start=0.1)
        >>> simulation = Simulation(system, integrator, bias=exchange, walkers=6)
        >>> simulation.integrator.dt(1).tolist()
        [0.2, 0.1, 0.05, 0.2, 0.1, 0.05]
        """
        found = OfRung(self, values, begin, ramp)
        self._numbers.append(found)
        return found

    # ------------------------------------------------------------------ swaps

    def still(self, step: int) -> bool:
        """Never: temperatures are swapped."""
        return False

    def next_update(self, step: int) -> int:
        """The next step after this one at which it swaps."""
        return step - step % self.every + self.every

    def update(self, s: Tensor, step: int, mask: Tensor | None = None) -> bool:
        """At every `every`-th step offer swaps to the walkers at s [W, 1]; True if any walker has another beta then."""
        if step % self.every:
            return False
        before = self.ladder[self.rung]
        first = step // self.every % 2
        low = torch.arange(first, len(self.beta) - 1, 2, device=s.device)
        if len(low):
            self._swap(s[:, 0], low, step)
            self._count_trips()
        if any(step - self.every < end <= step for end in self._rounds()):
            self._space(step)
        return not torch.equal(before, self.ladder[self.rung])

    def _swap(self, s: Tensor, low: Tensor, step: int) -> None:
        """Offer swaps of rungs `low` [P] and low + 1 in every ladder."""
        assert self._generator is not None
        rungs = self.rung.view(-1, len(self.beta))  # of each ladder, [W / K, K]
        walker = rungs.argsort(dim=1)  # who is on each rung
        values = s.view_as(rungs).gather(1, walker)
        gain = (self.ladder[low] - self.ladder[low + 1]) * (values[:, low] - values[:, low + 1])
        probability = torch.exp(gain.clamp(max=0))
        # the number of the walker on the lower of both rungs decides
        drawn = self._generator.uniform(Purpose.SWAP, (len(s),), step=step, draw=0).view_as(rungs)
        accepted = drawn.gather(1, walker[:, low]) < probability
        self.offers[low] += len(rungs)
        self.swaps[low] += accepted.sum(dim=0)
        self._acceptance[low] += probability.sum(dim=0)
        up, down = walker[:, low], walker[:, low + 1]
        rungs.scatter_add_(1, up, accepted.long())
        rungs.scatter_add_(1, down, -accepted.long())

    def _count_trips(self) -> None:
        """A walker that comes to rung 0 from the highest one has made a round trip."""
        bottom, top = self.rung == 0, self.rung == len(self.beta) - 1
        self.round_trips += bottom & (self._been == 2)
        self._been[bottom], self._been[top & (self._been == 1)] = 1, 2

    # ------------------------------------------------------------------ pilot run

    def _rounds(self) -> list[int]:
        """Steps after which the ladder is spaced anew."""
        return [self.pilot // 2**power for power in range(PILOT_ROUNDS)] if self.pilot else []

    def _space(self, step: int) -> None:
        """Move the inner rungs so that each pair would reject alike, and begin to count anew."""
        rejection = 1 - self.swap_probability().cpu().numpy()
        ladder, given = self.ladder.cpu().numpy(), np.array(self.beta)
        barrier = np.concatenate(([0.0], np.cumsum(rejection))) / max(rejection.sum(), 1e-12)
        # On a scale that is linear near the lowest beta and logarithmic beyond, where losses shrink as 1 / beta.
        unit = given[1] - given[0]
        fine = np.linspace(0.0, np.log1p((given[-1] - given[0]) / unit), 100 * len(given))
        now, first = (np.log1p((beta - given[0]) / unit) for beta in (ladder, given))
        share = (1 - AS_GIVEN) * np.interp(fine, now, barrier)
        share += AS_GIVEN * np.interp(fine, first, np.linspace(0, 1, len(given)))
        inner = np.interp(np.linspace(0, 1, len(given))[1:-1], share, fine)
        self.ladder[1:-1] = torch.from_numpy(given[0] + unit * np.expm1(inner)).to(self.ladder)
        for count in (self.offers, self.swaps, self._acceptance, self.round_trips):
            count.zero_()
        self._been = (self.rung == 0).long()
        if step >= self.pilot:
            logging.getLogger("nnsim").info(
                f"ReplicaExchange: the pilot run found a barrier of Lambda = {rejection.sum():.3g}, for which "
                f"{round(2 * rejection.sum() + 1)} rungs are best; there are {len(ladder)}"
            )

    def swap_probability(self) -> Tensor:
        """Mean probability that a swap is accepted, of each pair of rungs, [K - 1]; NaN before the first offer."""
        return self._acceptance / self.offers

    # ------------------------------------------------------------------ record

    def observables(self) -> dict[str, float | Tensor]:
        """Beta and rung of each walker, [W], swap rate of each pair, [K - 1], the least of them, all round trips."""
        rates = torch.where(self.offers > 0, self.swaps / self.offers.clamp(min=1), 0.0)
        return {
            "beta": self.ladder[self.rung],
            "rung": self.rung,
            "swap_rate": rates,
            "least_swap_rate": float(rates.min()),
            "round_trips": float(self.round_trips.sum()),
        }

    def doubts(self) -> list[str]:
        """Too few round trips along the ladder to know that its rungs have to do with each other."""
        trips = int(self.round_trips.sum())
        if trips >= FEWEST_TRIPS:
            return []
        return [f"the walkers made {trips} round trips of the ladder (converged: {FEWEST_TRIPS} or more)"]

    def tables(self) -> dict[str, Tensor]:
        """The ladder."""
        return {"beta": self.ladder}

    def describe(self) -> dict[str, Any]:
        """Settings, for the record."""
        return {
            "cvs": [self.cvs[0].name],
            "cv_settings": self.cvs,
            "beta": self.beta,
            "rungs": len(self.beta),
            "every": self.every,
            "pilot": self.pilot,
            "kT": self.kT,
        }

    def state_dict(self) -> dict[str, Any]:
        """A copy of the ladder, where the walkers are on it, and all counts."""
        names = ("ladder", "rung", "offers", "swaps", "_acceptance", "round_trips", "_been")
        numbers = {"numbers": [list(map(list, one.rows)) for one in self._numbers]} if self._numbers else {}
        return {**{name.lstrip("_"): getattr(self, name).clone() for name in names}, **numbers}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        for name in ("ladder", "rung", "offers", "swaps", "_acceptance", "round_trips", "_been"):
            setattr(self, name, saved[name.lstrip("_")].to(self.ladder.device, copy=True))
        for one, rows in zip(self._numbers, saved.get("numbers", []), strict=False):  # not in version 0.2
            one.rows = (tuple(rows[0]), tuple(rows[1]))


class OfRung(BiasFunction):
    """A number for each rung of a ladder, as a function of the step: that of the present rung of each walker.

    Args:
        exchange: the ladder; the simulation must have it as a bias.
        values: of its K rungs, finite.
        begin, ramp: see `ReplicaExchange.each`.

    Attributes:
        rows: what it begins with and the values, of the K rungs.

    Raises:
        InputError: as of `ReplicaExchange.each`.
    """

    def __init__(
        self, exchange: ReplicaExchange, values: Sequence[float], begin: Sequence[float] | None = None, ramp: int = 0
    ) -> None:
        self.bias = exchange
        self.ramp = require_integer("ReplicaExchange", "ramp", ramp, least=0)
        self.set(values, begin)

    def set(self, values: Sequence[float], begin: Sequence[float] | None = None) -> None:
        """Other values, before the first step."""
        last = self._row("values", values)
        first = last if begin is None else self._row("begin", begin, above=0.0)
        if self.ramp and min(last) <= 0:
            raise InputError("ReplicaExchange: values must be above 0 where they are reached by a ramp; set ramp = 0")
        self.rows = (first, last)

    def _row(self, name: str, given: Sequence[float], **limit: float) -> tuple[float, ...]:
        found = require_each("ReplicaExchange", name, given, **limit)
        row = (found,) if isinstance(found, float) else tuple(found)
        if len(row) != len(self.bias.beta):
            raise InputError(f"ReplicaExchange: {len(row)} {name} for {len(self.bias.beta)} rungs; give each rung one")
        return row

    @property
    def values(self) -> tuple[float, ...]:
        """Of the K rungs, after the ramp."""
        return self.rows[1]

    def __call__(self, step: int) -> Tensor:
        """That of the present rung of each walker, [W]."""
        rung = self.bias.rung
        first, last = (torch.tensor(row, dtype=torch.float64, device=rung.device) for row in self.rows)
        if step < self.ramp:
            last = first * (last / first) ** (step / self.ramp)
        return last[rung]

    def describe(self) -> dict[str, Any]:
        """Settings, for the record."""
        ramp = {"begin": self.rows[0], "ramp": self.ramp} if self.ramp else {}
        return {"bias": self.bias.name, "values": self.values, **ramp}
