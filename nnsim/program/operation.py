"""What a program is made of: operations, and the numbers in them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

if TYPE_CHECKING:
    from nnsim.forcefield import ForceField
    from nnsim.state import State


@dataclass(frozen=True, eq=False)
class Scheduled:
    """A number that depends on the step: `at(step)`, a float, or one for each walker [W, 1]."""

    at: Callable[[int], float | Tensor]


@dataclass(frozen=True, eq=False)
class FromState:
    """`factor` times what an operation before it in the step has left in `integrator_state[name]`, [W, 1]."""

    name: str
    factor: float = 1.0


# A float, one for each walker [W, 1] or parameter [n] or both [W, n], or one that is known only at the step. Those for
# each walker may be more precise than the state: what is made of them is brought to its type last, by `like`.
Known = float | Tensor | Scheduled  # without a state
Number = Known | FromState


def number(value: Number, state: State) -> float | Tensor:
    """What a number is in the present step."""
    if isinstance(value, FromState):
        return state.integrator_state[value.name] * value.factor
    return at_step(value, state.step)


def at_step(value: Known, step: int) -> float | Tensor:
    """What a number is at a step, if no state is needed to know it."""
    return value.at(step) if isinstance(value, Scheduled) else value


def like(value: float | Tensor, other: Tensor) -> float | Tensor:
    """The same, if it is a tensor in the type and on the device of another one."""
    return value.to(other) if isinstance(value, Tensor) else value


class Operation(ABC):
    """One thing that a step does to the state; a frozen dataclass of the numbers that it needs.

    Step and generator of the state are known to all of them, and so is the force field.

    Attributes:
        READS: fields of the state that it reads: those of `State`, or names in `integrator_state`.
        WRITES: fields that it changes in place or replaces, or, of those that last for a part of a step, takes away.
    """

    READS: ClassVar[tuple[str, ...]] = ()
    WRITES: ClassVar[tuple[str, ...]] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """`READS`, and the fields that its numbers are taken from."""
        numbers = [getattr(self, one.name) for one in fields(self)]  # type: ignore[arg-type]
        return tuple(dict.fromkeys([*self.READS, *(one.name for one in numbers if isinstance(one, FromState))]))

    @property
    def writes(self) -> tuple[str, ...]:
        """`WRITES`, unless they depend on its settings."""
        return self.WRITES

    @abstractmethod
    def apply(self, state: State, force_field: ForceField) -> None:
        """Do it in torch, for all walkers; `state.step` is the number of the step that is being made."""


@dataclass(frozen=True, eq=False)
class Repeat(Operation):
    """Operations, so many times one after the other."""

    times: int
    operations: tuple[Operation, ...]

    @property
    def reads(self) -> tuple[str, ...]:
        """All that is read."""
        return tuple(dict.fromkeys(name for one in self.operations for name in one.reads)) if self.times else ()

    @property
    def writes(self) -> tuple[str, ...]:
        """All that is written."""
        return tuple(dict.fromkeys(name for one in self.operations for name in one.writes)) if self.times else ()

    def apply(self, state: State, force_field: ForceField) -> None:
        """Each time all of them."""
        for _ in range(self.times):
            for operation in self.operations:
                operation.apply(state, force_field)


def execute(operations: Iterable[Operation], state: State, force_field: ForceField) -> State:
    """One step: all operations in their order, with `state.step` the number of the new step; returns the state."""
    state.step += 1
    for operation in operations:
        operation.apply(state, force_field)
    return state
