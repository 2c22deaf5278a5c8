"""One part of each kind, as a user would write them in a file of their own; `test_extension.py` runs them."""

import math

import torch

from nnsim import Bias, Box, CollectiveVariable, Integrator, State, System


class Springs(System):
    """n coordinates, each on a spring: U = stiffness |q|^2 / 2."""

    def __init__(self, n, stiffness):
        self.stiffness = stiffness
        self.parameters = {"q": (n,)}
        self.box = Box(kind="open")

    def initial_positions(self, walkers, generator):
        return torch.zeros(walkers, *self.parameters["q"], dtype=torch.float64)

    def energy(self, evaluation):
        return self.stiffness * evaluation.positions.square().sum(-1) / 2


class Centre(CollectiveVariable):
    """Mean of all coordinates."""

    name = "centre"

    def __call__(self, evaluation):
        return evaluation.positions.mean(-1)


class Umbrella(Bias):
    """V(s) = strength (s - centre)^2 / 2; its gradient comes by automatic differentiation."""

    name = "umbrella"

    def __init__(self, cv, centre, strength):
        self.cvs = [cv]
        self.centre, self.strength = centre, strength

    def energy(self, s, step):
        return self.strength * (s[:, 0] - self.centre) ** 2 / 2


class Brownian(Integrator):
    """Overdamped dynamics: q <- q + h f + sqrt(2 h kT) xi."""

    def __init__(self, h, kT=1.0):
        self.h, self.kT = h, kT

    @property
    def time_step(self):
        return self.h

    def init(self, positions, force_field, generator):
        energy, bias_energy, cvs, forces = force_field(positions, 0)
        return State(positions, torch.zeros_like(positions), forces, energy, bias_energy, cvs, generator)

    def step(self, state, force_field):
        noise = state.normal(like=state.positions)
        state.positions += self.h * state.forces + math.sqrt(2 * self.h * self.kT) * noise
        state.step += 1
        state.energy, state.bias_energy, state.cvs, state.forces = force_field(state.positions, state.step)
        return state


class Spread:
    """An observable: standard deviation over the coordinates, and their largest and smallest value, [W, 3]."""

    name = "spread"

    def observe(self, state, evaluation):
        q = evaluation.positions
        return torch.stack([q.std(-1), q.amax(-1), q.amin(-1)], dim=-1)
