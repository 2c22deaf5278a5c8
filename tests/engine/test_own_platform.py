"""A platform of one's own runs a simulation, records it and goes on to the same bits; what cannot be is one line."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import arrays_of, nnsim

from nnsim import Box, Grid, InputError, Platform, Simulation, Trajectory, cv
from nnsim.bias import Metadynamics
from nnsim.integrators import Langevin, MonteCarlo
from nnsim.platforms import ReferencePlatform, choose
from nnsim.running.progress import summary
from nnsim.systems import AnalyticSystem, Harmonic


class Counting(Platform):
    """The steps of the reference, and how many there were."""

    name = "counting"

    def __init__(self, weight: int = 1) -> None:
        self.weight, self.done = weight, 0

    def advance(self, state, steps):  # type: ignore[no-untyped-def]
        for _ in range(steps):
            state = self.integrator.step(state, self.force_field)
            self.force_field.update_biases(state.cvs, state.step)
            self.done += self.weight
        return state

    def state_dict(self) -> dict[str, Any]:
        return {"done": self.done}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.done = saved["done"]


class Grumpy(Counting):
    name = "grumpy"
    mood = "it does not feel like it"

    @classmethod
    def obstacle(cls, simulation: Simulation) -> str | None:
        return cls.mood

    @classmethod
    def serves(cls, integrator: Any) -> bool:
        return True


def build(platform: Any = "auto", integrator: Any = None, **more: Any) -> Simulation:
    energy = cv.LogEnergy(Harmonic())
    bias = Metadynamics(energy, Grid(-6.0, 4.0, 50, kind="spline"), height=0.1, sigma=0.3, pace=5)
    return Simulation(
        AnalyticSystem(3, Harmonic(), box=Box(4.0), start=0.5), integrator or Langevin(dt=0.05, friction=1.0),
        bias=bias, walkers=2, seed=3, every=2, positions_every=4, platform=platform, threads=1, **more,
    )  # fmt: skip


GIVEN: dict[str, Callable[[], Any]] = {"class": lambda: Counting, "object": lambda: Counting(weight=3)}


@pytest.mark.slow
@pytest.mark.parametrize("given", GIVEN)
def test_it_runs_records_and_resumes_to_the_bit(given: str, tmp_path: Path) -> None:
    whole = build(GIVEN[given]()).run(40, output=tmp_path / "whole.zarr", progress=False)
    reference = build().run(40, output=tmp_path / "reference.zarr", progress=False)
    assert torch.equal(whole.state.positions, reference.state.positions)
    assert isinstance(whole.platform, Counting)
    header = Trajectory(tmp_path / "whole.zarr").header
    assert (header["platform"], header["platform_reason"]) == ("counting", None)
    assert re.search(r"platform: +counting\n", nnsim("info", tmp_path / "whole.zarr").out)

    build(GIVEN[given]()).run(17, output=tmp_path / "parts.zarr", progress=False)
    parts = build(GIVEN[given]()).run(40, output=tmp_path / "parts.zarr", resume=True, progress=False)
    assert isinstance(parts.platform, Counting)
    assert parts.platform.done == whole.platform.done == 40 * parts.platform.weight
    one, other, plain = (arrays_of(tmp_path / f"{name}.zarr") for name in ("whole", "parts", "reference"))
    assert one == other == plain


def test_an_object_serves_several_simulations() -> None:
    shared = Counting()
    first, second = build(shared), build(shared, MonteCarlo(0.1))
    first.advance(3)
    second.advance(5)
    assert (shared.done, first.platform.done, second.platform.done) == (0, 3, 5)  # type: ignore[attr-defined]
    assert torch.equal(first.state.positions, build().advance(3).state.positions)


@pytest.mark.slow
def test_a_run_goes_on_only_on_a_platform_of_that_name(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    build(Counting).run(10, output=path, progress=False)
    before = arrays_of(path)
    missing = "the run so far is from the platform 'counting', which is none of nnsim's; give it again"
    for other in ("auto", "reference", type("Other", (Counting,), {"name": "other"})):
        for accept in (False, True):
            with pytest.raises(InputError, match=missing):
                build(other).run(20, output=path, resume=True, accept_changes=accept, progress=False)
    with pytest.raises(InputError, match=r"own_platform\.weight: 1 -> 2"):
        build(Counting(weight=2)).run(20, output=path, resume=True, progress=False)
    assert arrays_of(path) == before
    assert build(Counting()).run(20, output=path, resume=True, progress=False).platform.done == 20  # type: ignore[attr-defined]


def test_a_run_of_a_built_in_one_does_not_go_on_elsewhere_unasked(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    build().run(10, output=path, progress=False)
    with pytest.raises(InputError, match="platform: reference -> counting"):
        build(Counting).run(20, output=path, resume=True, progress=False)
    assert build(ReferencePlatform).run(20, output=path, resume=True, progress=False).state.step == 20


class Forgetful(Platform):
    name = "forgetful"


class Unrelated:
    name = "unrelated"

    def advance(self, state, steps):  # type: ignore[no-untyped-def]
        return state


class Nameless(Platform):
    def advance(self, state, steps):  # type: ignore[no-untyped-def]
        return state


class Demanding(Counting):
    def __init__(self, weight: int) -> None:
        super().__init__(weight)


LISTED = r"is not known; choose one of 'auto', 'reference', 'device', 'native', or give a platform of your own"


@pytest.mark.parametrize(
    ("platform", "message"),
    [
        ("gpu", rf"platform = 'gpu' {LISTED}"),
        ("Native", rf"platform = 'Native' {LISTED}"),
        (None, rf"platform = None {LISTED}"),
        (5, rf"platform = 5 {LISTED}"),
        (["native"], LISTED),
        (int, LISTED),
        (Forgetful, r"Forgetful: the method advance is missing; define advance\(state, steps\)"),
        (Unrelated, r"Unrelated: the method obstacle, serves, attach, settled, .* is missing; .*nnsim.protocols"),
        (Nameless, "Nameless: the attribute name is missing"),
        (Nameless(), "Nameless: the attribute name is missing"),
        (Demanding, r"Demanding: the platform is not made without arguments .* platform=Demanding\(\.\.\.\)"),
        (type("Fast", (Counting,), {"name": "native"}), "Fast: name = 'native' is that of another platform"),
        (type("Auto", (Counting,), {"name": "auto"}), "Auto: name = 'auto' is that of another platform"),
        (type("Number", (Counting,), {"name": 3}), "Number: name = 3 must be a name"),
        (type("Path", (Counting,), {"name": "a/b"}), "name 'a/b' cannot be stored"),
        (Grumpy, "platform = 'grumpy': it does not feel like it; use platform='reference'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_clear_line(platform: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        build(platform)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_list_is_all_that_knows_a_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is put first is chosen, recorded and gone on with; passed over, it says why; later, it stays."""
    monkeypatch.setattr(choose, "PLATFORMS", (Grumpy, *choose.PLATFORMS))
    with pytest.raises(InputError, match="choose one of 'auto', 'reference', 'device', 'native', 'grumpy', or"):
        build("gpu")
    passed_over = build()
    assert passed_over.platform.name == "reference"
    assert passed_over.platform_reason == "grumpy: it does not feel like it"
    assert summary(passed_over)["platform"] == "reference (grumpy: it does not feel like it)"
    passed_over.run(10, output=tmp_path / "slow.zarr", progress=False)

    monkeypatch.setattr(Grumpy, "mood", None)
    assert (build("grumpy").platform.name, build("grumpy").platform_reason) == ("grumpy", None)
    build().run(10, output=tmp_path / "fast.zarr", progress=False)
    assert Trajectory(tmp_path / "fast.zarr").header["platform"] == "grumpy"
    slow = build().run(20, output=tmp_path / "slow.zarr", resume=True, progress=False)
    assert (slow.platform.name, slow.platform_reason) == ("reference", "grumpy: the run so far is not from there")
    fast = build().run(20, output=tmp_path / "fast.zarr", resume=True, progress=False)
    assert (fast.platform.name, fast.platform.done) == ("grumpy", 20)  # type: ignore[attr-defined]

    monkeypatch.setattr(Grumpy, "mood", "it has grown old")
    with pytest.raises(InputError, match=r"platform: grumpy -> reference \(grumpy: it has grown old\)"):
        build().run(30, output=tmp_path / "fast.zarr", resume=True, progress=False)
