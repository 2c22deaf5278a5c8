"""What is refused when a simulation is put together."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nnsim.describe import check_name
from nnsim.errors import (
    InputError,
    NNSimError,
    NNSimWarning,
    first_line,
    require_flag,
    require_integer,
    require_number,
    shown,
)
from nnsim.forcefield import ForceField
from nnsim.protocols import CollectiveVariable, Integrator, Observable, said
from nnsim.running.checks.contract import check_contract
from nnsim.schedules import BiasFunction, Setting, setting_at
from nnsim.state import State

SAME_PERIOD = 1e-5  # relative; an edge given as 3.1416 is pi
EDGE_TRIALS = 4  # at least so many sets of parameters are put on the edges of a periodic box


def several(things: Any) -> list[Any]:
    """A list of parts, from one part, several, or None."""
    if things is None:
        return []
    return list(things) if isinstance(things, (list, tuple)) else [things]


def with_intervals(what: str, things: Any, protocol: Any, default: int) -> list[tuple[Any, int]]:
    """(part, interval in steps) of each: from parts, pairs of a part and an interval, a single one of them, or None."""
    one_pair = isinstance(things, tuple) and len(things) == 2 and isinstance(things[1], int)
    found = []
    for entry in [things] if one_pair else several(things):
        thing, interval = entry if isinstance(entry, tuple) and len(entry) == 2 else (entry, default)
        check_contract(what, thing, protocol)
        if not isinstance(thing.name, str):
            raise InputError(
                f"Simulation: the {what} {type(thing).__name__} has name = {shown(thing.name)}; give a text"
            )
        found.append((thing, require_integer("Simulation", f"interval of {thing.name}", interval, least=1)))
    return found


def require_preparation(given: Any) -> Any:
    """What is done before the first step of a run, if anything."""
    if given is not None and not callable(given):
        raise InputError(
            f"Simulation: preparation = {shown(given)} must be a function of the simulation; give one, or leave it out"
        )
    return given


def torch_device(name: str) -> torch.device:
    """The device, after trying it."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ValueError):
        there = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        raise InputError(
            f"Simulation: device = {name!r} is not there; on this machine there is {', '.join(there)}"
        ) from None
    return device


def check_parts(integrator: Integrator, force_field: ForceField, observed: Sequence[Observable]) -> None:
    """Refuse combinations that cannot work."""
    for named in (*force_field.biases, *force_field.cvs, *observed):
        check_name(named.name)
    who, dynamics, kT = type(integrator).__name__, integrator.needs_gradients, integrator.kT
    if force_field.system.box.kind == "lattice" and dynamics:
        raise InputError(f"{who} moves continuously, but the parameters live on a lattice; use MonteCarlo")
    for name, given in (("dt", integrator.dt), ("friction", integrator.friction), ("kT", kT)):
        if isinstance(given, BiasFunction) and not any(given.bias is one for one in force_field.biases):
            raise InputError(
                f"{who}: {name} follows the bias {given.bias.name!r}, which is none of this simulation's; give that "
                "as a bias too"
            )
    for bias in force_field.biases:
        for flag, value in (("frozen", bias.frozen), ("moving", bias.moving)):
            require_flag(type(bias).__name__, flag, value)
        for cv in bias.cvs:
            if dynamics and not said(cv, CollectiveVariable, "differentiable"):
                raise InputError(
                    f"{who} needs forces, but the CV {cv.name!r} of the bias {bias.name!r} has no gradient; "
                    "use a smooth CV (SmoothedAccuracy instead of Accuracy) or a Monte Carlo integrator"
                )
        if bias.kT is not None and kT is not None:
            _check_temperature(bias.name, bias.kT, who, kT)


def _check_temperature(bias: str, own: float, who: str, kT: Setting) -> None:
    """Refuse a bias that is made for one temperature, where the heat bath has another."""
    if callable(kT):
        raise InputError(
            f"the bias {bias!r} has kT = {own:g}, so it assumes a constant temperature, but {who} has a "
            "schedule of kT; give kT as a number, or leave the bias out"
        )
    now = setting_at(kT, 0)
    if not isinstance(now, float):
        raise InputError(
            f"the bias {bias!r} has kT = {own:g} for all walkers, but {who} has a kT for each of {len(now)} walkers; "
            "give kT as one number, or leave the bias out"
        )
    if abs(own - now) > 1e-12 * abs(now):
        raise InputError(f"the bias {bias!r} has kT = {own:g} but {who} has kT = {now:g}; make them equal")


