"""From positions to energies and forces."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nnsim.errors import DivergedError, InputError, NNSimError, first_line, require_integer
from nnsim.evaluation import Evaluation
from nnsim.identity.changes import Differences
from nnsim.identity.parts import identity, same
from nnsim.networks.modes import undisturbed
from nnsim.protocols import Bias, CollectiveVariable, System
from nnsim.trajectory.layout import folder_name


class Forces(NamedTuple):
    """What a `ForceField` returns: energy [W], bias_energy [W], cvs [W, k] and forces [W, n]."""

    energy: Tensor
    bias_energy: Tensor
    cvs: Tensor
    forces: Tensor


class ForceField:
    r"""H = sum m v^2 / 2 + U(q) + sum_b V_b(s(q)), and the forces of its potential part.

    One evaluation of the network, dV/ds at s, and one backward pass of U + sum_j (dV/ds_j) s_j, in which dV/ds is a
    constant: by the chain rule that is the gradient of U + V.

    A bias of an interval k > 1 is due at the steps 0, k, 2k, ... only. There its force counts k times; between them it
    exerts none, learns nothing, and its CVs, where no bias that is due has them too, are not computed but keep their
    values. Velocities that are kicked with these forces at both ends of a step follow the impulse form of multiple time
    stepping (r-RESPA), see `Simulation`.

    Args:
        system: gives U and the outputs that the CVs are made of.
        biases: their CVs together are the k columns of `cvs`, each CV once.
        intervals: of each bias, in steps, at least 1; None is 1 for all.

    Attributes:
        intervals: of each bias, in steps.
        slow: whether any interval is above 1.

    Raises:
        InputError: two different CVs, or two biases, of one name; an interval below 1.
    """

    def __init__(self, system: System, biases: Sequence[Bias] = (), intervals: Sequence[int] | None = None) -> None:
        self.system = system
        self.biases = unique_by_name(biases, "biases")
        if len(self.biases) < len(biases):
            raise InputError("ForceField: a bias is given twice, so it would count twice; leave one out")
        self.cvs = unique_by_name((cv for bias in biases for cv in bias.cvs), "collective variables")
        pairs = zip(biases, [1] * len(biases) if intervals is None else intervals, strict=True)
        self.intervals = tuple(require_integer("ForceField", f"interval of {one.name}", k, least=1) for one, k in pairs)
        self.slow = any(interval > 1 for interval in self.intervals)
        order = {cv.name: column for column, cv in enumerate(self.cvs)}
        self._columns = [_as_slice([order[cv.name] for cv in bias.cvs]) for bias in biases]
        self._prefetch: tuple[str, ...] = ()
        self._prefetch_between: tuple[str, ...] = ()  # where no slow bias is due
        self.smooth: dict[str, bool] = {}
        self.flat = True

    @undisturbed
    def probe(self, positions: Tensor, gradients: bool = True) -> Tensor:
        """Evaluate once to check that the CVs work, and to learn which data splits they need together.

        `self.smooth` then says of each CV, by name, whether it has a gradient, and `self.flat` whether U = 0.

        Args:
            positions: [W, n].
            gradients: whether they will be asked for; else parts may do what torch cannot differentiate.

        Returns:
            The CVs, [W, k].
        """
        evaluation = Evaluation(self.system, _leaf(positions) if gradients else positions)
        before = positions.clone()
        with torch.set_grad_enabled(gradients):
            values = [(f"CV {cv.name!r}", _found(f"the CV {cv.name!r}", evaluation.value, cv)) for cv in self.cvs]
            energy = _found("the potential", self.system.energy, evaluation)
        if not torch.equal(positions, before):
            raise InputError(
                "ForceField: a CV or the potential changes the positions in place, so that a look at them would move "
                "the walkers; let it compute something new instead"
            )
        self.smooth = {cv.name: value.requires_grad for cv, (_, value) in zip(self.cvs, values, strict=True)}
        self.flat = energy is None
        for what, value in [*values, *([] if energy is None else [("the energy", energy)])]:
            if not isinstance(value, Tensor) or value.shape != positions.shape[:1]:
                shape = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"type {type(value).__name__}"
                raise InputError(
                    f"ForceField: {what} has {shape}, but one number for each of "
                    f"{len(positions)} walkers is needed; return a tensor of shape [W]"
                )
        if energy is None or bool(torch.isfinite(energy).all()):  # else that is told as the cause
            _refuse_infinite(values)
        self._prefetch = tuple(sorted(evaluation.requested))
        if self.slow:
            self._prefetch_between = self._requested_between(positions)
        nothing = positions.new_zeros((len(positions), 0), dtype=torch.float64)
        return torch.stack([value.detach().double() for _, value in values], dim=1) if values else nothing

    @torch.no_grad()
    def _requested_between(self, positions: Tensor) -> tuple[str, ...]:
        """The data splits that are needed where no slow bias is due."""
        evaluation = Evaluation(self.system, positions)
        self._energy_and_cvs(evaluation, self._due(lambda interval: interval == 1))
        return tuple(sorted(evaluation.requested))

    def columns_of(self, bias: Bias) -> slice | list[int]:
        """Columns of a bias's CVs in `cvs`."""
        return self._columns[self.biases.index(bias)]

    def intervals_of(self, cv: CollectiveVariable) -> list[int]:
        """Intervals of the biases that use a CV: its column is up to date at the multiples of any of them."""
        pairs = zip(self.biases, self.intervals, strict=True)
        return [interval for bias, interval in pairs if any(one.name == cv.name for one in bias.cvs)]

    @undisturbed
    def evaluate(self, positions: Tensor, index: Tensor | None = None) -> Evaluation:
        """A fresh evaluation at positions [W, n], of all points or of mini-batches [W, B], see `Evaluation`."""
        return Evaluation(self.system, _tracked(positions), self._prefetch, index)

    @undisturbed
    def batch_forces(self, positions: Tensor, index: Tensor) -> Forces:
        """Estimates of U and of its forces at positions [W, n], on the mini-batch [W, B] of each walker; no biases.

        They are those of U with the loss of the mini-batch in place of the train loss: where U is linear in that, their
        mean over random mini-batches is exact.
        """
        leaf = _leaf(positions)
        with torch.enable_grad():
            energy = self.system.energy(self.evaluate(leaf, index))
        assert energy is not None
        nothing = positions.new_zeros(len(positions), dtype=torch.float64)
        return Forces(energy.detach().double(), nothing, nothing.new_zeros((len(positions), 0)), _descent(energy, leaf))

    @undisturbed
    def loss_forces(self, positions: Tensor, index: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """U [W] of all points, and minus the gradient [W, n] of the train loss, for training, which follows that.

        With `index` [W, B] it is the gradient of the loss of each walker's mini-batch.
        """
        leaf = _leaf(positions)
        with torch.enable_grad():
            evaluation = self.evaluate(leaf, index)
            forces = _descent(evaluation.loss("train"), leaf)
        with torch.no_grad():
            energy = self.system.energy(evaluation if index is None else self.evaluate(positions))
        return self._plain(energy, positions), forces

    @undisturbed
    def value_and_gradient(self, positions: Tensor, of: str) -> tuple[Tensor, Tensor, Tensor]:
        """The train loss or U, as `of` is "loss" or "potential", [W], its gradient [W, n], and U [W]."""
        leaf = _leaf(positions)
        with torch.enable_grad():
            evaluation = self.evaluate(leaf)
            energy = self.system.energy(evaluation)
            value = evaluation.loss("train") if of == "loss" else energy
            assert value is not None
            gradient = -_descent(value, leaf)
        return value.detach().double(), gradient, self._plain(energy, positions)

    @undisturbed
    def __call__(self, positions: Tensor, step: int, previous_cvs: Tensor | None = None) -> Forces:
        """Energies and forces at positions [W, n]; `step` is the time of moving biases, and says which are due.

        CVs that are not due keep the values of `previous_cvs` [W, k], and the bias energy is that of the biases there;
        without `previous_cvs` all CVs are computed.
        """
        leaf = _leaf(positions)
        due = self._due(lambda interval: step % interval == 0)
        with torch.enable_grad():
            if previous_cvs is None or len(due) == len(self.cvs):
                energy, s, columns = self._energy_and_cvs(self.evaluate(leaf))
            else:
                energy, s, columns = self._energy_and_cvs(self._evaluate_at(leaf, step), due, previous_cvs)
        bias_energy, slope = self._bias(s, step)
        gradient = None
        with torch.enable_grad():
            # Their sum has the gradient of U + V; one number, since for several torch loads a part of its compiler.
            terms = [energy.sum()] if energy is not None and energy.requires_grad else []
            for j, column in columns.items():
                if j in due and column.requires_grad:
                    terms.append(torch.dot(column, slope[:, j].to(column.dtype)))
            if terms:
                (gradient,) = torch.autograd.grad(sum(terms[1:], terms[0]), leaf, allow_unused=True)
        forces = torch.zeros_like(positions) if gradient is None else gradient.neg()
        return Forces(self._plain(energy, positions), bias_energy, s, forces)

    @undisturbed
    @torch.no_grad()
    def energies(self, positions: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Energy [W], bias energy [W] and cvs [W, k] without gradients, for Monte Carlo."""
        energy, s, _ = self._energy_and_cvs(self.evaluate(positions))
        return self._plain(energy, positions), self.bias_energy(s, step), s

    @torch.no_grad()
    def bias_energy(self, s: Tensor, step: int) -> Tensor:
        """Sum of the bias energies, [W], at s [W, k]."""
        total = torch.zeros(len(s), dtype=torch.float64, device=s.device)
        for bias, columns in zip(self.biases, self._columns, strict=True):
            total = total + bias.energy(s[:, columns], step)
        return total

    def allows(self, s: Tensor) -> Tensor:
        """Whether a Monte Carlo move may lead each walker to s [W, k], for all biases, [W]."""
        allowed = torch.ones(len(s), dtype=torch.bool, device=s.device)
        for bias, columns in zip(self.biases, self._columns, strict=True):
            allowed &= bias.allows(s[:, columns])
        return allowed

    def update_biases(self, s: Tensor, step: int) -> bool:
        """Let every bias that is due learn from the walkers at s [W, k]; True if forces must be computed anew."""
        parts = zip(self.biases, self._columns, self.intervals, strict=True)
        # a list, because any() stops at the first that is true, and all must learn
        return any([bool(bias.update(s[:, columns], step)) for bias, columns, k in parts if step % k == 0])  # noqa: C419

    def start_biases(self, s: Tensor) -> None:
        """Let every bias refuse a useless start at s [W, k]."""
        for bias, columns in zip(self.biases, self._columns, strict=True):
            bias.start(s[:, columns])

    def _due(self, is_due: Callable[[int], bool]) -> Collection[int]:
        """Columns of the CVs of those biases that are due, given which intervals are."""
        every = range(len(self.cvs))
        if not self.slow:
            return every
        pairs = zip(self._columns, self.intervals, strict=True)
        due = [every[columns] if isinstance(columns, slice) else columns for columns, k in pairs if is_due(k)]
        return {j for columns in due for j in columns}

    def _evaluate_at(self, positions: Tensor, step: int) -> Evaluation:
        """A fresh evaluation at positions [W, n] of a step at which some bias is not due."""
        between = all(interval == 1 or step % interval for interval in self.intervals)
        return Evaluation(self.system, positions, self._prefetch_between if between else self._prefetch)

    def _energy_and_cvs(
        self, evaluation: Evaluation, due: Collection[int] | None = None, previous: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor, dict[int, Tensor]]:
        """U, the cvs [W, k] and, of those columns that are due (None is all), the CVs with their graphs.

        The others are those of `previous` [W, k], or NaN.
        """
        energy = self.system.energy(evaluation)
        columns = {j: evaluation.value(cv) for j, cv in enumerate(self.cvs) if due is None or j in due}
        nothing = evaluation.positions.new_zeros((len(evaluation.positions), 0), dtype=torch.float64)
        if not self.cvs:
            return energy, nothing, columns
        if previous is None:
            previous = nothing.new_full((len(nothing), len(self.cvs)), torch.nan)
        every = range(len(self.cvs))
        s = [columns[j].detach().double() if j in columns else previous[:, j] for j in every]
        return energy, torch.stack(s, dim=1), columns

    @torch.no_grad()
    def _bias(self, s: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Sum of the bias energies [W] and the gradient dV/ds [W, k] that acts at a step."""
        total = torch.zeros(len(s), dtype=torch.float64, device=s.device)
        slope = torch.zeros_like(s)
        for bias, columns, interval in zip(self.biases, self._columns, self.intervals, strict=True):
            if step % interval:
                total += bias.energy(s[:, columns], step)
                continue
            value, gradient = bias.energy_and_gradient(s[:, columns], step)
            total += value
            if interval > 1:
                gradient = interval * gradient
            if isinstance(columns, slice):
                slope[:, columns] += gradient
            else:  # a bias may use one CV twice, and both gradients count
                slope.index_add_(1, torch.tensor(columns, device=s.device), gradient)
        return total, slope

    @staticmethod
    def _plain(energy: Tensor | None, positions: Tensor) -> Tensor:
        if energy is None:
            return torch.zeros(len(positions), dtype=torch.float64, device=positions.device)
        return energy.detach().double()


def _leaf(positions: Tensor) -> Tensor:
    """The positions [W, n] as what gradients are taken by."""
    return _tracked(positions).detach().requires_grad_()


def _tracked(positions: Tensor) -> Tensor:
    """The positions as a tensor of which torch keeps graphs, which those made under `torch.inference_mode` are not."""
    return positions.clone() if positions.is_inference() else positions


def _refuse_infinite(values: Iterable[tuple[str, Tensor]]) -> None:
    """Raise `DivergedError` if one of the CVs [W], each with what it is called, is no number at the start."""
    for what, value in values:
        bad, value = ~torch.isfinite(value), value.detach()
        if bool(bad.any()):
            walker = int(bad.nonzero()[0])
            raise DivergedError(
                f"step 0: the {what} of walker {walker} is {float(value[walker]):g} at the start; change the start or "
                "the CV"
            )


def _found(what: str, find: Callable[[Any], Any], of: Any) -> Any:
    """What is found, or an `InputError` that names it: parts of the user's own may raise anything."""
    try:
        return find(of)
    except InputError:
        raise
    except NNSimError as error:
        raise InputError(str(error)) from error
    except Exception as error:
        raise InputError(f"{what} fails: {type(error).__name__}: {first_line(error)}; repair it") from error


def _descent(energy: Tensor, leaf: Tensor) -> Tensor:
    """Minus the gradient [W, n] of energies [W], each of its own walker's positions."""
    if not energy.requires_grad:  # constant, or it would have been refused
        return torch.zeros_like(leaf)
    with torch.enable_grad():
        total = energy.sum()
    return torch.autograd.grad(total, leaf, materialize_grads=True)[0].neg()


def _as_slice(columns: list[int]) -> slice | list[int]:
    """Neighbouring columns as a slice, which selects a view, many times faster than a list does."""
    if columns and columns == list(range(columns[0], columns[0] + len(columns))):
        return slice(columns[0], columns[0] + len(columns))
    return columns


def unique_by_name(things: Iterable[Any], what: str) -> tuple[Any, ...]:
    """The things without repetitions; raises `InputError` where two different ones share a name."""
    found: dict[str, Any] = {}
    for thing in things:
        known = found.setdefault(folder_name(thing.name), thing)
        if known is not thing and (known.name != thing.name or not same(known, thing)):
            raise InputError(
                f"two different {what} are called {thing.name!r}; give one of them another name"
                f"{difference(known, thing)}"
            )
    return tuple(found.values())


def difference(one: Any, other: Any) -> str:
    """The first way in which two things of one name differ, in brackets; nothing where that is not known."""
    found = Differences()
    if one is not None and other is not None:
        found.compare(identity(one), identity(other), "")
    return f" ({found.lines[0]})" if found.changed else ""
