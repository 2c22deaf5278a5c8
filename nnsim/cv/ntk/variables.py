r"""Collective variables and observables of the tangent kernel.

All that are asked for at the same positions share one kernel, and those that only need its diagonal compute that alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from nnsim.cv.ntk import measures
from nnsim.cv.ntk.tangent import OUTPUTS
from nnsim.cv.split import SPLITS, SplitCV
from nnsim.errors import InputError, require_choice, require_flag, require_integer
from nnsim.evaluation import Evaluation
from nnsim.protocols import Observable

if TYPE_CHECKING:
    from nnsim.state import State


@lru_cache(maxsize=64)
def subsample_indices(available: int, points: int, subsamples: int, seed: int) -> tuple[tuple[int, ...], ...]:
    """Numbers of the points of each random subsample, drawn without replacement within one.

    Args:
        available: number of points to choose from.
        points: of each subsample, at most `available`.
        subsamples: how many.
        seed: of `numpy.random.default_rng`; a seed gives the same subsamples everywhere.
    """
    generator = np.random.default_rng(seed)
    return tuple(tuple(sorted(generator.permutation(available)[:points].tolist())) for _ in range(subsamples))


@dataclass(frozen=True, kw_only=True)
class _NTKVariable(SplitCV):
    """What the CVs of the kernel share: which kernel it is."""

    points: int | None = None
    outputs: str = "mean"
    label: int | None = None
    subsamples: int = 1
    seed: int = 0
    kind: ClassVar[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        owner = type(self).__name__
        require_choice(owner, "outputs", self.outputs, OUTPUTS)
        for name, least in (("points", 1), ("label", 0), ("subsamples", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None or name in ("subsamples", "seed"):
                object.__setattr__(self, name, require_integer(owner, name, value, least=least))
        for name in {"normalised", "per_row"} & {field.name for field in fields(self)}:
            require_flag(owner, name, getattr(self, name))
        if self.points is None and self.subsamples > 1:
            raise InputError(
                f"{owner}: subsamples = {self.subsamples} of all points would be all the same; give points, such as 20"
            )

    @property
    def name(self) -> str:  # type: ignore[override]
        """Kind and split, such as `ntk_entropy_train`, followed by every setting that is not the default."""
        parts = [super().name]
        parts += ["all"] if self.outputs == "all" else []
        parts += [f"class{self.label}"] if self.label is not None else []
        if self.points is not None:
            parts.append(f"{self.points}points" if self.subsamples == 1 else f"{self.subsamples}x{self.points}points")
        parts += [f"seed{self.seed}"] if self.seed else []
        parts += ["normalised"] if getattr(self, "normalised", False) else []
        parts += ["per_row"] if getattr(self, "per_row", False) else []
        return "_".join(parts)

    # ------------------------------------------------------------------ kernels

    def _key(self, what: str) -> tuple[object, ...]:
        return ("ntk", what, *(getattr(self, field.name) for field in fields(_NTKVariable)))

    def _indices(self, evaluation: Evaluation) -> list[Tensor | None]:
        """Numbers of the points of each subsample; None is all points."""
        if self.label is None and self.points is None:
            return [None]
        targets = evaluation.targets(self.split)
        chosen = torch.arange(len(targets), device=targets.device)
        if self.label is not None:
            chosen = chosen[self._of_class(targets)]
        if self.points is None:
            return [chosen]
        if self.points > len(chosen):
            raise InputError(
                f"{type(self).__name__}: points = {self.points} must be at most the {len(chosen)} that there are"
                f"{'' if self.label is None else f' of class {self.label}'} in {self.split!r}; lower it"
            )
        drawn = subsample_indices(len(chosen), self.points, self.subsamples, self.seed)
        return [chosen[list(numbers)] for numbers in drawn]

    def _of_class(self, targets: Tensor) -> Tensor:
        if targets.ndim != 1 or targets.is_floating_point():
            raise InputError(
                f"{type(self).__name__}: label = {self.label} needs a classifier, with integer labels; leave it out"
            )
        found = torch.eq(targets, self.label)  # type: ignore[arg-type]
        if not bool(found.any()):
            raise InputError(
                f"{type(self).__name__}: no point of {self.split!r} has label = {self.label}; "
                f"there is {', '.join(map(str, targets.unique().tolist()))}"
            )
        return found

    def _kernels(self, evaluation: Evaluation) -> Tensor:
        """K [S, W, size, size] of S subsamples."""
        return self._kept(evaluation, "kernel", evaluation.tangent_kernel)

    def _diagonals(self, evaluation: Evaluation) -> Tensor:
        """Diagonals [S, W, size], of the kernels if those are there."""
        if evaluation.has(self._key("kernel")):
            return self._kernels(evaluation).diagonal(dim1=-2, dim2=-1)
        return self._kept(evaluation, "diagonal", evaluation.tangent_diagonal)

    def _kept(self, evaluation: Evaluation, what: str, compute: Callable[[str, Tensor | None, str], Tensor]) -> Tensor:
        def of_all() -> Tensor:
            return torch.stack([compute(self.split, index, self.outputs) for index in self._indices(evaluation)])

        return evaluation.keep(self._key(what), of_all)


@dataclass(frozen=True, kw_only=True)
class NTKEntropy(_NTKVariable):
    r"""Entropy of the tangent kernel, S = -sum p ln p over its eigenvalues divided by their sum, in nats.

    Between 0 (all points move together) and ln of the kernel's size (all independently). Differentiable: it can be
    biased; on a large network evaluate the bias every few steps, as `Simulation(bias=[(bias, 5)])`.

    Args:
        split: `"train"` or `"test"`.
        points: take a random subsample of so many points; None is all.
        outputs: `"mean"` (the kernel is the mean over the outputs) or `"all"`, see `nnsim.cv.ntk.kernel`.
        label: only the points of this class.
        subsamples: average over so many subsamples of `points` each, always the same ones.
        seed: of the subsamples.
        normalised: divide by ln of the kernel's size.

    Raises:
        InputError: a number out of its range; when the simulation is made: a system without data, more points than
            there are, a label that no point has, too little memory.

    Reference: arXiv 2410.07451.
    """

    normalised: bool = False
    kind = "ntk_entropy"

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """S, [W]."""
        found = evaluation.keep(self._key("entropy"), lambda: measures.entropy(self._kernels(evaluation)).mean(0))
        return self._scaled(found, evaluation)

    def _scaled(self, entropy: Tensor, evaluation: Evaluation) -> Tensor:
        size = self._kernels(evaluation).shape[-1]
        return entropy / math.log(size) if self.normalised and size > 1 else entropy


@dataclass(frozen=True, kw_only=True)
class NTKTrace(_NTKVariable):
    r"""Trace of the tangent kernel: how fast the outputs can move. Differentiable, at the cost of N points, not N^2.

    Args:
        split, points, outputs, label, subsamples, seed: as in `NTKEntropy`.
        per_row: divide by the kernel's size.

    Raises:
        InputError: as `NTKEntropy`.

    Reference: arXiv 2410.07451.
    """

    per_row: bool = False
    kind = "ntk_trace"

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """Tr K, [W]."""
        diagonal = self._diagonals(evaluation).mean(0)
        return diagonal.mean(-1) if self.per_row else diagonal.sum(-1)


@dataclass(frozen=True, kw_only=True)
class NTKCovarianceEntropy(NTKEntropy):
    r"""Entropy of K_ij / sqrt(K_ii K_jj), which knows only the angles between the gradients of the points.

    Args:
        split, points, outputs, label, subsamples, seed, normalised: as in `NTKEntropy`.

    Raises:
        InputError: as `NTKEntropy`.

    Reference: arXiv 2410.07451.
    """

    kind = "ntk_covariance_entropy"

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """The entropy, [W], in nats."""
        return self._scaled(measures.covariance_entropy(self._kernels(evaluation)).mean(0), evaluation)


@dataclass(frozen=True, kw_only=True)
class NTKMagnitudeEntropy(_NTKVariable):
    r"""Shannon entropy of the magnitudes m_i = sqrt(K_ii) / sum_j sqrt(K_jj), in nats.

    Args:
        split, points, outputs, label, subsamples, seed: as in `NTKEntropy`.
        normalised: divide by ln of the kernel's size.

    Raises:
        InputError: as `NTKEntropy`.

    Reference: arXiv 2410.07451.
    """

    normalised: bool = False
    kind = "ntk_magnitude_entropy"

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """The entropy, [W]."""
        diagonals = self._diagonals(evaluation)
        return measures.magnitude_entropy(diagonals, normalised=self.normalised).mean(0)


@dataclass(frozen=True, kw_only=True)
class NTKMagnitudeVariance(_NTKVariable):
    r"""Variance over the n rows of n m_i, with m_i = sqrt(K_ii) / sum_j sqrt(K_jj): how unequal the gradients are.

    Args:
        split, points, outputs, label, subsamples, seed: as in `NTKEntropy`.

    Raises:
        InputError: as `NTKEntropy`.

    Reference: arXiv 2410.07451.
    """

    kind = "ntk_magnitude_variance"

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """The variance, [W]."""
        return measures.magnitude_variance(self._diagonals(evaluation)).mean(0)


@dataclass(frozen=True, kw_only=True)
class NTKSpectrum(_NTKVariable):
    """All eigenvalues of the tangent kernel, the largest first: an observable with a value for each rank.

    Of several subsamples it is the mean at each rank.

    Args:
        split, points, outputs, label, subsamples, seed: as in `NTKEntropy`.

    Raises:
        InputError: as `NTKEntropy`; and when it is given to a bias.

    Reference: arXiv 2410.07451.
    """

    kind = "ntk_spectrum"
    differentiable = False

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """Eigenvalues, [W, size]."""
        return measures.spectrum(self._kernels(evaluation)).mean(0)


@dataclass(frozen=True)
class LossDerivative(Observable):
    """Derivative of the mean loss by each output, dL / df: an observable of the shape of the outputs.

    With it the kernel says how an output moves under gradient flow: df / dt = -K dL / df.

    Args:
        split: `"train"` or `"test"`.

    Raises:
        InputError: an unknown split; when the simulation is made: a system without data.

    Reference: arXiv 2410.07451.
    """

    split: str = "train"

    def __post_init__(self) -> None:
        require_choice("LossDerivative", "split", self.split, SPLITS)

    @property
    def name(self) -> str:  # type: ignore[override]
        """`loss_derivative_train` or `loss_derivative_test`."""
        return f"loss_derivative_{self.split}"

    def observe(self, state: State, evaluation: Evaluation) -> Tensor:
        """dL / df, [W, N, O]."""
        outputs = evaluation.outputs(self.split).detach().requires_grad_()
        with torch.enable_grad():
            loss = evaluation.system.loss(outputs, self.split).sum()
        if not loss.requires_grad:
            raise InputError(
                f"LossDerivative: the {self.split} loss has no derivative by the outputs; give a loss that torch can "
                "differentiate, or leave LossDerivative out"
            )
        return torch.autograd.grad(loss, outputs, materialize_grads=True)[0]
