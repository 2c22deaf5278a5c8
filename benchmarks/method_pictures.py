"""The pictures of docs/methods.md, from short runs of the examples.

    python benchmarks/method_pictures.py                  all of them, about ten minutes on one core
    python benchmarks/method_pictures.py brownian         one

Runs are kept in the folder method_pictures; one that is there is not done again. House prices: see NNSIM_DATA.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

import nnsim
from nnsim import plotting
from nnsim.analysis import boltzmann_averages, convergence_records, profile
from nnsim.plotting.style import frame, new_axes, styled
from nnsim.running.script import Script

ROOT = Path(__file__).resolve().parents[1]
RUNS = Path("method_pictures")
LOSS, ACCURACY = "ln_loss_train", "accuracy_test"


def run(name: str, example: str, **settings: Any) -> nnsim.Trajectory:
    """The trajectory of an example with these settings, run if it is not there."""
    path = RUNS / f"{name}.zarr"
    script = Script(ROOT / "examples" / f"{example}.py")
    simulation = script.simulation(script.settings([f"{key}={value}" for key, value in settings.items()]))
    if not path.exists() or nnsim.Trajectory(path).steps < simulation.steps:
        simulation.run(output=path, resume=path.exists(), progress=False)
    return nnsim.Trajectory(path)


def single(height: float = 3.2) -> Axes:
    """The axes of a picture of one panel."""
    with styled():
        return new_axes(1, height)[0]


def late(trajectory: nnsim.Trajectory, name: str) -> np.ndarray:
    """The values [T, W] of the second half of a run."""
    values = np.asarray(trajectory[name][:], dtype=float)
    return values[len(values) // 2 :]


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Mean of [T, W], and its standard error from the spread over the walkers."""
    means = values.mean(axis=0)
    return float(means.mean()), float(means.std(ddof=1) / np.sqrt(len(means)))


# ---------------------------------------------------------------------- dynamics, on the posterior of house prices

STEPS, EVERY = 1500, 10
STEP_SIZES = (1e-3, 2e-3, 4e-3, 6e-3, 8e-3)


def posterior(sampler: str, dt: float = 2e-3) -> nnsim.Trajectory:
    name = f"posterior_{sampler}_{dt:g}"
    return run(name, "posterior", sampler=sampler, dt=dt, steps=STEPS, every=EVERY)


def temperatures(ax: Axes, samplers: dict[str, str]) -> None:
    """Kinetic temperature against the time step."""
    with styled():
        for color, (sampler, label) in zip(plotting.COLORS, samplers.items(), strict=False):
            points = []
            for dt in STEP_SIZES:
                try:
                    points.append((dt, *mean_and_error(late(posterior(sampler, dt), "kinetic_temperature"))))
                except nnsim.NNSimError:
                    print(f"{sampler} at dt = {dt:g} diverged")
            x, y, error = np.array(points).T
            ax.errorbar(x, y, error, fmt="o-", color=color, capsize=2, label=label)
        ax.axhline(1, color="0.6", linewidth=1, zorder=0)
        ax.set_xlabel("time step")
        ax.set_ylabel("kinetic temperature")
        ax.ticklabel_format(axis="x", style="sci", scilimits=(-3, 5), useMathText=True)
        frame(ax, (0, 1.1 * max(STEP_SIZES)))
        ax.legend(frameon=False)


def langevin() -> Axes:
    ax = single()
    temperatures(ax, {"langevin": "Langevin, exact forces"})
    return ax


def stochastic_gradients() -> Axes:
    ax = single()
    temperatures(ax, {"langevin": "Langevin, exact forces", "sghmc": "SGHMC, 73 of 730 points"})
    return ax


def brownian() -> Axes:
    """Train loss against the number of gradients, from the same starts."""
    ax = single()
    names = {"brownian": "Brownian", "sgld": "SGLD", "langevin": "Langevin", "hybrid": "hybrid Monte Carlo"}
    with styled():
        for color, (sampler, label) in zip(plotting.COLORS, names.items(), strict=False):
            series = posterior(sampler)["loss_train"]
            gradients = np.asarray(series.step) * (20 if sampler == "hybrid" else 1)
            ax.plot(gradients, np.asarray(series[:]).mean(axis=1), color=color, label=label)
        ax.set_yscale("log")
        ax.set_yticks([0.1, 0.2, 0.5], ["0.1", "0.2", "0.5"])
        ax.minorticks_off()
        ax.set_xlabel("gradients")
        ax.set_ylabel(plotting.readable("loss_train"))
        frame(ax, (0, STEPS))
        ax.legend(frameon=False)
    return ax


