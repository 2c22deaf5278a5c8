"""`python -m campaign [flips|kills|inputs|disks ...]`: the campaign in full, with a table at the end."""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter

from command_line import hear_signals
from rich.console import Console
from rich.progress import track

from campaign import BAD, GOOD, Campaign, Trial
from campaign.disks import disks
from campaign.flips import flips
from campaign.inputs import every_call, every_line, inputs
from campaign.kills import kills

FULL: dict[str, tuple[Campaign, int]] = {
    "kills": (kills, 60),
    "flips": (flips, 1000),
    "inputs": (inputs, 500),
    "disks": (disks, 40),
}
WHOLE = {"calls": every_call, "lines": every_line}  # every bad input to all that is public, and every bad word: an hour


def table(found: dict[str, list[Trial]]) -> str:
    """How many trials of each campaign ended how, in Markdown."""
    outcomes = [*GOOD, *BAD]
    rows = [f"| campaign | trials | {' | '.join(outcomes)} |", f"|---|---|{'---|' * len(outcomes)}"]
    for name, trials in found.items():
        counts = Counter(trial.outcome for trial in trials)
        rows.append(f"| {name} | {len(trials)} | {' | '.join(str(counts[one]) for one in outcomes)} |")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*FULL, *WHOLE, []], default=list(FULL))
    parser.add_argument("-n", type=int, help="trials of each, in place of the full number")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    hear_signals()
    console, found = Console(stderr=True), {}
    for name in arguments.names:
        found[name] = []
        if name in WHOLE:
            count, trials = None, WHOLE[name]()
        else:
            campaign, count = FULL[name]
            count = arguments.n or count
            trials = campaign(count, random.Random(arguments.seed))
        for trial in track(trials, name, total=count, console=console):
            found[name].append(trial)
            if trial.outcome in BAD:
                print(f"{trial.outcome.upper()}: {trial.kind} {trial.what}: {trial.detail[:500]}", flush=True)
    print(table(found))
    return int(any(trial.outcome in BAD for trials in found.values() for trial in trials))


if __name__ == "__main__":
    sys.exit(main())
