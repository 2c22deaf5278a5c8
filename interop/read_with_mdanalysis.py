"""Read exported files with MDAnalysis, saving what it saw to FILE.seen.npz: `read_with_mdanalysis.py ATOMS FILE...`.

Runs in .venv-interop, which has neither nnsim nor torch nor zarr 3.
"""

import sys

import MDAnalysis
import numpy as np
import zarrtraj  # registers the reader of .zarrmd  # noqa: F401


def read(path: str, atoms: int) -> dict[str, np.ndarray]:
    """Positions, times and data of every frame; None as NaN."""
    if path.endswith(".zarrmd"):
        universe = MDAnalysis.Universe(path, to_guess=())
    else:
        universe = MDAnalysis.Universe.empty(atoms, trajectory=True)
        universe.load_new(path)
    frames = [
        {
            "positions": ts.positions.copy(),
            "time": ts.time,
            "frame": ts.frame,
            "dimensions": np.zeros(6) if ts.dimensions is None else ts.dimensions.copy(),
            **{f"data/{name}": value for name, value in ts.data.items()},
        }
        for ts in universe.trajectory
    ]
    found = {name: stacked([frame[name] for frame in frames]) for name in frames[0]}
    last = universe.trajectory[-1]
    assert last.frame == len(frames) - 1
    found["last"] = universe.select_atoms("index 0").positions
    return found


def stacked(values: list) -> np.ndarray:
    """An array of all frames."""
    shape = next((np.shape(value) for value in values if value is not None), ())
    return np.array([np.full(shape, np.nan) if value is None else value for value in values])


if __name__ == "__main__":
    for file in sys.argv[2:]:
        np.savez(f"{file}.seen.npz", **read(file, int(sys.argv[1])))
