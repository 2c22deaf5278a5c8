"""The run says when the thermostat cannot keep up with the bias."""

import warnings

import pytest

from nnsim import Box, Grid, NNSimWarning, Simulation, cv
from nnsim.bias import WangLandau
from nnsim.integrators import Langevin
from nnsim.schedules import InverseTime
from nnsim.systems import AnalyticSystem, Harmonic


def simulation(increment: float, friction: float) -> Simulation:
    bias = WangLandau(cv.LogEnergy(Harmonic()), Grid(-6.0, 2.0, spacing=0.1), InverseTime(increment, 1e9), kernel=0.2)
    system = AnalyticSystem(10, box=Box(1.0))
    return Simulation(system, Langevin(5e-3, friction), bias=bias, walkers=16, every=5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*the time step dt")  # which such a bias makes too large as well
def test_a_bias_that_grows_too_fast_is_reported_once_with_the_settings_to_change():
    with pytest.warns(
        NNSimWarning, match=r"kinetic temperature .* instead of kT = 1; .*grow more slowly, raise the"
    ) as seen:
        simulation(increment=5.0, friction=0.1).run(2000)
    assert len([one for one in seen if "the time step dt" not in str(one.message)]) == 1


@pytest.mark.slow
def test_a_gentle_bias_is_not_reported():
    with warnings.catch_warnings():
        warnings.simplefilter("error", NNSimWarning)
        quiet = simulation(increment=0.01, friction=20.0).run(2000)
    # 400 samples of 16 x 10 velocities, correlated over about 10 samples: standard error 0.018
    assert abs(quiet.monitor.kinetic_temperature() - 1) < 5 * 0.018


def test_the_last_part_can_be_averaged_alone():
    run = simulation(increment=0.01, friction=20.0).run(100)
    last = run.history["kinetic_temperature"][-4:].mean()
    assert run.monitor.kinetic_temperature(since=81) == pytest.approx(last)
