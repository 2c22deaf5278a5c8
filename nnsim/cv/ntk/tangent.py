r"""The empirical neural tangent kernel of any module on any points.

    K[(i, a), (j, b)] = sum over the parameters of d f_a(x_i) / d theta  d f_b(x_j) / d theta

with `outputs="all"`, of size N O, sample-major; and its mean over the outputs a = b with `outputs="mean"`, of size N.

Every parameter is dealt with in the first of these ways that gives the right result for it:

1. plain dense networks, all walkers together and the output gradients written out (`dense.py`);
2. layers with a rule, from their inputs and output gradients, by one forward and O backward passes (`layers.py`);
3. any other parameter, by its Jacobian in pieces (`jacobian.py`).

References: arXiv 2410.07451; A. Jacot, F. Gabriel, C. Hongler, arXiv 1806.07572; layer-wise products: R. Novak,
J. Sohl-Dickstein, S. S. Schoenholz, arXiv 2206.08720.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from nnsim.cv.ntk import dense
from nnsim.cv.ntk.factors import PIECE, Factor
from nnsim.cv.ntk.jacobian import JacobianRows
from nnsim.cv.ntk.layers import Rule, rule_of
from nnsim.cv.ntk.layerwise import LayerwiseFactors, OtherCalls, called_once, record
from nnsim.errors import InputError, first_line, require_choice, require_integer, require_number
from nnsim.networks.call import Caller
from nnsim.networks.checks import alike, refuse_unfit
from nnsim.networks.layout import Layout
from nnsim.networks.memory import free_bytes, readable
from nnsim.networks.modes import undisturbed

OUTPUTS = ("mean", "all")
METHODS = ("auto", "layerwise", "jacobian")
TRIAL_POINTS = 3


class TangentKernel:
    """How the kernel of one module is computed, settled once by a trial; then for any positions and points.

    Args:
        module: the network; its structure must stay as it is.
        layout: names and shapes of the parameters that count, in the order of the positions.
        example: some points [N, ...] to try it on, of the type that the module takes.
        dtype: type to compute in, that of the module.
        method: see `kernel`.
        check: look for modules that are random or mix points; a system has done so already.

    Attributes:
        outputs: O.
        rules: parameters with a rule, by the name of their layer; all layers of a plain dense network.
        rest: parameters whose Jacobian is computed.
    """

    def __init__(
        self,
        module: nn.Module,
        layout: Layout,
        example: Tensor,
        *,
        dtype: torch.dtype,
        method: str = "auto",
        check: bool = False,
    ) -> None:
        require_choice("ntk", "method", method, METHODS)
        self.module, self.layout, self.dtype = module, layout, dtype
        self.rules: dict[str, frozenset[str]] = {}
        self._known: dict[str, Rule] = {}
        self.rest: tuple[str, ...] = ()
        self._dense = None
        if method != "jacobian" and dense.fits(module) and len(layout.shapes) == len(list(module.parameters())):
            self._dense = dense.DenseFactors(module, layout)
            self._refuse_other_shape(example)
            self.outputs = self._dense.outputs
            self._point_bytes, self._rest_bytes = self._dense.point_bytes(dtype.itemsize), 0
            return
        with self._twice_differentiable():
            self._settle(example, method, check)
        if method == "layerwise" and self.rest:
            raise InputError(
                f"ntk: method = 'layerwise', but there is no rule for {', '.join(self.rest)}; use method='auto'"
            )

    # ------------------------------------------------------------------ results

    @undisturbed
    def kernel(
        self,
        positions: Tensor,
        x: Tensor,
        *,
        outputs: str = "mean",
        batch_size: int | None = None,
        max_memory: float | None = None,
    ) -> Tensor:
        """K [W, size, size] at positions [W, n] and points x [N, ...]; see the function `kernel`."""
        require_choice("ntk", "outputs", outputs, OUTPUTS)
        try:
            return self._kernel(positions, x, outputs, batch_size, max_memory)
        except OtherCalls as error:
            self._give_up(error.layers)
        return self.kernel(positions, x, outputs=outputs, batch_size=batch_size, max_memory=max_memory)

    def _kernel(
        self, positions: Tensor, x: Tensor, outputs: str, batch_size: int | None, max_memory: float | None
    ) -> Tensor:
        walkers, batch = self._plan(positions, x, outputs, batch_size, max_memory, diagonal=False)
        with self._twice_differentiable():
            pieces = positions.split(walkers)
            # that of a single linear layer is the same for all walkers, and comes as one
            found = [self._blocks(some, x, outputs, batch).expand(len(some), -1, -1) for some in pieces]
        return found[0] if len(found) == 1 else torch.cat(found)

    @undisturbed
    def diagonal(
        self,
        positions: Tensor,
        x: Tensor,
        *,
        outputs: str = "mean",
        batch_size: int | None = None,
        max_memory: float | None = None,
    ) -> Tensor:
        """The diagonal of `kernel`, [W, size]."""
        require_choice("ntk", "outputs", outputs, OUTPUTS)
        try:
            return self._diagonal(positions, x, outputs, batch_size, max_memory)
        except OtherCalls as error:
            self._give_up(error.layers)
        return self.diagonal(positions, x, outputs=outputs, batch_size=batch_size, max_memory=max_memory)

    def _diagonal(
        self, positions: Tensor, x: Tensor, outputs: str, batch_size: int | None, max_memory: float | None
    ) -> Tensor:
        walkers, batch = self._plan(positions, x, outputs, batch_size, max_memory, diagonal=True)
        rows = []
        for some in positions.split(walkers):
            with self._twice_differentiable():
                pieces = [self._squares(some, part) for part in x.split(batch)]
            squares = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)
            found = squares.mean(-1) if outputs == "mean" else squares.flatten(1)
            rows.append(found.expand(len(some), -1))
        return rows[0] if len(rows) == 1 else torch.cat(rows)

    def _twice_differentiable(self) -> AbstractContextManager[None]:
        """Attention in the one of its ways that can be differentiated twice."""
        return nullcontext() if self._dense else sdpa_kernel(SDPBackend.MATH)

    def _blocks(self, positions: Tensor, x: Tensor, outputs: str, batch: int) -> Tensor:
        """K [W, size, size] of walkers that are dealt with together, block by block of points."""
        parts = x.split(batch)
        if self._dense is not None and len(parts) == 1 and outputs == "mean" and positions.requires_grad:
            return self._dense.mean_kernel(positions.to(self.dtype), x)
        rows: list[list[Tensor]] = [[] for _ in parts]
        for i, part in enumerate(parts):
            own = self._factors(positions, part)
            for j, other_part in enumerate(parts[:i]):
                block = self._products(own, self._factors(positions, other_part), outputs)
                rows[i].append(block)
                rows[j].append(block.mT)
            rows[i].append(self._products(own, own, outputs))
        if len(parts) == 1:
            return rows[0][0]
        return torch.cat([torch.cat(row, dim=-1) for row in rows], dim=-2)

    def _products(self, own: list[Factor], others: list[Factor], outputs: str) -> Tensor:
        """Sum over the layers of the products of their factors, [W or 1, size, size]."""
        total = _sum((a.mean(b) if outputs == "mean" else a.all(b)) for a, b in zip(own, others, strict=True))
        total = total if total.ndim == 3 else total[None]
        return total / self.outputs if outputs == "mean" and self.outputs > 1 else total

    def _squares(self, positions: Tensor, x: Tensor) -> Tensor:
        """Sum over the layers of the squares of J, [W or 1, N, O]."""
        total = _sum(factor.squares() for factor in self._factors(positions, x))
        return total if total.ndim == 3 else total[None]

    def _factors(self, positions: Tensor, x: Tensor) -> list[Factor]:
        """Factors of all parameters; of several walkers for dense networks, of one for others."""
        numbers = positions.to(self.dtype)
        if self._dense is not None:
            return self._dense.factors(numbers, x)
        tensors = self.layout.split(numbers[0])
        covectors = torch.eye(self.outputs, dtype=self.dtype, device=x.device)
        found = list(self._layerwise.factors(tensors, x, covectors).values())
        if self.rest:
            found.append(self._jacobian.factor(tensors, x, covectors))
        return found

    # ------------------------------------------------------------------ memory

    def _plan(
        self,
        positions: Tensor,
        x: Tensor,
        outputs: str,
        batch_size: int | None,
        max_memory: float | None,
        *,
        diagonal: bool,
    ) -> tuple[int, int]:
        """How many walkers and how many points are dealt with together; raises `InputError` if nothing fits."""
        walkers, points = len(positions), len(x)
        if batch_size is not None:
            batch_size = min(require_integer("ntk", "batch_size", batch_size, least=1), points)
        if max_memory is not None:
            allowed = require_number("ntk", "max_memory", max_memory, above=0.0)
        else:
            allowed = math.inf  # until it is known that there is much to do
        graph = torch.is_grad_enabled() and positions.requires_grad
        size = points if outputs == "mean" else points * self.outputs
        terms = len(self._dense.layers) if self._dense else len(self.rules) + 1
        # K, a sum and a product; a graph keeps two products of each layer, and the entropy its eigenvectors
        copies = (2 * terms + 4 if graph else 3) if not diagonal else 0
        result = copies * self.dtype.itemsize * size * (1 if diagonal else size)
        # A graph keeps the work of all points and walkers; without one only the kernels of all walkers are kept.
        others = 0 if graph else (walkers - 1) * self.dtype.itemsize * size * (1 if diagonal else size)

        def need(batch: int) -> int:
            jacobian = self._rest_bytes * batch * self.outputs
            if outputs == "mean" or diagonal:  # in pieces of some outputs
                jacobian = max(self._rest_bytes * batch, min(jacobian, PIECE))
            return self._point_bytes * batch * (2 if graph else 1) + jacobian * (7 if graph else 4)

        least = others + (walkers if graph else 1) * (result + need(points if graph else batch_size or 1))
        if max_memory is None and others + walkers * (result + need(points)) > PIECE:
            allowed = 0.5 * free_bytes(x.device)
        if least > allowed:
            raise InputError(
                f"ntk: the kernel of {points} points and {self.outputs} outputs (outputs={outputs!r}, size {size}) "
                f"needs about {readable(least)}, but {readable(allowed)} may be used; use fewer points or subsamples"
                f"{', outputs=' + repr('mean') if outputs == 'all' else ''}, or raise max_memory"
            )
        batch = batch_size or points
        while batch > 1 and batch_size is None and not graph and others + result + need(batch) > allowed:
            batch = (batch + 1) // 2
        if self._dense is None:
            return 1, batch
        return max(1, int(min(walkers, (allowed - others) / max(result + need(batch), 1)))), batch

    # ------------------------------------------------------------------ which way for which parameter

    def _settle(self, example: Tensor, method: str, check: bool) -> None:
        """Try the module on a few points, and find which parameters the rules are right for."""
        # From all over the points, since the first may be special, such as sorted or of one class.
        few = example[torch.linspace(0, len(example) - 1, TRIAL_POINTS, device=example.device).round().long()]
        tensors = self._trial_tensors(few.device)
        self._try(few, check)
        candidates = {} if method == "jacobian" else self._candidates()
        outputs, calls = Caller(self.module).within(tensors, lambda: record(self.module, candidates, few))
        if outputs.ndim != 2 or len(outputs) != len(few):
            raise InputError(
                f"ntk: outputs have shape {tuple(outputs.shape)} for {len(few)} points; a module must return [N, O]"
            )
        self.outputs = outputs.shape[1]
        covector = torch.linspace(1.0, 2.0, self.outputs, dtype=self.dtype, device=few.device)[None]
        names = tuple(self.layout.shapes)
        exact = JacobianRows(self.module, names).rows(tensors, few, covector)
        whole = {
            layer: frozenset(own) for layer, own in candidates.items() if called_once(calls.get(layer, ()), len(few))
        }
        parts = dict(zip(names, exact.split(self.layout.sizes, 2), strict=True))
        whole = self._right(whole, tensors, few, covector, parts)
        # Turned around, because a layer that sorts its points sees them in the order given in one of the two.
        turned = {name: part.flip(0) for name, part in parts.items()}
        self.rules = self._right(whole, tensors, few.flip(0), covector, turned)
        ruled = {_join(layer, own) for layer, owns in self.rules.items() for own in owns}
        self.rest = tuple(name for name in names if name not in ruled)
        self._layerwise = LayerwiseFactors(self.module, self._known, self.rules)
        self._trial = tensors, few, covector
        self._point_bytes = self._measure(calls, few)
        self._settle_rest()

    def _settle_rest(self) -> None:
        self._settle_rest_bytes()
        self._jacobian = JacobianRows(self.module, self.rest)
        if self.rest:
            self._jacobian.vectorise(*self._trial)

    def _give_up(self, layers: frozenset[str]) -> None:
        """From now on take the Jacobian for layers that are not called with every point, as those of experts are."""
        lost = {_join(layer, own) for layer in layers for own in self.rules.pop(layer)}
        self.rest = tuple(name for name in self.layout.shapes if name in lost or name in self.rest)
        self._layerwise = LayerwiseFactors(self.module, self._known, self.rules)
        self._settle_rest()

    def _trial_tensors(self, device: torch.device) -> dict[str, Tensor]:
        """Parameters at which no gradient vanishes by chance: random ones, since a start may hold many zeros."""
        generator = torch.Generator(device).manual_seed(0)
        named = dict(self.module.named_parameters())
        return {
            name: named[name].detach() + 0.1 * torch.randn(shape, generator=generator, dtype=self.dtype, device=device)
            for name, shape in self.layout.shapes.items()
        }

    def _try(self, few: Tensor, check: bool) -> None:
        try:
            if check:
                refuse_unfit("ntk", self.module, few)
            else:
                with torch.no_grad():
                    self.module(few)
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"ntk: the module cannot evaluate points of shape {tuple(few.shape[1:])}: {first_line(error)}; "
                "give the shape that it takes"
            ) from error

    def _refuse_other_shape(self, example: Tensor) -> None:
        """A dense network takes points [N, features], or any shape of as many numbers if it flattens them itself."""
        assert self._dense is not None
        flattens = isinstance(next(self.module.children()), nn.Flatten)
        shape, features = tuple(example.shape[1:]), self._dense.features
        if not example.is_floating_point():
            raise InputError(
                f"ntk: the module cannot evaluate points of type {example.dtype}; give floating-point ones"
            )
        if example[0].numel() != features or (len(shape) != 1 and not flattens):
            raise InputError(
                f"ntk: the module cannot evaluate points of shape {shape}: its first layer takes {features} features; "
                "give the shape that it takes"
            )

    def _candidates(self) -> dict[str, list[str]]:
        """Layers with a rule whose parameters are theirs alone, with the names of those that count."""
        owners: dict[int, int] = {}
        for layer in self.module.modules():
            for p in layer._parameters.values():
                if p is not None:
                    owners[id(p)] = owners.get(id(p), 0) + 1
        found = {}
        for name, layer in self.module.named_modules():
            own = {key: p for key, p in layer._parameters.items() if p is not None}
            counting = [key for key in own if _join(name, key) in self.layout.shapes]
            alone = all(owners[id(p)] == 1 for p in own.values())
            if counting and alone and (rule := rule_of(layer)) is not None:
                self._known[name], found[name] = rule, counting
        return found

    def _right(
        self,
        layers: Mapping[str, frozenset[str]],
        tensors: Mapping[str, Tensor],
        few: Tensor,
        covector: Tensor,
        exact: Mapping[str, Tensor],
    ) -> dict[str, frozenset[str]]:
        """Those layers whose products of Jacobians are the ones of a few points that were computed one by one."""
        found = {}
        try:
            factors = LayerwiseFactors(self.module, self._known, layers).factors(tensors, few, covector)
        except OtherCalls as error:
            rest = {name: own for name, own in layers.items() if name not in error.layers}
            return self._right(rest, tensors, few, covector, exact)
        except RuntimeError:  # activation checkpointing finds other calls than it made, since they were noted
            return {}
        for layer, factor in factors.items():
            rows = torch.cat([exact[_join(layer, own)] for own in sorted(layers[layer])], dim=2)[:, 0]
            try:
                product = factor.mean(factor)
            except RuntimeError:  # shapes that the rule does not expect
                continue
            if alike(product, rows @ rows.T):
                found[layer] = layers[layer]
        return found

    def _measure(self, calls: Mapping[str, Sequence[tuple[Tensor, Tensor]]], few: Tensor) -> int:
        """Bytes that the work needs for each point."""
        total = few[0].numel() * few.element_size()
        for layer in self.rules:
            a, z = calls[layer][0]
            total += 2 * self._known[layer].work_bytes(a, z, self.outputs)
        return total

    def _settle_rest_bytes(self) -> None:
        """Bytes of the Jacobian of one output at one point."""
        sizes = zip(self.layout.shapes, self.layout.sizes, strict=True)
        self._rest_bytes = self.dtype.itemsize * sum(size for name, size in sizes if name in self.rest)


def _sum(terms: Iterable[Tensor]) -> Tensor:
    """The sum, in place where no graph is kept and the shapes allow it."""
    total: Tensor | None = None
    for term in terms:
        if total is None:
            total = term
        elif total.requires_grad or term.requires_grad or total.shape != term.shape or not total.is_contiguous():
            total = total + term
        else:
            total.add_(term)
    assert total is not None
    return total


def _join(layer: str, parameter: str) -> str:
    return f"{layer}.{parameter}" if layer else parameter
