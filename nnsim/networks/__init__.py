"""What the engine knows of torch modules: where their parameters lie, and what dense ones are made of."""
