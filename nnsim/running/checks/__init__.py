"""What is refused when a simulation is put together."""
