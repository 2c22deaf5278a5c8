r"""Whether gradients are derivatives: forces must be minus the gradient of the energy.

Autograd gives no gradient where numpy, `.item()` or `torch.no_grad` stand in between, and another one where a function
says so (a straight-through estimator, a hook, an embedding's `padding_idx`). So slopes along random directions d are
compared with central differences,

    D(h) = (f(q + h d) - f(q - h d)) / 2h

whose error is judged by the values themselves, where rounding, kinks and random numbers all show:

    error = max(|D(h) - D(h/2)|, |f(q + h d) - 4 f(q + h d/2) + 6 f(q) - 4 f(q - h d/2) + f(q - h d)| / h)

A slope is wrong if it differs from D(h/2) by several errors, for most walkers and along each direction.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor

from nnsim.networks.layout import places_of

Functions = Callable[[Tensor], Mapping[str, Tensor]]  # of positions [W, n]: values [W] by name

DIRECTIONS = 2
ERRORS = 5.0
SHARE = 0.5  # of the walkers
ROUNDING = 16.0  # rounding errors in a difference of two values
SINGLE, DOUBLE = torch.finfo(torch.float32).eps, torch.finfo(torch.float64).eps


class Slopes:
    """What is known of functions at some positions: values [W], and slopes of those that have a gradient.

    Args:
        functions: of positions [W, n].
        positions: [W, n], where no kink is expected.
        scale: size of the positions, [W, 1] or [1, n].
        eps: relative rounding error of the functions.
        gradients: [W, n] by name, if they do not come from autograd.

    Attributes:
        values: of each function.
        sizes: of the slopes along random directions, zero where the gradient is.
    """

    def __init__(
        self,
        functions: Functions,
        positions: Tensor,
        scale: Tensor,
        eps: float,
        gradients: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.functions, self.positions, self.scale, self.eps = functions, positions, scale, eps
        self.directions = [scale * drawn(positions, seed) for seed in range(DIRECTIONS)]
        self.values: dict[str, Tensor] = {}
        self.sizes: dict[str, Tensor] = {}
        self._along: dict[str, list[Tensor]] = {}
        leaf = positions.detach().requires_grad_(gradients is None)
        with torch.set_grad_enabled(gradients is None):
            found = functions(leaf)
        for name, value in found.items():
            self.values[name] = value.detach().double()
            gradient = _gradient(value, leaf) if gradients is None else gradients[name]
            if gradient is not None:  # one after the other, since those of large networks take much memory
                self.sizes[name] = (gradient * scale).double().norm(dim=1)
                self._along[name] = [(gradient * one).sum(1).double() for one in self.directions]

    def wrong(self) -> dict[str, tuple[float, float]]:
        """Functions whose gradients are not their derivatives, with a slope by the gradient and by differences."""
        found: dict[str, tuple[float, float]] = {}
        names: Collection[str] = list(self.sizes)
        for number in range(DIRECTIONS):
            found = self._wrong_along(number, names)
            names = list(found)
            if not names:
                break
        return found

    def worst(self, name: str, parameters: Mapping[str, tuple[int, ...]]) -> str:
        """The parameter tensor with the most wrong gradient of a function."""
        leaf, h, worst = self.positions.detach().requires_grad_(), self.eps ** (1 / 3), (0.0, "")
        with torch.enable_grad():
            gradient = _gradient(self.functions(leaf)[name], leaf)
        assert gradient is not None
        for tensor, part in places_of(parameters).items():
            direction = torch.zeros_like(self.positions)
            direction[:, part] = self.directions[0][:, part]
            up, down = (self._at(direction, sign * h)[name] for sign in (1, -1))
            off = (up - down) / (2 * h) - (gradient * direction).sum(1)
            worst = max(worst, (float(off.abs().nan_to_num(0, 0, 0).mean()), tensor))
        return worst[1]

    def _wrong_along(self, number: int, names: Collection[str]) -> dict[str, tuple[float, float]]:
        """Those of the names that are wrong along one direction.

        Where it is unclear a smaller step, which meets fewer kinks, decides.
        """
        found: dict[str, tuple[float, float]] = {}
        direction = self.directions[number]
        for h in (self.eps ** (1 / 3), 0.01 * self.eps ** (1 / 3)):
            far = self._at(direction, h), self._at(direction, -h)
            names = [name for name in names if _share(self._off(name, number, h, *far)) > SHARE]
            if not names:
                break
            near = self._at(direction, h / 2), self._at(direction, -h / 2)
            for name in names:
                clear, measured = self._clearly_off(name, number, h, far, near)
                if _share(clear) > SHARE:
                    walker = int(clear.nonzero()[0])
                    found[name] = float(self._along[name][number][walker]), float(measured[walker])
            names = [name for name in names if name not in found]
            if self.eps > DOUBLE:  # a smaller step would only measure rounding
                break
        return found

    def _at(self, direction: Tensor, h: float) -> dict[str, Tensor]:
        with torch.no_grad():
            return {name: value.double() for name, value in self.functions(self.positions + h * direction).items()}

    def _off(self, name: str, number: int, h: float, up: dict[str, Tensor], down: dict[str, Tensor]) -> Tensor:
        """Whether slope and difference disagree by more than they must, [W]."""
        measured = (up[name] - down[name]) / (2 * h)
        return (measured - self._along[name][number]).abs() > self._tolerance(name, h, [up[name], down[name]])

    def _clearly_off(
        self, name: str, number: int, h: float, far: tuple[dict[str, Tensor], ...], near: tuple[dict[str, Tensor], ...]
    ) -> tuple[Tensor, Tensor]:
        """Whether they do so by several times the error of the difference, [W], and the difference [W]."""
        (up, down), (half_up, half_down) = ([values[name] for values in pair] for pair in (far, near))
        here = self.values[name]
        coarse, fine = (up - down) / (2 * h), (half_up - half_down) / h
        bend = (up - 4 * half_up + 6 * here - 4 * half_down + down).abs() / h
        error = torch.maximum((coarse - fine).abs(), bend)
        tolerance = self._tolerance(name, h / 2, [up, down, half_up, half_down, here])
        return (fine - self._along[name][number]).abs() > ERRORS * error + tolerance, fine

    def _tolerance(self, name: str, h: float, values: list[Tensor]) -> Tensor:
        """What a difference may be off by, [W]: terms of higher order, and rounding."""
        every = torch.stack(values)
        in_single = bool((every.float().double() == every).all())  # whatever the type is that they come in
        eps = max(self.eps, SINGLE) if in_single else self.eps
        # What is left of numbers as large as 1 is as coarse as they are; what is small by itself is not.
        rounding = eps * every.abs().amax(0)
        rounding = torch.where(_is_rest(every).all(0), rounding.clamp(min=DOUBLE), rounding)
        return max(1e-4, 4 * eps ** (1 / 3)) * self.sizes[name] + ROUNDING * rounding / h


def _is_rest(values: Tensor) -> Tensor:
    """Whether values may be differences of numbers of size 1: multiples of the spacing of those."""
    multiples = values * 2.0**54
    return ((multiples - multiples.round()).abs() < 1e-3) & ((values == 0) | (multiples.abs() > 0.5))


def drawn(positions: Tensor, seed: int) -> Tensor:
    """Unit normal numbers in the shape of the positions."""
    generator = torch.Generator(positions.device).manual_seed(seed)
    return torch.randn(positions.shape, generator=generator, device=positions.device, dtype=positions.dtype)


def _gradient(value: Tensor, leaf: Tensor) -> Tensor | None:
    if not value.requires_grad:
        return None
    with torch.enable_grad():
        total = value.sum()
    return torch.autograd.grad(total, leaf, retain_graph=True, materialize_grads=True)[0]


def _share(walkers: Tensor) -> float:
    """Of the walkers [W]; comparisons with NaN are false, so that those who left the domain do not count."""
    return float(walkers.double().mean())
