"""What other programs read: files of the MD world, tables, and single states for torch.

| file | holds | precision |
|---|---|---|
| `.h5` | positions of one walker, topology, times; steps and parameter order besides | float32, exact |
| `.dcd` | positions of one walker | float32, times 10: 2 roundings |
| `.trr` | positions of one walker, steps (int32), times (float32) | float32, exact |
| `.zarrmd` | positions of one walker, observables, steps, times (float64) | as recorded, exact |
| `.npz`, `.csv` | observables and positions of one or all walkers, steps, times | as recorded, exact |
| `.safetensors` | one state: the tensors by name | as recorded, exact |

Runs in single and mixed precision record float32, so that exact means every bit; those in double precision record
float64, which .h5, .dcd and .trr round to float32. XTC and PDB are refused: they round to 3 decimals. For MD programs
a parameter x is an atom at (x, 0, 0), its number in their own unit, whatever that is. See `nnsim.export.molecular` for
what such programs do with it that has no meaning.
"""

from __future__ import annotations

from nnsim.export.dispatch import EXTENSIONS, export
from nnsim.export.molecular import to_mdtraj, write_dcd, write_h5, write_trr
from nnsim.export.states import write_safetensors
from nnsim.export.tables import write_csv, write_npz
from nnsim.export.topology import atom_order, to_topology
from nnsim.export.zarrmd import write_zarrmd

__all__ = [
    "EXTENSIONS",
    "atom_order",
    "export",
    "to_mdtraj",
    "to_topology",
    "write_csv",
    "write_dcd",
    "write_h5",
    "write_npz",
    "write_safetensors",
    "write_trr",
    "write_zarrmd",
]
