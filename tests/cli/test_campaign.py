"""The campaign in a reduced form: kills, bit flips, full disks and bad input (see `campaign`)."""

import importlib
import inspect
import random
from pathlib import Path

import pytest
from campaign import BAD, Campaign
from campaign.disks import disks
from campaign.flips import flips
from campaign.inputs import inputs
from campaign.kills import kills
from campaign.lines import WORKING, commands
from campaign.parts import PARTS
from campaign.uses import Runs, uses

PACKAGES = [
    "nnsim", "nnsim.analysis", "nnsim.bias", "nnsim.box", "nnsim.cv", "nnsim.cv.ntk", "nnsim.export",
    "nnsim.integrators", "nnsim.lattice", "nnsim.plotting", "nnsim.report", "nnsim.schedules", "nnsim.systems",
    "nnsim.systems.modules",
]  # fmt: skip
NOT_THROWN_AT = {
    "Bias CollectiveVariable Integrator Observable Platform Reporter Store System": "protocols, which users implement",
    "BiasFunction IncrementSchedule Acceptance ConservedQuantity": "protocols, which parts of nnsim fulfil",
    "DivergedError InputError NNSimError NNSimWarning TrajectoryError": "errors",
    "State ForceField Evaluation": "made by a simulation, of what it has checked",
    "setting_at temperature_at seeded shapes_of hidden_sizes equal_sizes": "helpers of other parts",
    "ChannelNorm ResidualBlock": "layers of a network",
    "COLORS STYLE STYLES WIDTH EXTENSIONS": "constants",
    "Alignment AutocorrelationTime BlockAverages Compared ConditionalMean ConvergenceRecord Diagnosis Diffusion "
    "EntropyChange EntropyDifference EquilibriumTable Evolution FinalAdvantage FrameSample FrameWeights "
    "HistogramFlatness LayerTemperature LogarithmicLaw MeanSquaredDisplacement Minimum Overlap PowerLaw "
    "PrincipalComponents Profile Rmsd Rmsf Scaling Side States SweepGrid SweepTable Tempering TrainingCurve TwoSided "
    "VelocityAutocorrelation": "results, which functions give",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("campaign", "count"),
    [(kills, 4), (flips, 12), (inputs, 60), (disks, 2)],
    ids=["kills", "flips", "inputs", "disks"],
)
def test_nothing_is_lost_silent_or_raw(campaign: Campaign, count: int) -> None:
    trials = list(campaign(count, random.Random(1)))
    assert len(trials) == count
    assert [trial for trial in trials if trial.outcome in BAD] == []
    assert {trial.outcome for trial in trials} <= {"right", "told"}


def public(package: str) -> set[str]:
    """Names of a package: those it lists, or those without an underscore that are defined in it."""
    module = importlib.import_module(package)
    own = {name for name, one in vars(module).items() if inspect.getmodule(one) is module and callable(one)}
    return set(getattr(module, "__all__", {name for name in own if not name.startswith("_")}))


@pytest.mark.slow
def test_bad_input_is_thrown_at_everything_public(tmp_path: Path) -> None:
    thrown = {word for name in [*PARTS, *uses(Runs.made(tmp_path))] for word in name.split()[0].split(".")}
    excepted = {name for names in NOT_THROWN_AT for name in names.split()}
    missing = {f"{package}.{name}" for package in PACKAGES for name in public(package) - thrown - excepted}
    assert missing == set()


def test_every_command_has_a_line_that_works() -> None:
    assert {name for name, _ in commands()} == set(WORKING)
