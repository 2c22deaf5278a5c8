"""A bias of a kind of its own, V = h(t) sin(s), that readers are taught to take off; `test_own_biases.py` runs it."""

import numpy as np
import torch

from nnsim import Bias
from nnsim.analysis import teach


class Sine(Bias):
    """V = h sin(s), where h rises from 0 to `height` until the step `ramp`."""

    kind = formula = "sine"

    def __init__(self, cv, height, ramp, name="sine"):
        self.cvs, self.height, self.ramp, self.name = [cv], height, ramp, name
        self.now = torch.zeros(0)

    def energy(self, s, step):
        return self.height * min(1.0, step / self.ramp) * torch.sin(s[:, 0])

    def update(self, s, step, mask=None):
        self.now = torch.full((len(s),), self.height * min(1.0, step / self.ramp), dtype=torch.float64)

    def start(self, s):
        self.now = torch.zeros(len(s), dtype=torch.float64)

    def observables(self):
        return {"h": self.now}


def sine(settings, values, kT):
    return values(f"{settings['name']}_h") / kT * np.sin(values(settings["cvs"][0]))


teach("sine", sine, reads=["h"])
