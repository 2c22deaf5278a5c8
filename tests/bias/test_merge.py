"""Learnt biases that are shared: what each has learnt, put together, is what one would have learnt of it all."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from nnsim import Box, Grid, InputError, Simulation, Trajectory, cv
from nnsim.bias import Metadynamics, Wall, WangLandau
from nnsim.integrators import MixedStep, MonteCarlo
from nnsim.schedules import FlatnessHalving, RampHoldInverseTime
from nnsim.systems import spiral_classification

KINDS = ["bins", "spline"]


def flat(kind: str, **more: Any) -> WangLandau:
    schedule = RampHoldInverseTime(0.01, 100, 300.0)
    return WangLandau(cv.Parameter(0), Grid(-1.0, 1.0, 20, kind=kind), schedule, kT=0.7, kernel=0.15, **more)


def hills(kind: str, factor: float | None) -> Metadynamics:
    grid = Grid(-1.0, 1.0, 20, kind=kind)
    return Metadynamics(cv.Parameter(0), grid, 0.1, 0.15, 1, bias_factor=factor, kT=0.7)


def places(seed: int, count: int = 40) -> torch.Tensor:
    """Values of the CV, [count, 1], a tenth of them outside the grid."""
    return 1.1 * (2 * torch.rand(count, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1)


def state(bias: Any) -> list[Any]:
    return [bias.potential, bias.visits, bias.deposits, bias.outside, bias.energy(places(9), 0)]


def same(one: Any, two: Any) -> None:
    for a, b in zip(state(one), state(two), strict=True):
        assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))


def begun(bias: Any) -> Any:
    """A bias that has learnt something before it is shared."""
    bias.update(places(0, 200), 1)
    bias.share()
    return bias


@pytest.mark.parametrize("kind", KINDS)
def test_two_halves_of_visits_make_the_whole(kind: str) -> None:
    """Bit for bit, in any order; and again after the first merge, with the increment of that time."""
    whole, one, two = (begun(flat(kind)) for _ in range(3))
    for first in (1, 11):
        before = whole.increment
        for step in range(first, first + 10):
            s = places(step)
            whole.update(s, step)
            one.update(s[:20], step)
            two.update(s[20:], step)
        parts = [one.learnt(), two.learnt()]
        assert all(part["visits"].dtype == torch.int64 for part in parts)
        assert int(sum(part["visits"].sum() + part["outside"] for part in parts)) == 400
        assert {float(part["height"]) for part in parts} == {0.7 * before}
        # what each feels meanwhile: the last merged bias and its own deposits
        assert not torch.equal(one.potential, two.potential)
        whole.merge([whole.learnt()])
        one.merge(parts)
        two.merge(parts[::-1])
        same(one, whole)
        same(two, whole)
        assert one.increment == whole.increment
        assert not one.learnt()["visits"].any()
    assert whole.increment < before  # the clock of the schedule has gone on


@pytest.mark.parametrize("kind", KINDS)
def test_counts_at_a_constant_increment_are_the_deposits(kind: str) -> None:
    """Merging what a bias has learnt itself changes V by rounding only, if the increment would not have changed."""
    shared = WangLandau(cv.Parameter(0), Grid(-1.0, 1.0, 20, kind=kind), RampHoldInverseTime(0.01, 0, 1e9))
    alone = copy.deepcopy(shared)
    shared.share()
    for step in range(1, 11):
        shared.update(places(step), step)
        alone.update(places(step), step)
    shared.merge([shared.learnt()])
    assert torch.equal(shared.visits, alone.visits)
    torch.testing.assert_close(shared.potential, alone.potential, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("factor", [None, 5.0])
@pytest.mark.parametrize("kind", KINDS)
def test_two_lists_of_hills_make_the_whole(kind: str, factor: float | None) -> None:
    """One list after the other, bit for bit, each hill as high as it was made."""
    whole, one, two = (begun(hills(kind, factor)) for _ in range(3))
    for step in range(1, 6):
        one.update(places(step), step)
        two.update(places(step + 50), step)
    parts = [one.learnt(), two.learnt()]
    assert sum(len(part["hills"]) + int(part["outside"]) for part in parts) == 400
    joined = {key: torch.cat([part[key].reshape(-1, *part[key].shape[1:]) for part in parts]) for key in ("hills",)}
    joined["outside"] = parts[0]["outside"] + parts[1]["outside"]
    whole.merge([joined])
    one.merge(parts)
    two.merge(parts)
    same(one, two)
    assert torch.equal(one.visits, whole.visits)
    assert (one.deposits, one.outside) == (whole.deposits, whole.outside)
    torch.testing.assert_close(one.potential, whole.potential, rtol=1e-12, atol=1e-14)
    assert not len(one.learnt()["hills"])


@pytest.mark.parametrize("make", [lambda: flat("spline"), lambda: hills("spline", 5.0)], ids=["visits", "hills"])
def test_a_shared_bias_is_saved_between_merges(make: Any) -> None:
    whole, saved, resumed = begun(make()), begun(make()), make()
    for step in range(1, 6):
        whole.update(places(step), step)
        saved.update(places(step), step)
    resumed.load_state_dict(saved.state_dict())
    for step in range(6, 11):
        whole.update(places(step), step)
        resumed.update(places(step), step)
    same(resumed, whole)
    parts = [whole.learnt()]
    for key, value in resumed.learnt().items():
        assert torch.equal(value, parts[0][key])
    resumed.merge(parts)
    whole.merge(parts)
    same(resumed, whole)


def test_a_schedule_that_watches_the_histogram_looks_at_merges_only() -> None:
    schedule = FlatnessHalving(0.01, flatness=1e-6, check_every=100)
    bias = WangLandau(cv.Parameter(0), Grid(-1.0, 1.0, 4, kind="bins"), schedule)
    bias.share()
    for step in range(1, 21):
        bias.update(places(step), step)
    assert bias.increment == 0.01
    bias.merge([bias.learnt()])
    assert bias.increment == 0.005


def test_what_cannot_be_merged_is_refused() -> None:
    one, two = begun(flat("bins")), flat("bins")
    with pytest.raises(InputError, match="'wang_landau' is not shared, so that nothing is kept apart"):
        two.learnt()
    with pytest.raises(InputError, match="'metadynamics' is not shared, so that nothing is kept apart"):
        hills("bins", None).learnt()
    two.share()
    with pytest.raises(InputError, match="of a deposit were not learnt from one V"):
        one.merge([one.learnt(), two.learnt()])
    with pytest.raises(InputError, match="of a deposit were not learnt from one V"):
        one.merge([])
    wall = Wall(cv.Parameter(0), upper=1.0)
    for ask in (wall.share, wall.learnt, lambda: wall.merge([])):
        with pytest.raises(
            InputError, match=r"the bias 'wall_upper_parameter_0' \(Wall\) learns nothing that could be"
        ):
            ask()


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), [("native", "reference"), ("reference", "native")])
def test_what_was_learnt_goes_along_to_another_platform(tmp_path: Path, first: str, second: str) -> None:
    """Also what walkers had not merged yet: at once the tables are the same, and no move is forgotten later."""

    def simulation(platform: str) -> Simulation:
        bias = WangLandau(cv.LogLoss("train"), Grid(-2, 3, bins=25, kind="bins"), RampHoldInverseTime(0.05, 0, 1e4))
        system = spiral_classification(hidden=(3,), points_per_class=6, box=Box(3.0))
        moves = MonteCarlo(MixedStep(0.01, 2.0))
        return Simulation(system, moves, bias=bias, walkers=2, every=50, threads=1, platform=platform)

    def told(path: Path) -> tuple[bytes, bytes, int]:
        bias = Trajectory(path).bias("wang_landau")
        return bias.tables["visits"].tobytes(), bias.tables["potential"].tobytes(), bias.attrs["deposits"]

    path = tmp_path / "run.zarr"
    simulation(first).run(1357, output=path, progress=False)  # the native platform merges at other steps
    before = told(path)
    assert before[2] == 2 * 1357
    simulation(second).run(1357, output=path, resume=True, accept_changes=True, progress=False)
    assert told(path) == before
    simulation(second).run(2000, output=path, resume=True, progress=False)
    assert told(path)[2] == 2 * 2000
