"""Input scripts that tests of several folders share."""

# One that can be swept, killed and made slow (PAUSE), with an observable of several numbers.
SWEPT = '''
"""Particles in a harmonic well."""
import os, pathlib, time
import nnsim
from nnsim import Box, cv
from nnsim.integrators import Langevin
from nnsim.systems import AnalyticSystem, Harmonic

class Spectrum:
    name = "spectrum"
    def observe(self, state, evaluation):
        time.sleep(float(os.environ.get("PAUSE", 0)))
        return state.positions.sort(dim=1).values.unsqueeze(-1)

def build(
    n: int = 1, dt: float = 0.05, walkers: int = 3, seed: int = 0, shape: tuple[int, ...] = (1,), kind: str = "a",
) -> nnsim.Simulation:
    if n == 3 and not pathlib.Path("mended").exists():
        raise ValueError("three is a crowd")
    return nnsim.Simulation(
        AnalyticSystem(n, Harmonic(), box=Box(2.0)), Langevin(dt, 1.0, 1.0), observe=[cv.WeightNorm(), Spectrum()],
        walkers=walkers, seed=seed, steps=40, every=2, checkpoint_every=4, threads=1,
    )
'''
