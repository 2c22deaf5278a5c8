r"""Minimisation inside the box: L-BFGS of all walkers together, projected at the walls.

| symbol | meaning | code | shape |
|---|---|---|---|
| q | parameters | `state.positions` | [W, n] |
| f | what is minimised | `integrator_state["minimised"]` | [W] |
| g | its gradient | `-state.forces` | [W, n] |
| P | projection on the box | `Box.project` | |
| s_k, y_k | steps, and changes of the gradient | `integrator_state["steps"]`, `["changes"]` | [W, m, n] |
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nnsim.errors import InputError, require_choice, require_integer, require_number
from nnsim.forcefield import ForceField
from nnsim.protocols import Integrator, System
from nnsim.random.streams import RandomStreams
from nnsim.state import State

OF = ("loss", "potential")
SUFFICIENT, CURVATURE = 1e-4, 0.9  # c1 and c2 of the conditions on a step
ROUNDING = 10.0  # of f, in units of its last digit
MOST_TRIALS = 40  # of lengths in one search
PARALLEL = 1e-12  # a pair of a smaller cosine between s and y says nothing about the curvature
RUNNING, CONVERGED, STALLED = 0, 1, 2


class LBFGS(Integrator):
    r"""Limited-memory BFGS in the box, for all walkers at once; a step is one search along a line.

    With the free coordinates F, those that do not press against an edge (q_i on it and -g_i outwards),

        d    <- -H g on F, 0 elsewhere;        H from the last m pairs (s_k, y_k), restricted to F
        q(a) <- P(q + a d),                    a by bisection, until
        f(q(a)) <= f(q) + c1 g.(q(a) - q)      and the slope along the path is at least c2 times that of a = 0

    with c1 = 1e-4 and c2 = 0.9. Where f changes by its rounding only, the slope at a decides instead: it must not be
    above (1 - 2 c1) times that of a = 0 with the other sign.

    A walker has converged where the projected gradient, g on F, has no larger Euclidean norm than asked for. It has
    stalled where no step along the steepest descent lowers f: at the limit of the precision, or at a kink, as ReLU
    networks have them. Either rests from then on, and others go on without it.

    There is no temperature, no bias and no velocity; CVs are recorded through `observe`. In a periodic box nothing is
    projected: positions re-enter on the other side.

    Args:
        of: `"loss"`, the train loss, or `"potential"`, U.
        gradient_norm: of the projected gradient at which a walker has converged, in units of f / q, at least 0.
        memory: pairs m that are kept, at least 1; 2 m n numbers for each walker.

    Raises:
        InputError: a number out of its range; when the simulation is made: a bias, U = 0 for `"potential"`, a system
            without data for `"loss"`, or parameters on a lattice.

    References: J. Nocedal, Math. Comput. 35, 773 (1980), doi:10.1090/S0025-5718-1980-0572855-7, the recursion of p.
    779; D. P. Bertsekas, SIAM J. Control Optim. 20, 221 (1982), doi:10.1137/0320018, the projection; A. S.
    Lewis and M. L. Overton, Math. Program. 141, 135 (2013), doi:10.1007/s10107-012-0514-2, algorithm 2.6, the search;
    W. W. Hager and H. Zhang, SIAM J. Optim. 16, 170 (2005), doi:10.1137/030601880, eq. 4.1, its end.

    >>> from nnsim import Simulation
    >>> from nnsim.integrators import LBFGS
    >>> from nnsim.systems import AnalyticSystem, Harmonic
    >>> run = Simulation(AnalyticSystem(3, Harmonic(), start=0.5), LBFGS(of="potential"), walkers=2).advance(10)
    >>> bool(run.state.positions.abs().max() < 1e-6)
    True
    """

    def __init__(self, of: str = "loss", *, gradient_norm: float = 1e-6, memory: int = 20) -> None:
        self.of = require_choice("LBFGS", "of", of, OF)
        self.gradient_norm = require_number("LBFGS", "gradient_norm", gradient_norm, least=0.0)
        self.memory = require_integer("LBFGS", "memory", memory, least=1)

    @property
    def follows_loss(self) -> bool:  # type: ignore[override]
        """Whether it is the train loss that is minimised."""
        return self.of == "loss"

    def init(self, positions: Tensor, force_field: ForceField, generator: torch.Generator) -> State:
        """The state of walkers at positions [W, n], without pairs."""
        self._check(force_field)
        nothing = positions.new_zeros(len(positions), dtype=torch.float64)
        zeros, pairs = torch.zeros_like(positions), (len(positions), self.memory, positions.shape[1])
        cvs, streams = nothing.new_zeros((len(positions), 0)), RandomStreams.of(generator)
        state = State(positions, zeros, zeros.clone(), nothing, nothing.clone(), cvs, streams)
        count = torch.zeros(len(positions), dtype=torch.int64, device=positions.device)
        state.integrator_state |= {
            "steps": positions.new_zeros(pairs),
            "changes": positions.new_zeros(pairs),
            "pairs": count,
            "ended": count.clone(),
            "iterations": count.clone(),
        }
        self.refresh(state, force_field)
        return state

    def refresh(self, state: State, force_field: ForceField) -> None:
        """What is minimised, its gradient and U anew at the same positions."""
        found = self._look(force_field, state.positions)
        state.energy, state.forces = found.energy, -found.gradient
        state.integrator_state["minimised"] = found.value
        self._judge(state, force_field.system)

    def step(self, state: State, force_field: ForceField) -> State:
        """One search along a line, of each walker that has not ended."""
        state.step += 1
        own = state.integrator_state
        rows = (own["ended"] == RUNNING).nonzero()[:, 0]
        if not len(rows):
            return state
        q, g, f = state.positions[rows], -state.forces[rows], own["minimised"][rows]
        free = _free(force_field.system, q, g)
        direction, newest = _direction(own["steps"][rows], own["changes"][rows], own["pairs"][rows], free, g)
        found, moved = self._search(force_field, q, f, g, direction, newest)
        own["pairs"][rows[~moved]] = 0  # the next step goes along the steepest descent
        own["ended"][rows[~moved & ~newest]] = STALLED
        rows = rows[moved]
        _remember(own, rows, found.positions[moved] - q[moved], found.gradient[moved] - g[moved])
        state.positions[rows], state.forces[rows] = found.positions[moved], -found.gradient[moved]
        state.energy[rows], own["minimised"][rows] = found.energy[moved], found.value[moved]
        own["iterations"][rows] += 1
        if force_field.system.box.kind == "periodic":
            force_field.system.box.confine_(state.positions)
        self._judge(state, force_field.system)
        return state

    def finished(self, state: State) -> bool:
        """Whether every walker has converged or stalled."""
        return bool((state.integrator_state["ended"] != RUNNING).all())

    def summary(self, state: State) -> dict[str, str]:
        """How many have converged, and where they are."""
        own, count = state.integrator_state, len(state.positions)
        ended = [int((own["ended"] == how).sum()) for how in (CONVERGED, STALLED)]
        (low, high), (least, most) = (own[name].aminmax() for name in ("minimised", "gradient_norm"))
        return {
            "converged": f"{ended[0]} of {count}" + (f", {ended[1]} cannot be lowered any more" if ended[1] else ""),
            "train loss" if self.of == "loss" else "potential U": f"from {float(low):.4g} to {float(high):.4g}",
            "gradient norm": f"from {float(least):.2g} to {float(most):.2g}, asked for {self.gradient_norm:g}",
        }

    def _judge(self, state: State, system: System) -> None:
        """Which walkers have converged, by the norm of the projected gradient."""
        own, gradient = state.integrator_state, -state.forces
        norm = (gradient * _free(system, state.positions, gradient)).double().norm(dim=1)
        own["gradient_norm"] = norm
        own["ended"] = torch.where(norm <= self.gradient_norm, CONVERGED, own["ended"])

    # ------------------------------------------------------------------ what is minimised

    def _look(self, force_field: ForceField, positions: Tensor) -> _Look:
        """What is minimised, its gradient, and U."""
        return _Look(positions, *force_field.value_and_gradient(positions, self.of))

    def _check(self, force_field: ForceField) -> None:
        system = force_field.system
        if force_field.biases:
            names = ", ".join(bias.name for bias in force_field.biases)
            raise InputError(
                f"LBFGS: a minimisation has no bias, but the simulation has {names}; leave it out and record CVs with "
                "observe=[...]"
            )
        if self.of == "potential" and force_field.flat:
            raise InputError(
                f"LBFGS: of = 'potential', but the potential of {type(system).__name__} is 0 everywhere; minimise the "
                "train loss, of='loss'"
            )
        if self.of == "loss":
            system.targets("train")  # which says what it lacks

    # ------------------------------------------------------------------ search

    def _search(
        self, force_field: ForceField, q: Tensor, f: Tensor, g: Tensor, direction: Tensor, newest: Tensor
    ) -> tuple[_Look, Tensor]:
        """The end of each walker's search, and whether it lowers f.

        The length is doubled until an upper end of it is known, then halved between the ends: too long where f is not
        low enough, too short where it still falls steeply.
        """
        box, rounding = force_field.system.box, ROUNDING * torch.finfo(g.dtype).eps
        slope = (g * direction).double().sum(1)
        low, high = torch.zeros_like(f), torch.full_like(f, torch.inf)
        # Without curvature a first step of length 1, or less where the gradient is small.
        length = torch.where(newest, 1.0, 1 / direction.double().norm(dim=1).clamp_min(1.0))
        best = _Look(q.clone(), f.clone(), g.clone(), f.clone())
        moved, open_ = torch.zeros_like(newest), torch.ones_like(newest)
        for _ in range(MOST_TRIALS):
            rows = open_.nonzero()[:, 0]
            if not len(rows):
                break
            straight = q[rows] + length[rows, None].to(q) * direction[rows]
            trial = box.project(straight)
            found = self._look(force_field, trial)
            inside = trial == straight
            fall = (g[rows] * (trial - q[rows])).double().sum(1)
            now = (found.gradient * direction[rows] * inside).double().sum(1)
            lower = (found.value < f[rows]) & (found.value <= f[rows] + SUFFICIENT * fall)
            # Where f changes by no more than its rounding, the slope tells.
            lower |= (found.value <= f[rows] + rounding * f[rows].abs()) & (now <= (2 * SUFFICIENT - 1) * slope[rows])
            lower &= found.value.isfinite() & found.gradient.isfinite().all(1)
            steep = now < CURVATURE * slope[rows]
            for whole, part in zip(best, found, strict=True):
                whole[rows[lower]] = part[lower]
            moved[rows] |= lower
            high[rows] = torch.where(lower, high[rows], length[rows])
            low[rows] = torch.where(lower, length[rows], low[rows])
            open_[rows] = ~lower | steep
            length = torch.where(high.isfinite(), (low + high) / 2, 2 * length)
            open_ &= length > 1e-300
            open_ &= ~(moved & high.isfinite() & (high - low < 1e-3 * high))  # close enough to a kink
        return best, moved


class _Look(NamedTuple):
    """Positions [W, n], what is minimised there [W], its gradient [W, n], and U [W]."""

    positions: Tensor
    value: Tensor
    gradient: Tensor
    energy: Tensor


def _free(system: System, q: Tensor, g: Tensor) -> Tensor:
    """Which coordinates [W, n] do not press against an edge of the box."""
    if system.box.kind != "reflecting":
        return torch.ones_like(q, dtype=torch.bool)
    return ~((q <= system.box.lower) & (g > 0) | (q >= system.box.upper) & (g < 0))


def _direction(steps: Tensor, changes: Tensor, pairs: Tensor, free: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """-H g on the free coordinates, [W, n], and whether the curvature of any pair has gone into it, [W].

    The two loops of the recursion, over the newest pairs first; those of a walker that has fewer, or whose s.y on its
    free coordinates is not above 0, leave it as it is.
    """
    q = g * free
    memory = int(pairs.max()) if len(pairs) else 0
    s, y = steps[:, :memory] * free[:, None], changes[:, :memory] * free[:, None]
    sy, ss, yy = (torch.einsum("wmn,wmn->wm", a, b) for a, b in ((s, y), (s, s), (y, y)))
    there = torch.arange(memory, device=g.device) < pairs[:, None]
    good = there & (sy > PARALLEL * (ss * yy).sqrt())
    rho = torch.where(good, 1 / torch.where(good, sy, 1.0), 0.0)
    alphas = []
    for k in range(memory):
        alpha = rho[:, k] * (s[:, k] * q).sum(1)
        q = q - alpha[:, None] * y[:, k]
        alphas.append(alpha)
    curved = good.any(1)
    if memory:
        newest = good.to(torch.int8).argmax(1, keepdim=True)  # the first of the good ones
        scale = (sy.gather(1, newest) / yy.gather(1, newest))[:, 0]
        q = q * torch.where(curved, scale, 1.0)[:, None]
    for k in reversed(range(memory)):
        beta = rho[:, k] * (y[:, k] * q).sum(1)
        q = q + (alphas[k] - beta)[:, None] * s[:, k]
    downwards = (q * g).sum(1) > 0
    curved &= downwards
    return -torch.where(curved[:, None], q, g) * free, curved


def _remember(own: dict[str, Tensor], rows: Tensor, step: Tensor, change: Tensor) -> None:
    """Put the newest pair in front of those of some walkers."""
    for name, newest in (("steps", step), ("changes", change)):
        own[name][rows] = torch.cat([newest[:, None], own[name][rows, :-1]], dim=1)
    own["pairs"][rows] = (own["pairs"][rows] + 1).clamp_max(own["steps"].shape[1])