def check_intervals(integrator: Integrator, force_field: ForceField) -> None:
    """Refuse biases that cannot be evaluated at their intervals."""
    who = type(integrator).__name__
    for bias, k in zip(force_field.biases, force_field.intervals, strict=True):
        if k == 1:
            continue
        if not integrator.multiple_time_stepping:
            raise InputError(
                f"{who} cannot evaluate the bias {bias.name!r} every {k} steps only; use VelocityVerlet, NoseHoover or "
                "Langevin with a splitting in which no B stands between two A, such as 'BAOAB', or give the bias "
                "without an interval"
            )
        if bias.moving:
            raise InputError(
                f"the bias {bias.name!r} moves and keeps account of it at every step, so it cannot be evaluated every "
                f"{k} steps only; give it without an interval, or let it rest"
            )
        for name, own in (("pace", bias.pace), ("every", bias.every)):
            if own is not None and own % k:
                raise InputError(
                    f"the bias {bias.name!r} has {name} = {own}, but is evaluated every {k} steps; "
                    f"make {name} a multiple of {k}, or change the interval"
                )


def check_recorded(force_field: ForceField, recorded: Mapping[str, int], of_all: Sequence[str]) -> None:
    """Refuse to record what is not known at its steps, because a bias is evaluated at others.

    Args:
        force_field: has the biases and their intervals.
        recorded: name and interval of what is recorded.
        of_all: those that are made of the energies of all biases.
    """
    for name, every in recorded.items():
        for cv in force_field.cvs:
            intervals = force_field.intervals_of(cv)
            if name not in (cv.name, *of_all) or any(every % k == 0 for k in intervals):
                continue
            why = "" if name == cv.name else f", of which {name} is made,"
            known = " or ".join(map(str, sorted(set(intervals))))
            raise InputError(
                f"Simulation: {name} is recorded every {every} steps, but the CV {cv.name!r}{why} is computed every "
                f"{known} steps only; record it at a multiple of that (every=..., or observe=[(..., interval)]), or "
                "change the interval of the bias"
            )


# ---------------------------------------------------------------------------------------------------- periodic boxes


def period_of(thing: Any, box: Any) -> float | None:
    """After how much a CV, or another observable, comes round; `math.inf`: it does not; None: it does not say."""
    ask = said(thing, Observable, "period")
    period = ask(box) if callable(ask) else None  # an observable may call something else its period
    if period is None or period == math.inf:
        return period
    return require_number(type(thing).__name__, "period", period, above=0.0)


def comes_round(thing: Any, box: Any) -> bool:
    """Whether a CV has a period, so that its values have no plain mean."""
    period = period_of(thing, box)
    return period is not None and math.isfinite(period)


def check_periods(force_field: ForceField) -> None:
    """Refuse biases that do not repeat where their CVs do: V would jump where walkers pass unhindered."""
    box = force_field.system.box
    for bias in force_field.biases:
        own = bias.periods
        if own is not None and len(own) != len(bias.cvs):
            raise InputError(
                f"the bias {bias.name!r} has {len(own)} periods for {len(bias.cvs)} CVs; give one for each"
            )
        for cv, given in zip(bias.cvs, own or (), strict=own is not None):
            period = period_of(cv, box)
            if period is None or math.isclose(given or math.inf, period, rel_tol=SAME_PERIOD):
                continue
            if period == math.inf and bias.kind != "grid":
                continue  # a known potential may repeat where the CV does not; what is learnt would be smeared together
            found = f"has a period of {given:.10g}" if given else "does not repeat"
            if period == math.inf:
                rule, remedy = "does not repeat", "leave periodic=True out of the Grid, or use Box(kind='periodic')"
            else:
                rule = f"repeats after {period:.10g}"
                remedy = (
                    f"use Grid(lower, upper, ..., periodic=True) with upper - lower = {period:.10g}, Umbrella(..., "
                    f"periods={period:.10g}), or a box that is not periodic"
                )
            raise InputError(f"the bias {bias.name!r} {found} along {cv.name!r}, which {rule}; {remedy}")


