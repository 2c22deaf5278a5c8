"""Biases: potentials on collective variables."""

from nnsim.bias.wall import Wall
from nnsim.bias.wang_landau import WangLandau

__all__ = ["Wall", "WangLandau"]
