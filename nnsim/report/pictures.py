"""The pictures of a report."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from nnsim import analysis
from nnsim.analysis.landscape.landscape import EntropyLandscape
from nnsim.arithmetic import operation_of
from nnsim.report.blocks import Block, Picture
from nnsim.report.doubts import Doubts
from nnsim.report.runs import Runs

MOST_PANELS = 4
PROFILE_BINS = 30
EVOLVING = ("loss", "ln_loss", "accuracy", "ntk_entropy", "ntk_trace")
SPECTRUM = "ntk_spectrum_"
DPI = 130  # 650 pixels wide: sharp where the page shows it 650 pixels wide or less

Maker = tuple[str, Callable[[], Iterable[Block]]]


class Pictures:
    """What `nnsim plot` draws of such runs; of several runs the first, unless it says otherwise."""

    def __init__(self, runs: Runs, doubts: Doubts, between: tuple[float, float] | None = None) -> None:
        self.runs, self.doubts, self.between = runs, doubts, between

    def makers(self) -> list[Maker]:
        """What pictures there are to make, with their names."""
        runs, found = self.runs, list[Maker]()
        if runs.sides is not None:
            found.append(("the picture of the two sides", self.two_sided))
        if runs.has_landscape:
            found.append(("the picture of the landscape", self.landscape))
        if runs.is_tempering:
            found.append(("the picture of the ladder", self.rungs))
        elif runs.has_states:
            found.append(("the picture of S", self.profile))
        if runs.is_training:
            found.append(("the picture of the training", self.evolution))
        if self._series():
            found.append(("the picture of the time series", self.timeseries))
        if self.doubts.diagnoses:
            found.append(("the picture of the convergence", self.convergence))
        if runs.has_landscape:
            found.append(("the picture of the growth of the bias", self.growth))
            if len(runs.biases[runs.grid_bias].get("cvs") or ()) > 1:
                found.append(("the picture of the walkers' paths", self.paths))
        if self._histogram():
            found.append(("the histogram", self.histogram))
        for name in runs.first.observables:
            if name.startswith(SPECTRUM):
                found.append((f"the picture of {name}", partial(self.spectrum, name)))
        if runs.first.positions is not None:
            found.append(("the picture of the parameters", self.layers))
        return found

    def two_sided(self) -> list[Picture]:
        """How the two sides went towards each other."""
        from nnsim import plotting

        assert self.runs.sides is not None
        drawn = plotting.plot_two_sided(*self.runs.sides, self.runs.two_sided, note="")
        names = " and ".join(side[0].label for side in self.runs.sides)
        text = f"Means over the walkers {names}, with two standard errors. Grey: left out of the comparison."
        return [_picture(drawn, text, text)]

    def rungs(self) -> list[Picture]:
        """S and averages along a ladder of temperatures."""
        from nnsim import plotting

        found = self.runs.tempering
        drawn = plotting.plot_tempering(self.runs.first, found, note="")
        text = f"S(ln L_train), {found.of} at given ln L_train, both sides along the run. Bars are two standard errors."
        text += "" if found.at_equilibrium else " Not at equilibrium."
        return [_picture(drawn, text, text)]

    # ------------------------------------------------------------------ landscapes

    def landscape(self) -> list[Picture]:
        """S with the equilibrium curve, or slices of three CVs."""
        from nnsim import plotting

        found = self.runs.landscape
        symbol = "entropy S" if found.flat else "minus free energy over kT"
        mean = f", mean of {found.runs} independent runs" if found.runs > 1 else ""
        about = f"{symbol} against {_ranges(found)}{mean}; it spans {found.range():.4g} nats"
        if len(found.axes) == 3:
            maps = plotting.plot_slices(found)
            return [_picture(maps, f"Maps of the {about}.", f"Landscape of three CVs{mean}.")]
        if len(found.axes) > 3:
            found = found.marginal(0, 1)
        if len(found.axes) == 1:
            return [_picture(plotting.plot_landscape(found), f"Line of the {about}.", f"Landscape{mean}.")]
        if found.axes[1].periodic:  # which has no mean
            caption = f"Landscape{mean}. White: not visited."
            return [_picture(plotting.plot_landscape(found), f"Map of the {about}.", caption)]
        value, name = analysis.natural_value(found.names[1])
        curve = found.equilibrium(0, 1, value=value)
        known = np.flatnonzero(np.isfinite(curve.y))
        ends = ""
        if len(known):
            a, b = known[0], known[-1]
            ends = f" Dots: equilibrium {name}, from {curve.y[a]:.3g} at {curve.x[a]:.3g} to {curve.y[b]:.3g} at "
            ends += f"{curve.x[b]:.3g}."
        drawn = plotting.plot_landscape(found, curve, value=value)
        caption = f"Landscape{mean}. Dots: equilibrium {name} at each {found.names[0]}; white: not visited."
        return [_picture(drawn, f"Map of the {about}.{ends}", caption)]

    def profile(self) -> list[Picture]:
        """S along the biased quantity, from umbrella windows or replicas."""
        from nnsim import plotting

        along = analysis.biased_quantity(self.runs.first, self.runs.bias)
        found = analysis.profile(self.runs.light[0], along, bins=PROFILE_BINS)
        symbol = "Entropy S" if found.flat else "Free energy"
        low, high = found.edges[0][0], found.edges[0][-1]
        alt = f"{symbol} along {along} from {low:.3g} to {high:.3g}, a line with its standard error."
        caption = f"{symbol} along {along} with its standard error, frames weighted by MBAR{self._of_first()}."
        return [_picture(plotting.plot_profile(found), alt, caption)]

    def growth(self) -> list[Picture]:
        """The bias at several moments."""
        from nnsim import plotting

        drawn = plotting.plot_growth(self.runs.first, bias=self.runs.bias)
        of = ", ".join(self.runs.biases[self.runs.grid_bias]["cvs"])
        about = f"The bias V/kT on {of} at several steps up to {self.runs.first.steps:,}"
        return [_picture(drawn, f"{about}.", f"Growth of the bias{self._of_first()}.")]

    def paths(self) -> list[Picture]:
        """Where some walkers went."""
        from nnsim import plotting

        drawn = plotting.plot_paths(self.runs.light[0], bias=self.runs.bias)
        names = self.runs.biases[self.runs.grid_bias]["cvs"][:2]
        alt = f"Paths of some of {self.runs.walkers} walkers over the landscape of {' and '.join(names)}."
        return [_picture(drawn, alt, f"Paths of walkers over the landscape{self._of_first()}.")]

    def convergence(self) -> list[Picture]:
        """Increment, flatness, change of S, round trips and a difference of S, a line for each run."""
        from nnsim import plotting

        records = analysis.convergence_records(self.runs.light, between=self.between, bias=self.runs.bias)
        last = records[0]
        alt = (
            f"Five panels against the steps of all walkers. At the end of {last.name}: increment "
            f"{last.increment[-1]:.2g} kT, flatness {last.flatness[-1]:.2g}, {int(last.round_trips[-1])} round trips."
        )
        return [_picture(plotting.plot_convergence(records), alt, "Convergence; dotted lines are the limits.")]

    # ------------------------------------------------------------------ records

    def evolution(self) -> list[Picture]:
        """Losses, accuracies and measures of the tangent kernel along training."""
        from nnsim import plotting

        there = [one for one in self.runs.first.observables if not operation_of(one)]
        names = [name for name in EVOLVING if any(one.startswith((f"{name}_train", f"{name}_test")) for one in there)]
        if "loss" in names and "ln_loss" in names:
            names.remove("ln_loss")
        count = self.runs.walkers * len(self.runs.all)
        drawn = plotting.plot_evolution({"": self.runs.light}, names, diverged="drop")
        what = ", ".join(names)
        alt = f"{what} against the epoch: mean over {count} training runs and one standard deviation around it."
        return [_picture(drawn, alt, f"Training: mean of {count} walkers, and their standard deviation as a band.")]

    def timeseries(self) -> list[Picture]:
        """CVs and kinetic temperature against the step."""
        from nnsim import plotting

        names = self._series()
        drawn = plotting.plot_timeseries(self.runs.light[0], names)
        ends = [f"{name} ends at a mean of {_last_mean(self.runs, name):.4g}" for name in names]
        alt = f"Time series of {self.runs.walkers} walkers up to step {self.runs.first.steps:,}: {'; '.join(ends)}."
        return [_picture(drawn, alt, f"Time series{self._of_first()}.")]

    def histogram(self) -> list[Picture]:
        """How often values were visited."""
        from nnsim import plotting

        names = self._histogram()
        drawn = plotting.plot_histogram(self.runs.light[0], names)
        alt = f"Histogram of {' and '.join(names)} over {self.runs.walkers} walkers and all recorded frames."
        return [_picture(drawn, alt, f"How often values were visited{self._of_first()}.")]

    def spectrum(self, name: str) -> list[Picture]:
        """Eigenvalues of the tangent kernel."""
        from nnsim import plotting

        drawn = plotting.plot_spectrum(self.runs.first, name)
        alt = f"Eigenvalues of {name} against their rank, at several steps up to {self.runs.first.steps:,}."
        return [_picture(drawn, alt, f"Spectrum of the tangent kernel{self._of_first()}.")]

    def layers(self) -> list[Picture]:
        """Distribution of weights and biases, layer by layer."""
        from nnsim import plotting

        drawn = plotting.plot_layers(self.runs.first)
        alt = "Median and bands of the weights and biases of each layer against the step."
        return [_picture(drawn, alt, f"Parameters of each layer, all walkers{self._of_first()}.")]

    # ------------------------------------------------------------------ which

    def _of_first(self) -> str:
        return f", {self.runs.names[0]}" if len(self.runs.all) > 1 else ""

    def _series(self) -> list[str]:
        runs = self.runs
        if runs.is_training:
            return []  # the evolution shows more
        names = runs.cvs or [*runs.losses, *runs.quantities]
        names = [name for name in dict.fromkeys(names) if name in runs.scalars][: MOST_PANELS - 1]
        return names + [name for name in ("kinetic_temperature",) if name in runs.scalars]

    def _histogram(self) -> list[str]:
        runs = self.runs
        if runs.is_training:
            return []
        return [name for name in runs.cvs or runs.quantities[:1] if name in runs.scalars][:2]


def _ranges(found: EntropyLandscape) -> str:
    """Names of the CVs with the range visited."""
    texts = []
    for place, axis in enumerate(found.axes):
        others = tuple(other for other in range(len(found.axes)) if other != place)
        seen = np.flatnonzero(found.visited.any(axis=others) if others else found.visited)
        texts.append(f"{axis.name} ({axis.edges[seen[0]]:.3g} to {axis.edges[seen[-1] + 1]:.3g})")
    return " and ".join(texts)


def _last_mean(runs: Runs, name: str) -> float:
    last = np.asarray(runs.light[0][name][-1], dtype=np.float64)
    finite = last[np.isfinite(last)]
    return float(finite.mean()) if finite.size else float("nan")


def _picture(drawn: Any, alt: str, caption: str) -> Picture:
    """The figure of some axes as PNG."""
    from nnsim.plotting.style import figure_of, styled

    buffer = io.BytesIO()
    with styled():
        figure_of(drawn).savefig(buffer, format="png", dpi=DPI, metadata={"Software": "nnsim"})
    return Picture(buffer.getvalue(), alt, caption)
