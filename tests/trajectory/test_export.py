"""Exports: what other programs read back is what was recorded, and what would be lost is refused."""

import csv
import io
import json
import os
import subprocess
import sys
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import mdtraj
import numpy as np
import pytest
import torch
from command_line import error_of, nnsim

from nnsim import InputError, Simulation, Trajectory, TrajectoryError, cv, export
from nnsim.export import molecular, tables, walker_frames
from nnsim.integrators import Langevin
from nnsim.systems import NeuralNetwork
from nnsim.trajectory.selection import labels
from nnsim.trajectory.writer import TrajectoryWriter

SHAPES = {"0.weight": (4, 3), "0.bias": (4,), "2.weight": (2, 4), "2.bias": (2,)}
SIZE = 26
POSITION = "particles/parameters/position"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trajectory:
    """3 walkers; positions every 3 steps, losses every 2, one number for all, two numbers for each walker."""
    monkeypatch.setattr(walker_frames, "BLOCK_BYTES", 3000)  # several blocks in every format
    return written(tmp_path / "run.zarr", np.float32)


def written(path: Path, dtype: Any, first_step: int = 0) -> Trajectory:
    random_numbers = np.random.default_rng(3)
    writer = TrajectoryWriter.create(path, {"parameters": SHAPES, "walkers": 3})
    for step in range(0, 61):
        at = (first_step + step, 0.1 * step)
        if step % 2 == 0:
            writer.append("observables/loss", *at, random_numbers.normal(size=3))
            writer.append("observables/kT", *at, np.float64(1 + step / 7))
        if step % 3 == 0:
            writer.append("observables/pair", *at, random_numbers.normal(size=(3, 2)).astype("f4"))
            writer.append(POSITION, *at, random_numbers.normal(size=(3, SIZE)).astype(dtype))
    writer.close()
    return Trajectory(path)


def positions(run: Trajectory, walker: int) -> np.ndarray:
    """As recorded [T, n], in the order of atoms."""
    assert run.positions is not None
    return run.positions[:, walker][:, export.atom_order(SHAPES)]


# -------------------------------------------------------------------------------------------------------------- mdtraj


def test_topology_has_layers_neurons_and_parameters() -> None:
    topology = export.to_topology(SHAPES)
    assert [chain.chain_id for chain in topology.chains] == ["0", "2"]
    assert [chain.n_residues for chain in topology.chains] == [4, 2]
    assert (topology.n_atoms, topology.n_bonds) == (SIZE, 0)
    neuron = topology.chain(1).residue(1)
    assert [atom.name for atom in neuron.atoms] == ["weight[0]", "weight[1]", "weight[2]", "weight[3]", "bias"]
    assert (neuron.resSeq, neuron.segment_id) == (1, "2")
    order = export.atom_order(SHAPES)
    named = [labels(SHAPES, order[[atom.index]])[0] for atom in neuron.atoms]
    assert named == ["2.weight[1, 0]", "2.weight[1, 1]", "2.weight[1, 2]", "2.weight[1, 3]", "2.bias[1]"]
    assert topology.select("chainid 1 and resSeq 1").tolist() == [atom.index for atom in neuron.atoms]


@pytest.mark.parametrize(
    "module",
    [
        torch.nn.Sequential(torch.nn.Conv2d(2, 3, 2), torch.nn.LayerNorm(3), torch.nn.Linear(3, 2, bias=False)),
        torch.nn.LSTM(2, 3),
        torch.nn.TransformerEncoderLayer(4, 2, 5),
        torch.nn.Sequential(torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 2))),
        torch.nn.ParameterDict({"scale": torch.nn.Parameter(torch.zeros(())), "w": torch.nn.Parameter(torch.zeros(2))}),
    ],
)
def test_every_parameter_of_any_module_is_one_atom(module: torch.nn.Module) -> None:
    shapes = {name: tuple(one.shape) for name, one in module.named_parameters()}
    flat = [name for name, shape in shapes.items() for _ in range(int(np.prod(shape)))]
    order, topology = export.atom_order(shapes), export.to_topology(shapes)
    assert sorted(order.tolist()) == list(range(len(flat)))
    assert topology.n_atoms == len(flat)
    for place, atom in zip(order, topology.atoms, strict=True):
        layer = atom.residue.segment_id
        name = atom.name.split("[")[0]
        assert flat[place] == (f"{layer}.{name}" if layer else name)


