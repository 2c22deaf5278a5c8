"""Every public function that takes a run, and the methods of runs, with arguments that work."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pictured_runs import make_run

import nnsim
from campaign.parts import Call, landscape, system
from campaign.runs import finished
from nnsim import EntropyLandscape, Trajectories, Trajectory, analysis, cv, export, plotting, report
from nnsim.bias import Boltzmann, ReplicaExchange
from nnsim.integrators import GradientDescent, MonteCarlo
from nnsim.running.starts import States

OBSERVED = [cv.LogLoss("train"), cv.Loss("train"), cv.Accuracy("test")]


@dataclass(frozen=True)
class Runs:
    """Finished runs: of a recorded script, one with known numbers, a training, a Boltzmann sampling, sides; sweep."""

    recorded: Path
    plane: Path
    training: Path
    boltzmann: Path
    sweep: Path
    side: Path
    other: Path
    ladder: Path

    @classmethod
    def made(cls, folder: Path) -> Runs:
        training, boltzmann = folder / "training.zarr", folder / "boltzmann.zarr"
        settings: dict[str, Any] = {"observe": OBSERVED, "walkers": 2, "every": 5, "threads": 1}
        trained = nnsim.Simulation(system(), GradientDescent(0.1), steps=400, record_start=True, **settings)
        sampled = nnsim.Simulation(
            system(), MonteCarlo(0.1), bias=Boltzmann(OBSERVED[0], beta=[1.0, 2.0]), steps=200, **settings
        )
        trained.run(output=training, progress=False)
        sampled.run(output=boltzmann, progress=False)
        make_run(folder / "plane.zarr")
        sides = folder / "side.zarr", folder / "other.zarr"
        for seed, path in enumerate(sides):
            moved = nnsim.Simulation(system(), MonteCarlo(0.1), seed=seed, steps=100, **settings)
            moved.set_positions(moved.state.positions * seed).run(output=path, progress=False)
        recorded, sweep = folder / "recorded" / "input.zarr", _sweep(folder / "sweep")
        shutil.copytree(finished("monte_carlo").parent, recorded.parent)
        return cls(recorded, folder / "plane.zarr", training, boltzmann, sweep, *sides, _ladder(folder))


def _ladder(folder: Path) -> Path:
    """Four ladders of three rungs along the train loss, of two sides."""
    network, exchange = system(), ReplicaExchange(cv.Loss("train"), [0.0, 1.0, 2.0], every=5, name="tempering")
    shape: dict[str, Any] = {"walkers": 12, "every": 5, "steps": 200, "observe": OBSERVED, "threads": 1}
    one = nnsim.Simulation(network, MonteCarlo(0.1), bias=exchange, **shape)
    source = {"positions": "given", "sides": ["random"] * 6 + ["trained"] * 6}
    one.set_positions(States(one.state.positions.double(), dict(network.parameters), source))
    one.run(output=folder / "ladder.zarr", progress=False)
    return folder / "ladder.zarr"


def _sweep(folder: Path) -> Path:
    """The folder of a sweep over depth, width and seed, with a trace 2 width^0.8."""
    settings = [{"depth": d, "width": w, "seed": s} for d in (1, 2) for w in (10, 30, 100) for s in range(2)]
    points = {",".join(f"{name}={value}" for name, value in point.items()): point for point in settings}
    for name, point in points.items():
        (folder / name).mkdir(parents=True)
        ends = {"trace": {"first": 2 * point["width"] ** 0.8 * (1 + 0.1 * point["seed"]), "last": 1.0}}
        record = {"settings": {}, "steps": 5, "seconds": 1.0, "observables": ends}
        make_run(folder / name / "run.zarr", snapshots=0, spectrum=False)
        (folder / name / "done.json").write_text(json.dumps(record))
    plan = {"script": "s.py", "sha256": "", "set": {}, "steps": None, "swept": ["depth", "width", "seed"]}
    (folder / "sweep.json").write_text(json.dumps({**plan, "points": points}))
    return folder


def uses(runs: Runs) -> dict[str, Call]:
    """The calls; what they write goes into the present folder."""
    plane, trained, swept = Trajectory(runs.plane), Trajectory(runs.training), analysis.read_sweep(runs.sweep)
    return {
        **_methods(Trajectory(runs.recorded)),
        **_analyses(plane, trained),
        **_sampling(Trajectory(runs.recorded), plane, runs.boltzmann),
        **_sweeps(swept, runs.sweep),
        **_pictures(Trajectory(runs.recorded), plane, trained, swept),
        **_exports(Trajectory(runs.recorded)),
        **_two_sides(Trajectory(runs.side), Trajectory(runs.other)),
        **_ladders(Trajectory(runs.ladder)),
    }


def _two_sides(a: Trajectory, b: Trajectory) -> dict[str, Call]:
    found = analysis.two_sided(a, b)
    return {
        "two_sided": (
            analysis.two_sided,
            {"a": a, "b": [b], "of": ["loss_train"], "since": 0.5, "tolerance": {"loss_train": 0.1}},
        ),
        "sides_of": (analysis.sides_of, {"given": [a, b]}),
        "start_of": (analysis.start_of, {"run": a}),
        "plot_two_sided": (
            plotting.plot_two_sided, {"a": a, "b": [b], "result": found, "ax": None, "max_panels": 2, "note": None}
        ),
    }  # fmt: skip


def _ladders(run: Trajectory) -> dict[str, Call]:
    found = analysis.tempering(run, "accuracy_test")
    return {
        "analysis.tempering": (analysis.tempering, {"run": run, "of": "accuracy_test", "since": 0.5, "tolerance": 0.1}),
        "plot_tempering": (plotting.plot_tempering, {"run": run, "result": found, "ax": None, "note": None}),
    }


def _methods(run: Trajectory) -> dict[str, Call]:
    frame: dict[str, Any] = {"frame": 1, "walker": 0}
    parameters, bias = list(run.parameters), run.bias_names[0]
    return {
        "Trajectory": (Trajectory, {"path": run.path}),
        "Trajectory[]": (lambda name: run[name], {"name": "ln_loss_train"}),
        "Trajectory.bias": (run.bias, {"name": bias}),
        "BiasRecord.table_attrs": (run.bias(bias).table_attrs, {"table": "visits"}),
        "Series[]": (lambda frames, walkers: run["ln_loss_train"][frames, walkers], {"frames": 0, "walkers": 0}),
        "Trajectory.select": (run.select, {"text": parameters[0]}),
        "Trajectory.slice": (
            lambda **which: np.asarray(run.slice(**which)),
            {"frames": [0, 1], "walkers": [0], "parameters": [0, 1], "of": "position"},
        ),
        "Trajectory.thinned": (run.thinned, {"every": 100, "first": 0, "last": 1000}),
        "Trajectory.parameters_at": (run.parameters_at, frame),
        "Trajectory.parameters_at a step": (run.parameters_at, {"step": 50}),
        "Trajectory.state_dict": (run.state_dict, frame),
        "Trajectory.module": (run.module, {**frame, "system": run.simulation().system}),
        "Trajectory.simulation": (run.simulation, {"folder": run.path.parent, "steps": 10}),
        "Trajectories": (Trajectories, {"runs": [run.path]}),
        "Trajectories[]": (lambda index: Trajectories([run])[index], {"index": 0}),
        "Trajectories.select": (Trajectories([run]).select, {"text": parameters[0]}),
        "Trajectories.thinned": (Trajectories([run]).thinned, {"every": 100, "first": 0, "last": 1000}),
        "Trajectories.concatenate": (
            Trajectories([run]).concatenate, {"name": "ln_loss_train", "along": "walkers"}
        ),
    }  # fmt: skip


def _analyses(plane: Trajectory, trained: Trajectory) -> dict[str, Call]:
    table = analysis.equilibrium(plane, "ln_loss_train", "weight_norm")
    curve = analysis.Curve(np.linspace(-3.0, 3.0, 20), np.linspace(0.0, 1.0, 20), x_name="ln_loss_train",
                           y_name="accuracy_test")  # fmt: skip
    learnt = analysis.training_curve(trained, levels=curve.x[6:8])
    return {
        "averaged_type": (analysis.averaged_type, {"trajectory": plane, "bias": "wl"}),
        "biased_quantity": (analysis.biased_quantity, {"trajectory": plane, "bias": "wl"}),
        "has_record": (analysis.has_record, {"trajectory": plane, "bias": "wl"}),
        "convergence_records": (
            analysis.convergence_records,
            {"trajectories": plane, "between": (0.2, 0.8), "cv": "ln_loss_train", "bias": "wl"},
        ),
        "diagnose": (
            analysis.diagnose, {"trajectory": plane, "between": (0.2, 0.8), "cv": "ln_loss_train", "bias": "wl"}
        ),
        "histogram_flatness": (
            analysis.histogram_flatness, {"trajectory": plane, "cv": "ln_loss_train", "bias": "wl"}
        ),
        "equilibrium": (
            analysis.equilibrium,
            {"trajectory": plane, "given": "ln_loss_train", "of": "weight_norm", "width": 0.1, "since": 0.5,
             "centred": False, "bias": "wl"},
        ),
        "evolution": (
            analysis.evolution,
            {"trajectory": trained, "name": "ln_loss_train", "window": 3, "epoch": 1, "diverged": "refuse",
             "leave_out": ()},
        ),
        "final_advantage": (
            analysis.final_advantage, {"equilibrium": curve, "trajectory": trained, "at": 100, "last": 0.1,
                                       "lowest": -10.0}
        ),
        "entropy_advantage": (analysis.entropy_advantage, {"equilibrium": curve, "training": learnt}),
        "mean_curve": (analysis.mean_curve, {"tables": [table]}),
        "steps_per_epoch": (analysis.steps_per_epoch, {"trajectory": trained}),
        "training_curve": (
            analysis.training_curve,
            {"trajectory": trained, "given": "ln_loss_train", "of": "accuracy_test", "spacing": 0.1},
        ),
        "training_curve at levels": (analysis.training_curve, {"trajectory": trained, "levels": [-0.8]}),
    }  # fmt: skip


def _sampling(run: Trajectory, plane: Trajectory, boltzmann: Path) -> dict[str, Call]:
    whole: dict[str, Any] = {"since": 0.5, "beta": 1.0, "final_bias": False, "blocks": 2}
    return {
        "frame_weights": (
            analysis.frame_weights, {"trajectory": run, **whole, "names": ("accuracy_test",), "among": np.arange(3)}
        ),
        "profile": (
            analysis.profile,
            {"trajectory": run, "along": "ln_loss_train", "bins": 4, "between": (-2.0, 3.0), **whole},
        ),
        "boltzmann_averages": (
            analysis.boltzmann_averages,
            {"trajectory": boltzmann, "of": "accuracy_test", "given": "ln_loss_train", "since": 0.5},
        ),
        "boltzmann_settings": (analysis.boltzmann_settings, {"trajectory": boltzmann}),
        "EntropyLandscape.from_trajectory": (
            EntropyLandscape.from_trajectory, {"trajectory": plane, "bias": "wl", "frame": 0}
        ),
        "EntropyLandscape.sample": (
            EntropyLandscape.from_trajectory(plane).sample,
            {"runs": plane, "n": 3, "seed": 0, "width": 0.5, "since": 0.5, "final_bias": False, "ln_loss_train": 0.5},
        ),
    }  # fmt: skip


def _sweeps(swept: analysis.SweepTable, folder: Path) -> dict[str, Call]:
    return {
        "read_sweep": (analysis.read_sweep, {"folder": folder}),
        "sweep_runs": (analysis.sweep_runs, {"folder": folder, "width": 10}),
        "SweepTable.where": (swept.where, {"width": 10}),
        "SweepTable.mean_over_seeds": (swept.mean_over_seeds, {"x": "width", "y": "depth", "value": "trace_first"}),
        "scaling": (
            analysis.scaling,
            {"table": swept, "x": "width", "value": "trace_first", "law": "power", "given": {"depth": 1},
             "weighted": False},
        ),
    }  # fmt: skip


def _pictures(run: Trajectory, plane: Trajectory, trained: Trajectory, swept: analysis.SweepTable) -> dict[str, Call]:
    curve = analysis.Curve(np.linspace(-3.0, 3.0, 20), np.linspace(0.0, 1.0, 20), x_name="ln_loss_train",
                           y_name="accuracy_test")  # fmt: skip
    advantage = analysis.final_advantage(curve, trained)
    records = analysis.convergence_records(plane)
    profile = analysis.profile(run, "ln_loss_train", bins=4)
    return {
        "make_movie": (
            plotting.make_movie,
            {"trajectory": plane, "path": "film.gif", "bias": "wl", "fps": 2.0, "seconds": 1.0, "walkers": 2,
             "overwrite": True},
        ),
        "plot_advantages": (plotting.plot_advantages, {"labels": ["a"], "advantages": [advantage]}),
        "plot_convergence": (plotting.plot_convergence, {"records": records, "note": "n"}),
        "plot_evolution": (
            plotting.plot_evolution,
            {"runs": {"a": trained}, "names": ("loss",), "splits": ("train",), "window": 3, "epoch": 1,
             "log": ("loss",), "log_x": False, "raw": True, "wide": False, "title": "t", "diverged": "refuse"},
        ),
        "plot_growth": (
            plotting.plot_growth,
            {"trajectory": plane, "bias": "wl", "along": "ln_loss_train", "quantity": "bias", "times": 3, "note": "n"},
        ),
        "plot_histogram": (
            plotting.plot_histogram,
            {"trajectory": plane, "names": "ln_loss_train", "last": 1.0, "bins": 10, "note": "n"},
        ),
        "plot_layers": (
            plotting.plot_layers,
            {"trajectory": plane, "walkers": [0], "bands": (0.9, 0.5), "max_frames": 5, "max_layers": 2, "note": "n"},
        ),
        "plot_parameters": (
            plotting.plot_parameters,
            {"trajectory": plane, "walker": 0, "layers": "0.weight", "max_traces": 3, "max_panels": 2,
             "max_points": 20, "note": "n"},
        ),
        "plot_paths": (
            plotting.plot_paths,
            {"trajectory": plane, "walkers": [0], "cvs": ("ln_loss_train", "accuracy_test"), "bias": "wl",
             "max_points": 20, "note": "n"},
        ),
        "plot_paths on a landscape": (
            plotting.plot_paths, {"trajectory": plane, "landscape": EntropyLandscape.from_trajectory(plane)}
        ),
        "plot_profile": (plotting.plot_profile, {"profile": profile, "quantity": "entropy", "note": "n"}),
        "plot_spectrum": (
            plotting.plot_spectrum,
            {"trajectory": plane, "name": "ntk_spectrum_train", "times": 3, "walker": 0, "decades": 3.0, "note": "n"},
        ),
        "plot_sweep": (
            plotting.plot_sweep,
            {"grid": swept.mean_over_seeds("width", "depth", "trace_first"), "x_scale": "log", "y_scale": "even",
             "log": True, "note": "n"},
        ),
        "plot_timeseries": (
            plotting.plot_timeseries,
            {"trajectory": plane, "names": "ln_loss_train", "max_walkers": 2, "max_points": 20, "note": "n"},
        ),
        "save": (
            plotting.save,
            {"target": plotting.plot_landscape(landscape()), "path": "picture.png", "dpi": 50.0, "overwrite": True},
        ),
        "report.make": (report.make, {"trajectory": plane, "title": "t", "bias": "wl", "between": (0.2, 0.8)}),
        "report.write": (
            report.write,
            {"trajectory": plane, "path": "report.html", "overwrite": True, "title": "t", "bias": "wl",
             "between": (0.2, 0.8)},
        ),
    }  # fmt: skip


def _exports(run: Trajectory) -> dict[str, Call]:
    chain: dict[str, Any] = {"walker": 0, "every": 2, "selection": next(iter(run.parameters))}
    columns = {**chain, "observables": ("ln_loss_train",), "with_positions": True}
    calls: dict[str, Call] = {
        f"write_{kind}": (
            getattr(export, f"write_{kind}"), {"trajectory": run, "output": f"out.{kind}", **options, "overwrite": True}
        )
        for kind, options in {
            "csv": columns, "npz": columns, "dcd": chain, "h5": chain, "trr": chain,
            "zarrmd": {**chain, "observables": ("ln_loss_train",)}, "safetensors": {"frame": 1, "walker": 0},
        }.items()
    }  # fmt: skip
    return {
        **calls,
        "write_safetensors at a step": (export.write_safetensors, {"trajectory": run, "output": "s.safetensors",
                                                                   "step": 50, "overwrite": True}),
        "export": (
            export.export,
            {"trajectory": run, "output": "out.npz", "format": "npz", "overwrite": True, "walker": 0, "every": 2},
        ),
        "to_mdtraj": (export.to_mdtraj, {"trajectory": run, **chain}),
    }  # fmt: skip
