"""Classical training and sweeps: curves, ensembles, tables, and laws of growth."""