def nose_hoover() -> Axes:
    """What the dynamics conserves, per parameter."""
    ax = single()
    with styled():
        for color, dt in zip(plotting.COLORS, (2e-3, 4e-3, 6e-3), strict=False):
            trajectory = posterior("nose_hoover", dt)
            series = trajectory["conserved_quantity"]
            values = np.asarray(series[:], dtype=float) / trajectory.positions.shape[2]
            ax.plot(
                np.asarray(series.step) * dt, values.mean(axis=1) - values[0].mean(), color=color, label=f"dt = {dt:g}"
            )
        ax.set_xlabel("time")
        ax.set_ylabel("conserved quantity\nper parameter ($kT$)")
        frame(ax, (0, STEPS * 2e-3))
        ax.legend(frameon=False)
    return ax


def hybrid() -> Axes:
    """Acceptance over the second half of a run against the time step."""
    ax, points = single(), []
    for dt in STEP_SIZES:
        series = posterior("hybrid", dt)["acceptance"]
        step, rate = np.asarray(series.step, dtype=float), np.asarray(series[:], dtype=float)
        half = len(step) // 2
        own = (rate[-1] * step[-1] - rate[half] * step[half]) / (step[-1] - step[half])
        points.append((dt, own.mean(), own.std(ddof=1) / np.sqrt(len(own))))
    x, y, error = np.array(points).T
    with styled():
        ax.errorbar(x, y, error, fmt="o-", color=plotting.COLORS[0], capsize=2)
        ax.set_xlabel("time step (20 in a trajectory)")
        ax.set_ylabel("acceptance")
        ax.ticklabel_format(axis="x", style="sci", scilimits=(-3, 5), useMathText=True)
        ax.set_ylim(0, 1.03)
        frame(ax, (0, 1.1 * max(STEP_SIZES)))
    return ax


# ---------------------------------------------------------------------- the spiral of 116 parameters


def windows() -> nnsim.Trajectory:
    return run("umbrella", "spiral_umbrella", steps=1_000_000, threads=1)


def ladder() -> nnsim.Trajectory:
    return run("tempering", "spiral_tempering", steps=1_000_000, threads=1)


def hills() -> nnsim.Trajectory:
    return run("metadynamics", "spiral_metadynamics", steps=20_000)


def monte_carlo() -> Axes:
    """Acceptance of moves of one size at each ln L, in umbrella windows."""
    import torch

    from nnsim import Simulation, cv
    from nnsim.bias import Umbrella
    from nnsim.integrators import Acceptance, FixedStep, MixedStep, MonteCarlo
    from nnsim.systems import spiral_classification

    system, start = spiral_classification(), torch.from_numpy(windows().positions[-1])
    system.initial_positions = lambda walkers, generator: start  # where the windows ended
    loss, centers = cv.LogLoss("train"), np.linspace(-2.5, 0.5, 46)
    ax = single()
    sizes = {
        "0.01": FixedStep(0.01),
        "0.1": FixedStep(0.1),
        "1": FixedStep(1.0),
        "0.3 to 1.6, mixed": MixedStep(0.3, 1.6),
    }
    with styled():
        for color, (label, size) in zip(plotting.COLORS, sizes.items(), strict=False):
            simulation = Simulation(
                system, MonteCarlo(size), bias=Umbrella(loss, centers.tolist(), 500.0),
                observe=[loss, Acceptance()], walkers=46, every=1000, threads=1,
            )  # fmt: skip
            simulation.run(20_000, progress=False)
            x = simulation.history[LOSS].mean(axis=0)
            ax.plot(x, simulation.history["acceptance"][-1], color=color, label=label)
        ax.set_ylim(0, 1.03)
        ax.set_xlabel(plotting.readable(LOSS))
        ax.set_ylabel("acceptance")
        frame(ax, (-2.5, 0.5))
        ax.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return ax


