r"""What one layer adds to the tangent kernel.

The kernel is a sum over layers of J J^T, with J the derivatives of the outputs by the parameters of the layer. A factor
stands for J at some points and gives its products with the J of other points, without storing J where that can be
avoided.

| symbol | meaning | shape |
|---|---|---|
| N, M | points of this factor and of the other | |
| O | outputs | |
| a | what goes into the layer | [..., N, f] or [N, T, f] with T tokens or pixels |
| g | derivatives of the outputs by what comes out of the layer | [..., N, O, h] or [N, O, T, h] |

A dense layer with inputs a and weights W has J = g (x) a, and for its bias J = g, so that
J J'^T = (a a'^T + 1) (g g'^T), elementwise: sums over N f and N O h numbers instead of N O f h.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

# A piece of work holds at most so many bytes beside its result.
PIECE = 64 * 2**20


class Factor(Protocol):
    """J of one layer at N points, in whatever form."""

    def mean(self, other: Factor) -> Tensor:
        """Sum over the outputs of J J'^T, [..., N, M]."""
        ...

    def all(self, other: Factor) -> Tensor:
        """J J'^T of all pairs of outputs, sample-major, [..., N O, M O]."""
        ...

    def squares(self) -> Tensor:
        """Sum over the parameters of J^2, [..., N, O]."""
        ...


