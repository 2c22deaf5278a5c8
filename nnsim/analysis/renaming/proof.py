"""By what it is known that other names of neurons leave a network's function as it is; without it they are refused."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnsim.analysis.landscape.axes import Floats
from nnsim.analysis.motion.blocks import Shapes
from nnsim.analysis.renaming.chain import Chain, Naming, chain_of
from nnsim.analysis.renaming.structure import is_chain, require_chain_by_names, require_chain_by_text
from nnsim.errors import InputError, NNSimWarning

if TYPE_CHECKING:
    from nnsim.networks.renaming import Network


@dataclass(frozen=True)
class Grounds:
    """What may be asked.

    Args:
        text: the module as a trajectory recorded it, or None.
        system: a `NeuralNetwork`, or a `Simulation` of one.
        module: a torch module, in place of a system.
        points: inputs of the network, [N, ...]; of a system they are those of its train data.
        check: whether anything need be asked.
    """

    text: str | None = None
    system: Any = None
    module: Any = None
    points: Any = None
    check: bool = True

    def chain(self, owner: str, parameters: Shapes, q: Floats, signs: bool) -> tuple[Chain, str]:
        """The layers of a network, and how it is known that their neurons can be renamed.

        Args:
            owner: who asks, for messages.
            parameters: names and shapes of the tensors.
            q: parameters of one of the networks, [n].
            signs: whether signs are to be changed, too.

        Returns:
            The chain, and `"points"`, `"module"`, `"names"` or `"none"`.

        Raises:
            InputError: tensors that make no chain, or a renaming that is not known to change nothing.
        """
        chain = chain_of(owner, parameters)
        if not self.check:
            return chain, "none"
        module, points = self._network(owner)
        if points is not None:
            from nnsim.networks.renaming import Network

            _require_the_same_on_points(owner, chain, Network(owner, module, parameters, points), q, signs)
            return chain, "points"
        text = self.text if module is None else str(module)
        if text is not None:
            try:
                require_chain_by_text(owner, parameters, text, signs)
            except InputError:
                if module is None or not _is_chain(module, parameters, signs):
                    raise
            return chain, "module"
        require_chain_by_names(owner, parameters)
        if signs:
            warnings.warn(
                f"{owner}: names and shapes do not tell whether the activation is odd, without which other signs of "
                "neurons make another network; give system= or module=, or check=False if it is",
                NNSimWarning,
                stacklevel=4,
            )
        return chain, "names"

    def _network(self, owner: str) -> tuple[Any, Any]:
        """The module and points that are given."""
        if self.system is None:
            if self.points is not None and self.module is None:
                raise InputError(f"{owner}: points without a network; give module=, too")
            return self.module, self.points
        if self.module is not None:
            raise InputError(f"{owner}: give system or module, not both")
        system = getattr(self.system, "system", self.system)  # a simulation has a system
        module = getattr(system, "module", None)
        if module is None or not hasattr(system, "points"):
            raise InputError(f"{owner}: system = {type(system).__name__} has no torch module; give module= and points=")
        return module, system.points("train") if self.points is None else self.points


def _is_chain(module: Any, parameters: Shapes, signs: bool) -> bool:
    """Whether a module that is at hand is traced as a chain."""
    from nnsim.networks.program import program_of

    program = program_of(module)
    return not isinstance(program, str) and is_chain(program, parameters, signs)


def _require_the_same_on_points(owner: str, chain: Chain, network: Network, q: Floats, signs: bool) -> None:
    """Raise `InputError` naming the layer whose other names change what the network computes."""
    for layer, (name, width) in enumerate(zip(chain.names, chain.hidden, strict=False)):
        cycle, swap, ones = np.roll(np.arange(width), 1), np.arange(width), np.ones(width)
        swap[:2] = swap[:2][::-1]
        flip = np.where(np.arange(width) == 0, -1.0, 1.0)
        tried = [("names", cycle, ones), ("names", swap, ones)] if width > 1 else []
        tried += [("signs", np.arange(width), flip)] if signs else []
        for what, permutation, turned in tried:
            naming = chain.identity().replaced(layer, permutation, turned)
            if network.changed_by(q, _Renamed(chain, naming)):
                raise InputError(
                    f"{owner}: other {what} of the {width} outputs of layer {name} change what the network computes: "
                    f"they do not go to the next layer alone{', by an odd function' if what == 'signs' else ''}, one "
                    f"by one; {'leave signs out' if what == 'signs' else 'it cannot be aligned'}"
                )
            if not network.changed_by(q, _Renamed(chain, naming, whole=False)):
                raise InputError(
                    f"{owner}: the points do not show what the outputs of layer {name} are for; give others as points="
                )


@dataclass(frozen=True)
class _Renamed:
    """Parameters under other names; not `whole`: of the outputs of layers alone, which makes another network."""

    chain: Chain
    naming: Naming
    whole: bool = True

    def __call__(self, q: NDArray[Any]) -> NDArray[Any]:
        return self.chain.rename(q, self.naming) if self.whole else self.chain.rename_outputs(q, self.naming)
