"""A Wang-Landau bias with a schedule of its own, as a user would write it; `test_own_biases.py` runs it."""

from nnsim.bias import WangLandau
from nnsim.schedules import IncrementSchedule


class Stairs(IncrementSchedule):
    """The increment is divided by ten each `length` deposits."""

    def __init__(self, first: float, length: int) -> None:
        self.first, self.length = first, length

    def increment(self, deposits: int) -> float:
        return self.first / 10.0 ** (deposits // self.length)


class Stepwise(WangLandau):
    """Wang-Landau sampling by stairs."""

    def __init__(self, cvs, grid, first=1e-3, length=100_000, name="stepwise", **more):
        super().__init__(cvs, grid, Stairs(first, length), name=name, **more)

    def describe(self):
        return {"note": "stairs", **super().describe()}


class Blunt(Stepwise):
    """One that deposits at every second step only, which native code would leave out."""

    def update(self, s, step, mask=None):
        if step % 2 == 0:
            super().update(s, step, mask)