class Outer(Factor):
    """J = g (x) (a, 1): a linear layer that each point passes once.

    Args:
        a: [..., N, f].
        g: [..., N, O, h], or None where the layer gives the outputs themselves (g is the identity, h = O).
        outputs: O.
        weight: whether the weights count.
        bias: whether a bias counts.
        product: (s [..., N, h], w [..., h]) if g_ioh = v_oh s_ih with sum_o v_oh^2 = w_h, as in the last hidden layer:
            the mean over the outputs then needs N h numbers instead of N O h.
    """

    def __init__(
        self,
        a: Tensor,
        g: Tensor | None,
        outputs: int,
        *,
        weight: bool = True,
        bias: bool = True,
        product: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        self.a, self.g, self.outputs, self.weight, self.bias = a, g, outputs, weight, bias
        self.product = product

    def _inner(self, other: Outer) -> Tensor:
        """Products of the inputs, (a, 1) (a', 1)^T, [..., N, M]."""
        if not self.weight:
            return self.a.new_ones((*self.a.shape[:-1], other.a.shape[-2]))
        inner = self.a @ other.a.mT
        return inner + 1 if self.bias else inner

    def mean(self, other: Outer) -> Tensor:  # type: ignore[override]
        """See `Factor`."""
        inner = self._inner(other)
        if self.g is None or other.g is None:
            return inner * self.outputs
        if self.product is not None and other.product is not None:
            (s, w), (s_other, _) = self.product, other.product
            return inner * ((s * w[..., None, :]) @ s_other.mT)
        return inner * (self.g.flatten(-2) @ other.g.flatten(-2).mT)

    def all(self, other: Outer) -> Tensor:  # type: ignore[override]
        """See `Factor`."""
        inner, size = self._inner(other), self.outputs
        if self.g is None or other.g is None:
            return torch.kron(inner, torch.eye(size, dtype=inner.dtype, device=inner.device))
        product = self.g.flatten(-3, -2) @ other.g.flatten(-3, -2).mT
        blocks = product.unflatten(-1, (-1, size)).unflatten(-3, (-1, size))  # [..., N, O, M, O]
        return (blocks * inner[..., :, None, :, None]).flatten(-2).flatten(-3, -2)

    def squares(self) -> Tensor:
        """See `Factor`."""
        inner = self.a.square().sum(-1) if self.weight else torch.zeros_like(self.a[..., 0])
        inner = (inner + 1 if self.bias else inner)[..., None]
        return inner.expand(*inner.shape[:-1], self.outputs) if self.g is None else inner * self.g.square().sum(-1)


Rows: TypeAlias = Callable[[slice], Tensor]


class Explicit(Factor):
    """J itself, made for a few outputs at a time and forgotten.

    Args:
        rows: gives J of a slice of the outputs, [N, O', p].
        outputs: O.
        row_bytes: of J for one output at all points.
    """

    def __init__(self, rows: Rows, outputs: int, row_bytes: int) -> None:
        self.rows, self.outputs = rows, outputs
        self.together = max(1, min(outputs, PIECE // max(row_bytes, 1)))

    def _slices(self, together: int) -> Iterator[slice]:
        for first in range(0, self.outputs, together):
            yield slice(first, min(first + together, self.outputs))

    def mean(self, other: Explicit) -> Tensor:  # type: ignore[override]
        """See `Factor`."""
        total: Tensor | None = None
        for some in self._slices(min(self.together, other.together)):
            own = self.rows(some).flatten(1)
            others = own if other is self else other.rows(some).flatten(1)
            product = own @ others.mT
            total = product if total is None else total + product
        assert total is not None
        return total

    def all(self, other: Explicit) -> Tensor:  # type: ignore[override]
        """See `Factor`."""
        own = self.rows(slice(0, self.outputs)).flatten(0, 1)
        others = own if other is self else other.rows(slice(0, self.outputs)).flatten(0, 1)
        return own @ others.mT

    def squares(self) -> Tensor:
        """See `Factor`."""
        return torch.cat([self.rows(some).square().sum(-1) for some in self._slices(self.together)], dim=1)


def tokens(a: Tensor, g: Tensor, *, weight: bool, bias: bool, groups: int = 1) -> Factor:
    """The factor of a linear layer that acts on each of T tokens (pixels) of a point, J = sum_t g_t (x) (a_t, 1).

    Either J itself or the products of all pairs of tokens, whichever costs less.

    Args:
        a: [N, T, groups f].
        g: [N, O, T, groups h].
        weight: whether the weights count.
        bias: whether a bias counts.
        groups: group k of the outputs of the layer takes group k of its inputs only.
    """
    count, f, h, outputs = a.shape[1], a.shape[2] // groups, g.shape[3] // groups, g.shape[1]
    if count == 1 and groups == 1:
        return Outer(a[:, 0], g[:, :, 0], outputs, weight=weight, bias=bias)
    if groups == 1 and count * count * (f + h * outputs) < f * h * outputs:
        return TokenPairs(g, lambda one, other: _linear_pairs(one, other, weight, bias), a)
    u = a.unflatten(2, (groups, f)).transpose(1, 2)  # [N, groups, T, f]
    d = g.unflatten(3, (groups, h)).permute(0, 3, 1, 4, 2)  # [N, groups, O, h, T]

    def rows(some: slice) -> Tensor:
        part = d[:, :, some]
        found = []
        if weight:
            product = (part.flatten(2, 3) @ u).unflatten(2, (-1, h))  # [N, groups, O', h, f]
            found.append(product.transpose(1, 2).flatten(2))
        if bias:
            found.append(part.sum(-1).transpose(1, 2).flatten(2))
        return found[0] if len(found) == 1 else torch.cat(found, dim=-1)

    return Explicit(rows, outputs, len(a) * groups * (f + 1) * h * a.element_size())


def _linear_pairs(one: Tensor, other: Tensor, weight: bool, bias: bool) -> Tensor:
    if not weight:
        return one.new_ones((*one.shape[:-1], other.shape[-2]))
    product = one @ other.mT
    return product + 1 if bias else product


def same_token(padding: int | None) -> Callable[[Tensor, Tensor], Tensor]:
    """The pairs of an embedding: 1 where two tokens [..., T, 1] and [..., T', 1] are the same and not padding."""

    def pairs(one: Tensor, other: Tensor) -> Tensor:
        same = one == other.mT
        return same if padding is None else same & (one != padding)

    return pairs


class TokenPairs(Factor):
    """J J'^T as a sum over pairs of tokens t, t' of (a_t . a'_t') (g_t . g'_t').

    Args:
        g: [N, O, T, h].
        pairs: gives the first product, [..., T, T'], of inputs [..., T, f] and [..., T', f].
        a: inputs of the layer, [N, T, f].
    """

    def __init__(self, g: Tensor, pairs: Callable[[Tensor, Tensor], Tensor], a: Tensor) -> None:
        self.g, self.pairs, self.a = g, pairs, a

    def _points(self, other: TokenPairs) -> Iterator[slice]:
        """Slices of the own points whose pairs with all others fit into one piece of work."""
        pair_bytes = self.g.shape[2] * other.g.shape[2] * len(other.g) * self.g.element_size()
        together = max(1, PIECE // max(pair_bytes, 1))
        for first in range(0, len(self.g), together):
            yield slice(first, first + together)

    def _inner(self, other: TokenPairs, some: slice) -> Tensor:
        """[N', T, M, T']."""
        a, b = self.a[some], other.a
        flat = self.pairs(a.flatten(0, 1), b.flatten(0, 1))
        return flat.view(len(a), a.shape[1], len(b), b.shape[1])

    def mean(self, other: TokenPairs) -> Tensor:  # type: ignore[override]
        """See `Factor`."""
        found, others = [], other.g.transpose(1, 2).flatten(0, 1).flatten(1)  # [M T', O h]
        for some in self._points(other):
            own = self.g[some].transpose(1, 2).flatten(0, 1).flatten(1)
            inner = self._inner(other, some)
            found.append(((own @ others.mT).view(inner.shape) * inner).sum((1, 3)))
        return torch.cat(found)

    def all(self, other: TokenPairs) -> Tensor:  # type: ignore[override]
        """See `Factor`."""
        outputs, found = self.g.shape[1], []
        for some in self._points(other):
            inner = self._inner(other, some)
            columns = []
            for a in range(outputs):
                own = self.g[some, a].flatten(0, 1)
                products = [(own @ other.g[:, b].flatten(0, 1).mT).view(inner.shape) for b in range(outputs)]
                columns.append(torch.stack([(product * inner).sum((1, 3)) for product in products], dim=-1))
            found.append(torch.stack(columns, dim=1))  # [N', O, M, O]
        return torch.cat(found).flatten(2).flatten(0, 1)

    def squares(self) -> Tensor:
        """See `Factor`."""
        inner = self.pairs(self.a, self.a)[:, None]
        return (self.g @ self.g.mT * inner).sum((-1, -2))
