"""Averages and free energies from biased runs: weights, bins, profiles, equilibrium."""