def test_a_filter_is_a_residue() -> None:
    topology = export.to_topology({"c.weight": (3, 2, 2, 2), "c.bias": (3,)})
    assert [residue.n_atoms for residue in topology.residues] == [9, 9, 9]
    assert topology.residue(2).atom(5).name == "weight[1,0,1]"


def test_to_mdtraj(run: Trajectory) -> None:
    found = export.to_mdtraj(run, 2)
    np.testing.assert_array_equal(found.xyz[..., 0], positions(run, 2))
    assert not found.xyz[..., 1:].any()
    np.testing.assert_array_equal(found.time, run.positions.time)
    assert found.unitcell_vectors is None
    part = export.to_mdtraj(run, 2, every=4, selection="layer 1 and neuron 0")
    np.testing.assert_array_equal(part.xyz[..., 0], positions(run, 2)[::4, 16:21])
    assert [atom.name for atom in part.topology.atoms] == ["weight[0]", "weight[1]", "weight[2]", "weight[3]", "bias"]


@pytest.mark.parametrize("end", ["h5", "trr", "dcd"])
def test_round_trip_through_mdtraj(run: Trajectory, tmp_path: Path, end: str) -> None:
    """Exact, but for the factor 10 of .dcd: two roundings of float32, each of at most 2^-24."""
    for options in ({}, {"walker": 1, "every": 4, "selection": "weight"}):
        file = tmp_path / f"out.{end}"
        assert export.export(run, file, overwrite=True, **options).startswith(f"{file}: ")
        expected = export.to_mdtraj(
            run, options.get("walker", 0), every=options.get("every", 1), selection=options.get("selection")
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = mdtraj.load(str(file), **({} if end == "h5" else {"top": expected.topology}))
        assert found.xyz.shape == expected.xyz.shape
        assert found.topology == expected.topology
        assert found.unitcell_vectors is None
        if end == "dcd":
            np.testing.assert_allclose(found.xyz, expected.xyz, rtol=2.1 * 2**-24)
        else:
            np.testing.assert_array_equal(found.xyz, expected.xyz)
            np.testing.assert_array_equal(found.time, expected.time.astype(np.float32))


def test_h5_holds_what_mdtraj_has_no_place_for(run: Trajectory, tmp_path: Path) -> None:
    import tables

    export.write_h5(run, tmp_path / "out.h5", walker=1, every=2)
    with tables.open_file(str(tmp_path / "out.h5")) as file:
        group = file.root.nnsim
        order, step, time = group.parameter[:], group.step[:], group.time[:]
        flat = np.empty((len(step), SIZE), np.float32)
        flat[:, order] = file.root.coordinates[:, :, 0]
    np.testing.assert_array_equal(flat, run.positions[::2, 1])
    np.testing.assert_array_equal(step, run.positions.step[::2])
    np.testing.assert_array_equal(time, run.positions.time[::2])
    [chain, _] = mdtraj.load(str(tmp_path / "out.h5")).topology.chains
    assert chain.chain_id == "0"


def test_trr_has_steps_and_refuses_those_it_cannot_hold(run: Trajectory, tmp_path: Path) -> None:
    export.write_trr(run, tmp_path / "out.trr")
    with mdtraj.formats.TRRTrajectoryFile(str(tmp_path / "out.trr")) as file:
        np.testing.assert_array_equal(file.read()[2], run.positions.step)
    late = written(tmp_path / "late.zarr", np.float32, first_step=molecular.LARGEST_STEP - 30)
    with pytest.raises(InputError, match=r"must be at most 2147483647.*export to \.h5"):
        export.write_trr(late, tmp_path / "late.trr")
    assert not (tmp_path / "late.trr").exists()


def test_mdtraj_superposes_as_the_docs_warn(run: Trajectory) -> None:
    """Without superposition its rmsd is the plain distance of parameter space; with it, it is another number."""
    flat = positions(run, 0).astype(np.float64)
    plain = np.sqrt(np.mean((flat - flat[0]) ** 2, axis=1))
    np.testing.assert_allclose(mdtraj.rmsd(*[export.to_mdtraj(run)] * 2, superpose=False), plain, rtol=1e-5)
    assert np.abs(mdtraj.rmsd(*[export.to_mdtraj(run)] * 2)[1:] - plain[1:]).max() > 1e-3


# -------------------------------------------------------------------------------------------------------------- tables


def test_npz_is_what_was_recorded(run: Trajectory, tmp_path: Path) -> None:
    export.write_npz(run, tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as found:
        assert json.loads(str(found["header"])) == run.header
        for name in run.observables:
            np.testing.assert_array_equal(found[name], run[name][:])
            np.testing.assert_array_equal(found[f"{name}/step"], run[name].step)
            np.testing.assert_array_equal(found[f"{name}/time"], run[name].time)
            assert found[name].dtype == run[name].dtype
        np.testing.assert_array_equal(found["position"], run.positions[:])
        np.testing.assert_array_equal(found["position/step"], run.positions.step)


def test_npz_of_a_part(run: Trajectory, tmp_path: Path) -> None:
    options: dict[str, Any] = {"walker": 2, "every": 4, "selection": "bias", "observables": ("pair", "kT")}
    export.write_npz(run, tmp_path / "out.npz", **options)
    with np.load(tmp_path / "out.npz") as found:
        columns = [12, 13, 14, 15, 24, 25]
        np.testing.assert_array_equal(found["position"], run.positions[::4, 2][:, columns])
        np.testing.assert_array_equal(found["position/index"], columns)
        np.testing.assert_array_equal(found["pair"], run["pair"][::4, 2])
        np.testing.assert_array_equal(found["kT"], run["kT"][::4])
        assert "loss" not in found
    export.write_npz(run, tmp_path / "none.npz", with_positions=False)
    assert "position" not in np.load(tmp_path / "none.npz")


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def test_csv_has_a_row_for_each_step_and_walker(run: Trajectory, tmp_path: Path) -> None:
    """Every number comes back bit for bit; cells of steps without a frame are empty."""
    count, rows = export.write_csv(run, tmp_path / "out.csv"), rows_of(tmp_path / "out.csv")
    assert count == len(rows)
    steps = sorted({*range(0, 61, 2), *range(0, 61, 3)})
    assert [(int(row["step"]), int(row["walker"])) for row in rows] == [(s, w) for s in steps for w in range(3)]
    assert list(rows[0]) == ["step", "time", "walker", "kT", "loss", "pair[0]", "pair[1]"]
    for row in rows:
        step, walker = int(row["step"]), int(row["walker"])
        assert float(row["time"]) == 0.1 * step
        assert (row["loss"], row["kT"]) == ("", "") or step % 2 == 0
        assert row["pair[1]"] == "" or step % 3 == 0
        if step % 2 == 0:
            assert float(row["loss"]) == run["loss"][step // 2, walker]
            assert float(row["kT"]) == run["kT"][step // 2]
        if step % 3 == 0:
            assert np.float32(row["pair[1]"]) == run["pair"][step // 3, walker, 1]


def test_csv_is_that_of_pandas_byte_for_byte(run: Trajectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of every size and type, cells that are empty, and names with commas."""
    import pandas

    plan = tables._Plan("test", run, None, None, None)
    steps, times = np.arange(0, 61, 1), 0.1 * np.arange(61)
    columns = plan.columns_of(steps, times, run.positions)
    tiny = 10.0 ** np.linspace(-320, 38, 183)
    columns |= {"a, b": tiny, "f": tiny.astype(np.float32), "i": np.arange(183) - 90, "yes": tiny > 1}
    columns["odd"] = np.resize([np.inf, -np.inf, np.nan, -0.0, 1e16, 123456789.125], 183)
    expected = pandas.DataFrame(columns).to_csv(index=False)
    rows = io.StringIO(newline="")
    writer = csv.writer(rows, lineterminator=os.linesep)
    writer.writerow(columns)
    writer.writerows(zip(*map(tables._texts, columns.values()), strict=True))
    assert rows.getvalue() == expected
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert export.write_csv(run, tmp_path / "out.csv") == len(rows_of(tmp_path / "out.csv")) > 0


def test_csv_with_positions(run: Trajectory, tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    export.write_csv(run, file, walker=1, every=2, selection="layer 1 and bias", observables=("loss",))
    rows = rows_of(file)
    assert list(rows[0]) == ["step", "time", "walker", "loss", "2.bias[0]", "2.bias[1]"]
    assert [int(row["step"]) for row in rows] == list(range(0, 61, 6))
    found = np.array([[row["2.bias[0]"], row["2.bias[1]"]] for row in rows]).astype(np.float32)
    np.testing.assert_array_equal(found, run.positions[::2, 1, 24:])
    np.testing.assert_array_equal([float(row["loss"]) for row in rows], run["loss"][::3, 1])


# -------------------------------------------------------------------------------------------------------------- states


@pytest.mark.slow
def test_a_state_brings_back_the_recorded_loss(tmp_path: Path) -> None:
    """A network loaded by torch from .safetensors has, to float32 rounding, the loss recorded at that frame."""
    from safetensors import safe_open
    from safetensors.torch import load_file

    x = torch.linspace(-1, 1, 12).reshape(-1, 1)
    module = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    system = NeuralNetwork(module, train=(x, torch.sin(3 * x)), loss="mse")
    simulation = Simulation(
        system, Langevin(0.05, 1.0), observe=[cv.LogLoss("train")], walkers=2, every=5, positions_every=5, threads=1
    )
    simulation.run(20, output=tmp_path / "run.zarr", progress=False)
    run, file = Trajectory(tmp_path / "run.zarr"), tmp_path / "net.safetensors"
    assert export.write_safetensors(run, file, frame=2, walker=1) == 4
    (tmp_path / "other").touch()
    assert file.stat().st_mode == (tmp_path / "other").stat().st_mode  # as readable as any other new file
    module.load_state_dict(load_file(file))
    loss = torch.nn.functional.mse_loss(module(x), torch.sin(3 * x)).log().item()
    np.testing.assert_allclose(loss, run["ln_loss_train"][2, 1], atol=1e-5)
    with safe_open(file, "np") as opened:
        metadata = opened.metadata()
    assert {key: metadata[key] for key in ("step", "frame", "walker")} == {"step": "15", "frame": "2", "walker": "1"}


def test_states_have_names_shapes_and_bits(run: Trajectory, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    export.write_safetensors(run, tmp_path / "net.safetensors")
    found = load_file(tmp_path / "net.safetensors")
    assert {name: values.shape for name, values in found.items()} == SHAPES
    flat = np.concatenate([found[name].reshape(-1) for name in SHAPES])
    np.testing.assert_array_equal(flat, run.positions[-1, 0])
    double = written(tmp_path / "double.zarr", np.float64)
    export.write_safetensors(double, tmp_path / "double.safetensors", step=27, walker=1)
    found = load_file(tmp_path / "double.safetensors")
    np.testing.assert_array_equal(found["2.bias"], double.positions[9, 1, 24:])
    assert found["2.bias"].dtype == np.float64


# -------------------------------------------------------------------------------------------------------------- zarrmd


def test_zarrmd_is_strict_h5md_of_zarr_format_2(run: Trajectory, tmp_path: Path) -> None:
    """What the reader of MDAnalysis asks for; that it reads it is shown by `make test-interop`."""
    root = tmp_path / "out.zarrmd"
    export.write_zarrmd(run, root, walker=1, every=2)
    assert json.loads((root / "h5md" / ".zattrs").read_text())["version"] == [1, 1]
    box = json.loads((root / "particles" / "parameters" / "box" / ".zattrs").read_text())
    assert box == {"dimension": 3, "boundary": ["none"] * 3}
    assert not [*root.rglob("zarr.json")]
    for array in root.rglob(".zarray"):
        assert json.loads(array.read_text())["zarr_format"] == 2
    for time in root.rglob("time"):
        assert json.loads((time / ".zattrs").read_text()) == {"unit": "ps"}
    assert json.loads((root / POSITION / "value" / ".zattrs").read_text()) == {"unit": "Angstrom"}
    for group in (root, root / "h5md", root / "particles" / "parameters", root / "observables" / "loss"):
        assert (group / ".zgroup").is_file()


# -------------------------------------------------------------------------------------------- outputs and bad settings


ENDS = ["h5", "dcd", "trr", "npz", "csv", "zarrmd", "safetensors"]


@pytest.mark.parametrize("end", ENDS)
def test_outputs_are_refused_replaced_and_never_half_written(
    run: Trajectory, tmp_path: Path, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "new folder" / f"out.{end}"
    export.export(run, output)
    before = output.stat().st_mtime_ns
    with pytest.raises(InputError, match=r"exists already.*--overwrite"):
        export.export(run, output)
    assert output.stat().st_mtime_ns == before
    monkeypatch.setattr(type(run.positions), "__getitem__", interrupted_after(1 if end == "safetensors" else 2))
    for target in (output, output.with_name(f"other.{end}")):
        with pytest.raises(KeyboardInterrupt):
            export.export(run, target, overwrite=True)
    monkeypatch.undo()
    assert [entry.name for entry in output.parent.iterdir()] == [output.name]
    assert output.stat().st_mtime_ns == before
    export.export(run, output, overwrite=True)
    assert [entry.name for entry in output.parent.iterdir()] == [output.name]


def interrupted_after(calls: int) -> Any:
    """Indexing that is broken by Ctrl-C, as if in the middle of a file."""
    from nnsim.trajectory.frames import Frames

    plain, left = Frames.__getitem__, [calls]

    def indexed(self: Any, key: Any) -> np.ndarray:
        left[0] -= 1
        if left[0] <= 0:
            raise KeyboardInterrupt
        return plain(self, key)

    return indexed


LIMITED = """
import resource, sys
from pathlib import Path
from nnsim import TrajectoryError
from nnsim.export import export

run, out = sys.argv[1], Path(sys.argv[2])
export(run, out)
size = out.stat().st_size
whole = resource.getrlimit(resource.RLIMIT_FSIZE)
for limit in [*range(0, size, size // 12), size - 300, size - 2, size - 1]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, whole[1]))
    try:
        export(run, out, overwrite=True)
        print("written")
    except TrajectoryError as error:
        assert f"cannot write {out}: " in str(error) and "choose another output, or free space" in str(error), error
    resource.setrlimit(resource.RLIMIT_FSIZE, whole)
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", [".h5", ".dcd", ".trr", ".npz", ".csv", ".safetensors"])
def test_a_full_disk_at_any_byte_is_told(run: Trajectory, tmp_path: Path, end: str) -> None:
    """Also of the last bytes, which libraries in C lose without a word."""
    out = tmp_path / "folder" / f"out{end}"
    command = [sys.executable, "-c", LIMITED, str(run.path), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "written" in done.stdout) == (0, False), done
    assert [entry.name for entry in out.parent.iterdir()] == [out.name]


def test_folders_that_are_no_export_are_left_alone(run: Trajectory, tmp_path: Path) -> None:
    mine = tmp_path / "mine.zarrmd"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years")
    for target in (mine, run.path):
        with pytest.raises(InputError, match="no earlier export, so it is left alone"):
            export.export(run, target, format="zarrmd", overwrite=True)
    assert (mine / "thesis.tex").exists()
    assert len(Trajectory(run.path).positions) == 21
    with pytest.raises(InputError, match="left alone"):
        export.export(run, mine.rename(tmp_path / "mine.csv"), overwrite=True)


def test_a_disk_that_cannot_be_written_is_named(run: Trajectory, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrajectoryError, match=r"cannot write .*out\.csv: "):
        export.export(run, tmp_path / "file" / "out.csv")


@pytest.mark.parametrize(
    ("output", "options", "message"),
    [
        ("out.xtc", {}, "XTC rounds to 3 decimals"),
        ("out.pdb", {}, "PDB has columns of 3 decimals and at most 99999 atoms"),
        ("out.nc", {}, "format = 'nc' is not known; choose one of 'h5'"),
        ("out", {}, "format = '' is not known"),
        ("out.zarr", {}, "give it, or call the output NAME.zarrmd"),
        ("out.dat", {"format": "h5"}, r"out.dat must end in \.h5"),
        ("out.h5", {"walker": 3}, "walker = 3 must be below 3"),
        ("out.csv", {"walker": -1}, "walker = -1 must be a whole number of at least 0"),
        ("out.trr", {"every": 0}, "every = 0 must be a whole number of at least 1"),
        ("out.dcd", {"selection": "layer 7"}, "is no layer of this network"),
        ("out.npz", {"observables": ("lost",)}, "has no observable 'lost'; it has 'kT'"),
        ("out.npz", {"observables": (), "with_positions": False}, "nothing of .* was asked for"),
        ("out.safetensors", {"selection": "bias"}, "selection = 'bias' is not used for safetensors"),
        ("out.safetensors", {"frame": 21}, "frame = 21 must be -21 to 20"),
        ("out.safetensors", {"step": 4}, "step = 4 has no frame of the positions"),
        ("out.safetensors", {"step": 3, "frame": 1}, "frame = 1 and step = 3 both choose the frame"),
        ("out.h5", {"frame": 3}, "frame = 3 is not used for h5, which has walker, every, selection"),
    ],
)
def test_bad_settings_are_named(
    run: Trajectory, tmp_path: Path, output: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises((InputError, TrajectoryError), match=message):
        export.export(run, tmp_path / output, **options)
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.zarr"]


def test_a_run_without_positions(tmp_path: Path) -> None:
    writer = TrajectoryWriter.create(tmp_path / "run.zarr", {"parameters": SHAPES, "walkers": 1})
    writer.append("observables/position", 0, 0.0, np.zeros(1))
    writer.close()
    run = Trajectory(tmp_path / "run.zarr")
    for end in ("h5", "zarrmd", "safetensors"):
        with pytest.raises(InputError, match=r"has no positions; run again with positions_every"):
            export.export(run, tmp_path / f"out.{end}")
    assert export.export(run, tmp_path / "out.npz").endswith("4 arrays")
    assert export.export(run, tmp_path / "out.csv").endswith("1 rows")


def test_an_observable_that_mdanalysis_would_overwrite_is_refused(tmp_path: Path) -> None:
    writer = TrajectoryWriter.create(tmp_path / "run.zarr", {"parameters": SHAPES, "walkers": 1})
    writer.append("observables/time", 0, 0.0, np.zeros(1))
    writer.append(POSITION, 0, 0.0, np.zeros((1, SIZE)))
    writer.close()
    run = Trajectory(tmp_path / "run.zarr")
    with pytest.raises(InputError, match="MDAnalysis has a 'time' of its own"):
        export.write_zarrmd(run, tmp_path / "out.zarrmd")
    assert export.write_zarrmd(run, tmp_path / "out.zarrmd", observables=()) == 1


# -------------------------------------------------------------------------------------------------------- command line


def test_command_line(run: Trajectory, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    arguments = ("export", run.path, out, "--walker", 1, "--every", 5, "--observable", "loss", "--selection", "bias")
    assert nnsim(*arguments) == (0, f"{out}: 5 rows\n", "")
    assert len(rows_of(out)[0]) == 4 + 6
    assert "--overwrite" in error_of(*arguments)
    assert nnsim(*arguments, "--overwrite", "--no-positions").status == 0
    assert len(rows_of(out)[0]) == 4
    assert nnsim("export", run.path, tmp_path / "md.zarr", "--format", "zarrmd").out.endswith("21 frames\n")
    assert nnsim("export", run.path, tmp_path / "a.safetensors", "--frame", 3).out.endswith("4 tensors\n")
    assert "XTC rounds to 3 decimals" in error_of("export", run.path, tmp_path / "out.xtc")
    told = nnsim("export", "--help").out
    for words in ("superpose", "3 dimensions", "nm and ps", ".safetensors", "3 decimals"):
        assert words in told


@pytest.mark.parametrize("end", ["dcd", "h5", "trr", "zarrmd"])
def test_a_few_of_many_parameters_take_little_memory(end: str, tmp_path: Path) -> None:
    """24 MB of positions, of which 4 parameters are exported."""
    writer = TrajectoryWriter.create(tmp_path / "run.zarr", {"parameters": {"w": (6000,)}, "walkers": 1})
    for step in range(1000):
        writer.append(POSITION, step, 1.0 * step, np.full((1, 6000), step, np.float32))
    writer.close()
    export.export(Trajectory(tmp_path / "run.zarr"), tmp_path / f"first.{end}", selection="index 0 to 3")  # imports
    run = Trajectory(tmp_path / "run.zarr")
    tracemalloc.start()
    try:
        export.export(run, tmp_path / f"out.{end}", selection="index 0 to 3")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16e6


@pytest.mark.slow
def test_exports_do_not_import_torch(run: Trajectory, tmp_path: Path) -> None:
    ends = [end for end in ENDS if end != "zarrmd"]
    code = (
        "import sys; from nnsim.export import export\n"
        f"for end in {ends}: export({str(run.path)!r}, {str(tmp_path)!r} + '/out.' + end)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
