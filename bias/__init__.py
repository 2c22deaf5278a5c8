"""Biases: potentials on collective variables."""

from nnsim.bias.boltzmann import Boltzmann
from nnsim.bias.metadynamics import Metadynamics
from nnsim.bias.opes import OPES
from nnsim.bias.replica_exchange import ReplicaExchange
from nnsim.bias.umbrella import Umbrella, Work
from nnsim.bias.wall import Wall
from nnsim.bias.wang_landau import WangLandau

__all__ = ["OPES", "Boltzmann", "Metadynamics", "ReplicaExchange", "Umbrella", "Wall", "WangLandau", "Work"]
