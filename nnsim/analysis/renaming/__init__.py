"""What superposition is to a molecule: other names of hidden neurons, under which networks are compared."""
