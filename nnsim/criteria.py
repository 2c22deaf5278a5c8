"""What counts as converged, in one place: the numbers by which runs, reports and pictures judge."""

from __future__ import annotations

# An increment of 0.1 kT still leaves the equilibrium accuracy of the 116-parameter spiral wrong by up to 0.13.
CONVERGED_INCREMENT = 1e-3
CONVERGED_ROUND_TRIPS = 20
# FlatnessHalving asks for 0.8 before it goes on; a quarter of the mean is too little whatever the noise of the counts.
CONVERGED_FLATNESS = 0.25
# S(T) - S(T/2) is about the error at half of the run. One nat is a factor of 2.7 in the volume of a level.
CONVERGED_CHANGE = 1.0
FEWEST_EFFECTIVE = 100  # kernels of a density, by their weights: an error of a tenth of it all
CONVERGED_DRIFT = 0.5  # nats, of the mean weight of its kernels and of Z, from a half or quarter of them on
MOST_OUTSIDE = 0.05  # share of the steps that may be outside the grid of a bias

# Blocks of a record tell an error if there are about so many independent ones.
FEWEST_FRAMES = 8  # independent frames of each state
FEWEST_TRIPS = 8  # round trips of the walkers of a replica exchange along its ladder

FEWEST_VISITS = 0.1  # of the median bin, from which on a bin up a wall is one whose S the bias has learnt

# Relative errors by the time step. That of the energy, to kT / 2 for each degree of freedom, is the same in a harmonic
# well, but in a steeper one up to four times as large.
LARGEST_SPREAD_ERROR = 0.03
LARGEST_ENERGY_ERROR = 0.05
LEAST_ACCEPTANCE = 0.1  # of the trajectories of hybrid Monte Carlo
