"""The campaign in a reduced form: kills, bit flips, full disks and bad input (see `campaign`)."""

import random

import pytest
from campaign import BAD, Campaign
from campaign.disks import disks
from campaign.flips import flips
from campaign.inputs import inputs
from campaign.kills import kills


@pytest.mark.slow
@pytest.mark.parametrize(
    ("campaign", "count"),
    [(kills, 8), (flips, 24), (inputs, 150), (disks, 4)],
    ids=["kills", "flips", "inputs", "disks"],
)
def test_nothing_is_lost_silent_or_raw(campaign: Campaign, count: int) -> None:
    trials = list(campaign(count, random.Random(1)))
    assert len(trials) == count
    assert [trial for trial in trials if trial.outcome in BAD] == []
    assert {trial.outcome for trial in trials} <= {"right", "told"}
