"""Nanoseconds for a random number by counter, beside torch and numpy; one thread.

Large fills of 8 x 6661 numbers (8 walkers of house prices), then the noise of a step as `State.normal` gives it, beside
what it took before there were counters: torch's float32 numbers, converted. Times are those of the processor, since the
machine may be busy; everything is measured in turn, several times, and medians are compared.

    python benchmarks/random_numbers.py [--repeats 9]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable


def nanoseconds(make: Callable[[], object], numbers: int) -> float:
    """Of one number, of a call that makes so many; over a tenth of a second."""
    calls, start = 0, time.process_time()
    while (elapsed := time.process_time() - start) < 0.1:
        make()
        calls += 1
    return elapsed / calls / numbers * 1e9


def rows() -> dict[str, tuple[Callable[[], object], int]]:
    import numpy as np
    import torch

    from nnsim import State
    from nnsim.random.streams import Purpose, RandomStreams

    torch.set_num_threads(1)
    streams, plain, numpys = RandomStreams(1), torch.Generator().manual_seed(1), np.random.default_rng(1)
    large = (8, 6661)
    makers: dict[str, Callable[[], object]] = {
        "normal": lambda: streams.normal(Purpose.NOISE, large, step=1, draw=0),
        "uniform": lambda: streams.uniform(Purpose.NOISE, large, step=1, draw=0),
        "words of 32 bits": lambda: streams.words(Purpose.NOISE, large, step=1, draw=0),
        "torch.randn, float32": lambda: torch.randn(large, generator=plain),
        "torch.randn, float64": lambda: torch.randn(large, generator=plain, dtype=torch.float64),
        "numpy standard_normal": lambda: numpys.standard_normal(large),
    }
    found = {name: (make, large[0] * large[1]) for name, make in makers.items()}
    for shape in ((1, 116), (64, 116), (8, 6661), (1000, 2)):
        q = torch.zeros(shape, dtype=torch.float64)
        state = State(q, q, q, q[:, 0], q[:, 0], q[:, :0], RandomStreams(1))

        def noise(state: State = state) -> None:
            state.step += 1
            state.normal(state.positions)

        def before(state: State = state) -> torch.Tensor:
            state.step += 1
            like = state.positions
            drawn = torch.randn(like.shape, generator=plain, device=like.device, dtype=torch.float32)
            return drawn.to(like.dtype)

        found[f"State.normal {list(shape)}"] = (noise, q.numel())
        found[f"  float32 and converted {list(shape)}"] = (before, q.numel())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    measured = rows()
    times: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(arguments.repeats):
        for name, (make, numbers) in measured.items():
            times[name].append(nanoseconds(make, numbers))
    print("nanoseconds for a number (median)")
    for name, values in times.items():
        numbers = measured[name][1]
        median = statistics.median(values)
        print(f"{name:<36}{median:8.2f}   ({median * numbers / 1000:.1f} us a call)")


if __name__ == "__main__":
    main()
