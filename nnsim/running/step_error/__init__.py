"""What the finite time step of a run does to its averages, measured along the run."""
