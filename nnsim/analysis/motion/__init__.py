"""How walkers move in parameter space, and how far networks are from each other."""
