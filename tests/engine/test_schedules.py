"""How the increment of a Wang-Landau bias falls."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnsim import InputError
from nnsim.schedules import CycleDecay, FlatnessHalving, InverseTime, RampHoldInverseTime


def test_ramp_hold_inverse_time_of_the_mnist_script():
    schedule = RampHoldInverseTime(3.0, ramp=2e5, hold=1e7, offset=8e6)
    assert schedule.increment(99_999) == pytest.approx(1.5)
    assert schedule.increment(199_999) == pytest.approx(3.0)
    assert schedule.increment(200_000) == 3.0
    assert schedule.increment(9_999_999) == 3.0
    assert schedule.increment(10_000_000) == 3.0
    assert schedule.increment(12_000_000) == pytest.approx(1.5)
    assert schedule.increment(28_000_000) == pytest.approx(0.3)


def test_the_first_deposit_of_a_ramp_is_not_zero():
    assert RampHoldInverseTime(2.0, ramp=1000, hold=1000).increment(0) == pytest.approx(2.0 / 1000)


def test_no_ramp_and_no_hold():
    schedule = RampHoldInverseTime(2.0, ramp=0, hold=100)
    assert schedule.increment(0) == 2.0
    assert schedule.increment(400) == 0.5


@given(
    maximum=st.floats(1e-3, 100),
    ramp=st.floats(0, 1e6),
    plateau=st.floats(0, 1e6),
    offset=st.floats(0, 0.99),
    t=st.integers(0, 10**8),
)
def test_ramp_hold_is_bounded_and_falls_after_the_hold(maximum, ramp, plateau, offset, t):
    hold = ramp + plateau + 1
    schedule = RampHoldInverseTime(maximum, ramp, hold, offset * hold)
    now, later = schedule.increment(t), schedule.increment(t + 1)
    assert 0 < now <= maximum * (1 + 1e-12)
    assert later <= now * (1 + 1e-12) if t >= hold else later >= now * (1 - 1e-12) or t + 1 >= hold


def test_inverse_time():
    schedule = InverseTime(0.5, scale=70)
    assert schedule.increment(0) == 0.5
    assert schedule.increment(140) == 0.5
    assert schedule.increment(700) == pytest.approx(0.1)
    assert schedule.increment(7_000_000) == pytest.approx(1e-5)


def test_flatness_halves_only_when_the_histogram_is_flat():
    schedule = FlatnessHalving(1.0, flatness=0.8, check_every=100)
    assert schedule.increment(0) == 1.0
    schedule.observe(99, torch.tensor([33, 33, 33]))  # flat, but too early to look
    assert schedule.increment(99) == 1.0
    schedule.observe(100, torch.tensor([20, 40, 40]))  # 20 / 33.3 = 0.6
    assert schedule.increment(100) == 1.0
    schedule.observe(200, torch.tensor([60, 70, 70]))  # 60 / 66.7 = 0.9
    assert schedule.increment(200) == 0.5


def test_flatness_counts_visits_since_the_last_halving():
    schedule = FlatnessHalving(1.0, check_every=100)
    schedule.observe(100, torch.tensor([50, 50]))
    assert schedule.increment(100) == 0.5
    schedule.observe(200, torch.tensor([130, 70]))  # 80 and 20 since
    assert schedule.increment(200) == 0.5
    schedule.observe(300, torch.tensor([150, 150]))  # 100 and 100 since
    assert schedule.increment(300) == 0.25


def test_bins_never_seen_do_not_count_but_seen_ones_must_be_seen_again():
    schedule = FlatnessHalving(1.0, check_every=10)
    schedule.observe(10, torch.tensor([5, 5, 0]))
    assert schedule.increment(10) == 0.5
    schedule.observe(20, torch.tensor([15, 5, 0]))  # the second bin was not visited since
    assert schedule.increment(20) == 0.5


def test_flatness_respects_final_and_factor():
    schedule = FlatnessHalving(1.0, check_every=1, final=0.3, factor=0.5)
    for t in range(1, 6):
        schedule.observe(t, torch.full((2,), t))
    assert schedule.increment(6) == 0.5
    fast = FlatnessHalving(1.0, check_every=1, factor=0.1)
    fast.observe(1, torch.tensor([1, 1]))
    assert fast.increment(1) == pytest.approx(0.1)


def test_flatness_state_dict_round_trip():
    one = FlatnessHalving(1.0, check_every=100)
    one.observe(100, torch.tensor([50, 50]))
    other = FlatnessHalving(1.0, check_every=100)
    other.load_state_dict(one.state_dict())
    for schedule in (one, other):
        schedule.observe(150, torch.tensor([75, 75]))
        assert schedule.increment(150) == 0.5
        schedule.observe(200, torch.tensor([130, 70]))
        assert schedule.increment(200) == 0.5
        schedule.observe(300, torch.tensor([150, 150]))
        assert schedule.increment(300) == 0.25
    fresh = FlatnessHalving(1.0)
    fresh.load_state_dict(FlatnessHalving(1.0).state_dict())
    assert fresh.increment(0) == 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RampHoldInverseTime(0.0, 1, 2), r"maximum = 0 must be a finite number above 0"),
        (lambda: RampHoldInverseTime(1.0, -1, 2), r"ramp = -1"),
        (lambda: RampHoldInverseTime(1.0, 5, 2), r"hold = 2 must be a finite number of at least 5"),
        (lambda: RampHoldInverseTime(1.0, 1, 2, 2), r"offset = 2 must be below hold = 2; lower offset"),
        (lambda: RampHoldInverseTime(float("nan"), 1, 2), r"maximum = nan"),
        (lambda: InverseTime(1.0, 0.0), r"scale = 0"),
        (lambda: InverseTime(-1.0, 1.0), r"maximum = -1"),
        (lambda: InverseTime("0.5", 1.0), r"maximum = '0.5' must be a finite number above 0; give a plain number"),
        (lambda: RampHoldInverseTime(1.0, "10", 20), r"ramp = '10' must be"),
        (lambda: CycleDecay(cycle="10"), r"cycle = '10' must be"),
        (lambda: FlatnessHalving(1.0, check_every=1.5), r"check_every = 1.5 must be a whole number"),
        (lambda: FlatnessHalving(0.0), r"initial = 0"),
        (lambda: FlatnessHalving(1.0, flatness=1.0), r"flatness = 1 must be below 1"),
        (lambda: FlatnessHalving(1.0, factor=2.0), r"factor = 2 must be below 1"),
        (lambda: FlatnessHalving(1.0, check_every=0), r"check_every = 0"),
        (lambda: FlatnessHalving(1.0, final=-1.0), r"final = -1"),
    ],
)
def test_bad_schedules_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_numbers_are_stored_as_plain_floats():
    schedule = InverseTime(torch.tensor(0.5), torch.tensor(8))
    assert (type(schedule.maximum), schedule.maximum, schedule.scale) == (float, 0.5, 8.0)
    assert schedule == InverseTime(0.5, 8)


def test_the_papers_schedule_for_monte_carlo():
    schedule = CycleDecay(numerator=5.0, cycle=100, offset=10.0)
    found = [schedule.increment(deposits) for deposits in (0, 99, 100, 1000)]
    assert found == [0.5, 0.5, 5 / 11, 0.25]
    for wrong in ({"numerator": 0.0}, {"cycle": 0.5}, {"offset": 0.0}):
        with pytest.raises(InputError, match=f"{next(iter(wrong))} = "):
            CycleDecay(**wrong)


class Slower(InverseTime):
    """With an own formula."""

    def increment(self, deposits: int) -> float:
        return super().increment(deposits) / 3


@given(
    st.sampled_from(
        [
            InverseTime(0.3, 7e3),
            Slower(0.3, 7e3),
            CycleDecay(5.0, 1e3, 7.0),
            RampHoldInverseTime(2.0, ramp=1000.5, hold=5000, offset=70.1),
            RampHoldInverseTime(2.0, ramp=0, hold=100),
            RampHoldInverseTime(0.1, ramp=3000, hold=3000),
            FlatnessHalving(0.7),
        ]
    ),
    st.integers(0, 20_000) | st.integers(0, 2**52),
)
def test_many_increments_are_each_of_them_to_the_bit(schedule, first):
    count = 5000 if first < 20_000 else 3
    each = np.array([schedule.increment(deposits) for deposits in range(first, first + count)])
    assert np.array_equal(schedule.increments(first, count), each)