@torch.no_grad()
def check_edges(integrator: Integrator, force_field: ForceField, positions: Tensor) -> None:
    """Warn of energies and CVs that jump at the edges of a periodic box, which a dynamics passes without a force.

    Some parameters of each walker are put on the lower edge, then on the upper one, which is the same point. Metropolis
    methods are right all the same, since they compare energies; training goes by none.
    """
    box, who = force_field.system.box, type(integrator).__name__
    by_energy = not (integrator.follows_loss or integrator.metropolis)
    if box.period is None or not by_energy or not integrator.needs_gradients:
        return
    jumps: dict[str, float] = {}
    generator = torch.Generator().manual_seed(0)
    for _ in range(max(1, EDGE_TRIALS // len(positions))):
        chosen = torch.rand(positions.shape, generator=generator) < 0.5
        chosen[~chosen.any(1)] = True
        chosen = chosen.to(positions.device)
        below, above = (torch.where(chosen, edge, positions) for edge in (box.lower, box.upper))
        for what, jump in _jumps(force_field, below, above):
            jumps[what] = max(jumps.get(what, 0.0), jump)
    for what, jump in jumps.items():
        if jump > 0:
            warnings.warn(
                f"Simulation: {what} jumps by up to {jump:.3g} at the edges of the {box}, where {who} feels no force, "
                "so that it samples another distribution; use Box(..., kind='reflecting'), or MonteCarlo or "
                "HybridMonteCarlo",
                NNSimWarning,
                stacklevel=3,
            )


def _jumps(force_field: ForceField, below: Tensor, above: Tensor) -> Iterator[tuple[str, float]]:
    """By how much U, the CVs and V differ between positions [W, n] that are the same; 0 where only rounding does."""
    one, two = (force_field.energies(positions, 0) for positions in (below, above))
    yield "U", _largest(one[0], two[0])
    periods = {cv.name: period_of(cv, force_field.system.box) for cv in force_field.cvs}
    for bias in force_field.biases:  # a bias on an angle that does not tell its period may know it
        pairs = zip(bias.cvs, bias.periods or (), strict=False)
        periods |= {cv.name: given for cv, given in pairs if periods[cv.name] is None}
    whole = True
    for column, cv in enumerate(force_field.cvs):
        period = periods[cv.name]
        jump = _largest(one[2][:, column], two[2][:, column], None if period == math.inf else period)
        whole = whole and jump == 0
        yield f"the CV {cv.name!r} of a bias", jump
    if whole:
        yield "V", _largest(one[1], two[1])


def _largest(one: Tensor, two: Tensor, period: float | None = None) -> float:
    """The largest difference of values [W] that is more than rounding, to the nearest image."""
    difference = one - two
    if period is not None:
        difference = difference - period * torch.round(difference / period)
    rounding = 1e-6 + 1e-5 * (one.abs() + two.abs())
    return float(torch.where(difference.abs() > rounding, difference.abs(), 0.0).max())


@torch.no_grad()
def check_observables(state: State, force_field: ForceField, observed: Sequence[Observable]) -> None:
    """Observe everything once, so that what cannot work is found before the run and not at its first frame."""
    evaluation = force_field.evaluate(state.positions)
    for thing in observed:
        try:
            value = thing.observe(state, evaluation)
        except InputError:
            raise
        except NNSimError as error:  # what would end a run is refused at its start
            raise InputError(str(error)) from error
        except Exception as error:
            raise InputError(
                f"observable {thing.name!r} fails: {type(error).__name__}: {first_line(error)}; repair it"
            ) from error
        if not hasattr(value, "shape"):
            raise InputError(
                f"observable {thing.name!r} is a {type(value).__name__}; return a tensor [W, ...], W the number "
                f"of walkers, {state.walkers}"
            )
        if tuple(value.shape[:1]) != (state.walkers,):
            raise InputError(
                f"observable {thing.name!r} has shape {tuple(value.shape)}; "
                f"it must begin with the number of walkers, {state.walkers}; change it"
            )
