"""What is refused because its forces would not be minus the gradient of the energy."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from nnsim.errors import InputError, NNSimError, NNSimWarning, first_line
from nnsim.evaluation import Evaluation
from nnsim.forcefield import ForceField
from nnsim.precision import Precision
from nnsim.protocols import Bias, Integrator, System
from nnsim.running.checks.gradients import DIRECTIONS, DOUBLE, Functions, Slopes, drawn

WALKERS = 4  # that are looked at in double precision
AWAY = 0.1  # of the size of the positions: how far from the start gradients are looked at


class _Fault(NamedTuple):
    """What is wrong with a function, what to do, and whether there is a gradient to follow."""

    text: str
    remedy: str = "write it so that torch can differentiate it, or use MonteCarlo"
    has_gradient: bool = False


def check_gradients(
    integrator: Integrator, force_field: ForceField, positions: Tensor, s: Tensor, precision: Precision
) -> None:
    """Refuse a dynamics whose forces are not those of its energies.

    Training follows the gradient whatever it is, as that of a straight-through estimator: there it is only warned of.

    Args:
        integrator: one that needs no gradients is content with everything.
        force_field: after its `probe`.
        positions: start of the walkers, [W, n].
        s: their CVs, [W, k].
        precision: of the run.
    """
    if not integrator.needs_gradients:
        return
    who, trains = type(integrator).__name__, integrator.follows_loss
    for bias in force_field.biases:
        _check_bias(who, force_field, bias, s[:, force_field.columns_of(bias)])
    if not (trains or force_field.cvs or not force_field.flat):
        return
    fault = _fault(who, force_field, trains, positions, precision)
    if fault is None:
        return
    if trains and fault.has_gradient:
        warnings.warn(f"{who} follows the gradient that torch gives, but {fault.text}", NNSimWarning, stacklevel=4)
        return
    raise InputError(f"{who} needs forces, but {fault.text}; {fault.remedy}")


# ---------------------------------------------------------------------- biases


def _check_bias(who: str, force_field: ForceField, bias: Bias, s: Tensor) -> None:
    """Refuse a bias that exerts no force, or one whose gradient is not that of its energy, at s [W, k] or around it."""
    if not bias.differentiable:
        raise InputError(
            f"{who} needs forces, but the bias {bias.name!r} has none: it is constant in each bin; "
            "use Grid(kind='spline') or a Monte Carlo integrator"
        )
    for cv in bias.cvs:
        if not force_field.smooth[cv.name]:
            raise InputError(
                f"{who} needs forces, but the CV {cv.name!r} of the bias {bias.name!r} does not depend on the "
                "positions in a way torch can differentiate; use a smooth CV or a Monte Carlo integrator"
            )
    size = s.abs().mean(0, keepdim=True)
    size = torch.where(size > 0, size, 1.0)
    noise = drawn(s, DIRECTIONS)
    for away in (0.0, 0.03, 0.3):
        try:
            wrong = _wrong_slope(bias, s + away * size * noise, size)
        except NNSimError:
            raise
        except Exception as error:
            if away:  # a bias of the user's own need not be defined everywhere
                continue
            raise InputError(
                f"the bias {bias.name!r} fails: {type(error).__name__}: {first_line(error)}; repair it"
            ) from error
        if wrong is not None:
            raise InputError(
                f"{who} needs forces, but the gradient of the bias {bias.name!r} is {wrong[0]:.4g} where that of its "
                f"energy, by finite differences, is {wrong[1]:.4g}; repair gradient(), or leave it to the protocol"
            )


def _wrong_slope(bias: Bias, s: Tensor, size: Tensor) -> tuple[float, float] | None:
    gradient = {"V": bias.energy_and_gradient(s, 0)[1].detach().double()}
    return Slopes(lambda x: {"V": bias.energy(x, 0)}, s, size, DOUBLE, gradient).wrong().get("V")


# ---------------------------------------------------------------------- energy, loss and CVs


def _fault(who: str, force_field: ForceField, trains: bool, positions: Tensor, precision: Precision) -> _Fault | None:
    """What is wrong with the functions that forces are made of, in the order of cause and effect; None if all is well.

    They are looked at in double precision with few walkers and points, or else, where a part of the user's own does not
    allow that, as they are.
    """
    exact = force_field.system.exact(positions.device)
    if exact is not None:
        try:
            return _fault_of(exact, _functions(exact, force_field, trains), positions[:WALKERS].double(), DOUBLE)
        except Exception:  # of any type: what is meant for all walkers and points need not work with some
            pass
    system, eps = force_field.system, torch.finfo(precision.network).eps
    try:
        return _fault_of(system, _functions(system, force_field, trains), positions, eps)
    except InputError:
        if trains:  # the integrator says better what it needs
            return None
        raise
    except Exception as error:
        raise InputError(
            f"{who} needs forces, but they cannot be computed: {type(error).__name__}: {first_line(error)}; "
            "repair the module, loss, potential or CV, or use MonteCarlo"
        ) from error


def _functions(system: System, force_field: ForceField, trains: bool) -> Functions:
    """All of them at positions [W, n], [W] each, by what they are called in messages."""

    def of_all(positions: Tensor) -> Mapping[str, Tensor]:
        evaluation = Evaluation(system, positions)
        if trains:
            evaluation.loss("train")
            return dict(_outputs_and_losses(evaluation))
        goals = {f"the potential {name}": term for name, term in system.energy_terms(evaluation).items()}
        goals |= {f"the CV {cv.name!r}": evaluation.value(cv) for cv in force_field.cvs}
        return {**dict(_outputs_and_losses(evaluation)), **goals}

    return of_all


def _outputs_and_losses(evaluation: Evaluation) -> Iterator[tuple[str, Tensor]]:
    """A mean of the outputs, and the loss, of each split that was asked for."""
    for split in sorted(evaluation.requested):
        outputs = evaluation.outputs(split).flatten(1)
        weights = torch.linspace(1, 2, outputs.shape[1], dtype=outputs.dtype, device=outputs.device)
        yield f"the module's mean output on the {split} points", (outputs * weights).mean(1)
        if evaluation.has(("loss", split)):
            yield f"the {split} loss", evaluation.loss(split)


def _fault_of(system: System, functions: Functions, start: Tensor, eps: float) -> _Fault | None:
    """The fault of the first function that has one."""
    size = start.square().mean(1, keepdim=True).sqrt()
    size = torch.where(size > 0, size, 1.0)
    here = _away(system, functions, start, size, eps)
    wrong = here.wrong()
    others = [start + away * size * drawn(start, DIRECTIONS + 1) for away in (0.0, 1.0, 10.0)]
    for name in here.values:
        if name not in here.sizes:
            if _varies(name, here, others):
                return _Fault(
                    f"{name} has no gradient: numpy, .item(), .detach(), torch.no_grad or argmax stand between the "
                    "positions and its value"
                )
            continue
        if not bool(here.sizes[name].any()):
            if _varies(name, here, others) and not _has_slopes(name, here, others):
                return _Fault(f"{name} is constant in pieces, with a gradient of 0 in each")
            continue
        if name.endswith(" loss") and not _varies(name, here, others):
            value = float(here.values[name][0])
            return _Fault(
                f"{name} is {value:.4g} wherever the walkers are, so its gradient is made of rounding errors",
                "let the outputs of the module depend on its parameters, and differ from each other",
            )
        if name in wrong:
            given, measured = wrong[name]
            tensor = here.worst(name, system.parameters)
            return _Fault(
                f"the gradient of {name} is not its derivative (slopes of {given:.4g} and {measured:.4g}), most of all "
                f"by {tensor!r} (as with a straight-through estimator, an own backward, a hook on gradients, "
                "padding_idx or scale_grad_by_freq of an embedding, checkpoint(use_reentrant=True), or .detach())",
                has_gradient=True,
            )
    return None


def _varies(name: str, here: Slopes, others: list[Tensor]) -> bool:
    """Whether a function has another value, by more than rounding, at any of the other positions for any walker."""
    for place in others:
        with contextlib.suppress(Exception), torch.no_grad():  # it need not be defined everywhere
            there, value = here.functions(place)[name].double(), here.values[name]
            if bool(((there - value).abs() > 8 * here.eps * (there.abs() + value.abs())).any()):
                return True
    return False


def _has_slopes(name: str, here: Slopes, others: list[Tensor]) -> bool:
    """Whether a function has a gradient other than 0 at any of the other positions."""
    for place in others:
        with contextlib.suppress(Exception):
            if bool(Slopes(here.functions, place, here.scale, here.eps).sizes[name].any()):
                return True
    return False


def _away(system: System, functions: Functions, start: Tensor, size: Tensor, eps: float) -> Slopes:
    """The functions a little away from the start, where no ReLU is just at its kink.

    Nearer where they are not finite, as beyond the edge of what a potential is defined for.
    """
    noise = drawn(start, DIRECTIONS)
    for away in (AWAY, 0.01 * AWAY, 1e-4 * AWAY, 0.0):
        place = start + away * size * noise
        system.box.confine_(place)
        try:
            here = Slopes(functions, place, size, eps)
        except Exception:
            if not away:
                raise
            continue
        if all(bool(torch.isfinite(value).all()) for value in here.values.values()):
            break
    return here