def annealing() -> Sequence[Axes]:
    trajectory = run("annealing", "spiral_annealing", steps=10_000)
    return plotting.plot_timeseries(trajectory, [LOSS, ACCURACY])


def wang_landau() -> Any:
    settings = {"plane": False, "steps": 20_000_000, "every": 10_000, "threads": 1}
    runs = [run(f"wlmc_{seed}", "spiral_wlmc", seed=seed, **settings) for seed in (0, 1)]
    return plotting.plot_convergence(convergence_records(runs, between=(-4.0, 0.5)))


def metadynamics() -> Sequence[Axes]:
    panels = plotting.plot_timeseries(hills(), [LOSS, "metadynamics_mean_height"])
    panels[1].set_ylabel("mean height\nof the hills ($kT$)")
    panels[1].set_xticks([0, 5000, 10_000, 15_000, 20_000])
    return panels


def umbrella() -> Axes:
    """Histograms of every third window."""
    values, ax = late(windows(), LOSS), single()
    edges = np.arange(-2.7, 0.8, 0.02)
    with styled():
        for w in range(0, values.shape[1], 3):
            color = plotting.COLORS[w // 3 % len(plotting.COLORS)]
            ax.hist(values[:, w], edges, histtype="stepfilled", alpha=0.5, color=color)
        ax.set_xlabel(plotting.readable(LOSS))
        ax.set_ylabel("frames of the window")
        frame(ax, (edges[0], edges[-1]))
    return ax


def boltzmann() -> Axes:
    """Mean test accuracy at each beta, each chain a dot."""
    trajectory = run("boltzmann", "spiral_boltzmann", steps=60_000, ramp=24_000, every=200, threads=1)
    rows, ax = boltzmann_averages(trajectory, ACCURACY), single()
    beta = np.asarray(trajectory.header["bias"]["boltzmann"]["beta"])
    chains = late(trajectory, ACCURACY).mean(axis=0)
    with styled():
        ax.plot(beta[beta > 0], chains[beta > 0], ".", color="0.7", label="one chain")
        x, y, error = np.array(
            [(row["beta"], row[ACCURACY], row[f"{ACCURACY}_error"]) for row in rows if row["beta"]]
        ).T
        ax.errorbar(x, y, error, fmt="o-", color=plotting.COLORS[0], capsize=2, label="mean of ten")
        ax.set_xscale("log")
        ax.set_xlabel(r"$\beta$")
        ax.set_ylabel(plotting.readable(ACCURACY))
        frame(ax, (0.8, 1.3e4))
        ax.legend(frameon=False)
    return ax


def replica_exchange() -> Axes:
    """The rung of some walkers in time."""
    series, ax = ladder()["replica_exchange_rung"], single()
    with styled():
        for color, walker in zip(plotting.COLORS, (0, 15, 31), strict=False):
            ax.plot(series.step, np.asarray(series[:])[:, walker], color=color, linewidth=0.8, label=f"walker {walker}")
        ax.set_xlabel("step")
        ax.set_ylabel("rung")
        ax.ticklabel_format(axis="x", style="sci", scilimits=(-3, 5), useMathText=True)
        frame(ax, (0, series.step[-1]))
        ax.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return ax


def reweighting() -> Any:
    return plotting.plot_profile(profile(ladder(), ACCURACY, bins="values", beta=100.0))


PICTURES: dict[str, Callable[[], Any]] = {
    one.__name__: one
    for one in (
        langevin, brownian, nose_hoover, hybrid, stochastic_gradients,
        monte_carlo, annealing, wang_landau, metadynamics, umbrella, boltzmann, replica_exchange, reweighting,
    )
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all by default; of {', '.join(PICTURES)}")
    names = parser.parse_args().names or list(PICTURES)
    if unknown := set(names) - set(PICTURES):
        parser.error(f"no picture {', '.join(sorted(unknown))}; choose from {', '.join(PICTURES)}")
    RUNS.mkdir(exist_ok=True)
    for name in names:
        path = ROOT / "docs" / "methods" / f"{name}.png"  # also one of an older version, which has no mark
        print(plotting.save(PICTURES[name](), path, overwrite=True), flush=True)


if __name__ == "__main__":
    main()
