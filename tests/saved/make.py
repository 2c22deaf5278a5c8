"""Save small runs of the present version, which every later version must open: `python tests/saved/make.py 0.1`.

Each archive holds, of one of `scripts/`, NAME.py, NAME.zarr and NAME.checkpoint.npz of the finished run, and later.npz:
the observables of the second half of the same run when it had gone on to twice that length. What was saved once is
never made again: those of 0.1 are by commit 386d3ca.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

import nnsim

HERE = Path(__file__).parent


def main(version: str) -> None:
    (HERE / version).mkdir()
    for script in sorted((HERE / "scripts").glob("*.py")):
        save(script, HERE / version)


def save(script: Path, target: Path) -> None:
    name = script.stem
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        shutil.copy(script, folder)
        command = [sys.executable, "-m", "nnsim", "run", script.name, "--no-progress"]
        subprocess.run(command, cwd=folder, check=True)
        files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
        content = {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
        steps = nnsim.Trajectory(folder / f"{name}.zarr").steps
        subprocess.run([*command, "--steps", str(2 * steps), "--resume"], cwd=folder, check=True)
        later = nnsim.Trajectory(folder / f"{name}.zarr")
        np.savez_compressed(folder / "later.npz", **{one: later[one][len(later[one]) // 2 :] for one in later})
        content["later.npz"] = (folder / "later.npz").read_bytes()
    with zipfile.ZipFile(target / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in content.items():
            archive.writestr(path, data)


if __name__ == "__main__":
    main(sys.argv[1])
