"""Whole methods, put together from integrators, biases and analyses."""
