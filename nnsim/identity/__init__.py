"""What a run is made of, to be compared when it goes on: settings, data, fixed tensors, and code."""
