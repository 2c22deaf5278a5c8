"""The tangent kernel beside the full Jacobian of torch.func: time, memory, and the gradient of its entropy.

One thread. Every measurement is a process of its own, ours and the other's in turn, several times; medians are
compared, since the machine may be busy. Memory is the growth of the peak resident memory during one kernel, after one
of 4 points.

    python benchmarks/ntk.py [--repeats 5] [--baseline ../shared/baselines/ntk_full_jacobian.py]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

BASELINE = Path(__file__).resolve().parents[2] / "shared" / "baselines" / "ntk_full_jacobian.py"


def dense(*sizes: int):
    """A ReLU network of these sizes, from torch's default start with seed 0."""
    import torch

    from nnsim.systems.modules import mlp

    torch.set_num_threads(1)
    torch.manual_seed(0)
    return mlp(sizes)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def kernel(points: int, *hidden: int) -> dict[str, float]:
    """Seconds and growth of the peak memory for the mean kernel of 784-hidden-10, and the peak as a whole."""
    import torch

    from nnsim.cv import ntk

    module = dense(784, *hidden, 10)
    x = torch.rand(points, 784)
    ntk.kernel(module, x[:4])
    before, start = peak_mb(), time.perf_counter()
    trace = float(ntk.kernel(module, x).trace())
    first = time.perf_counter() - start
    grown, peak = peak_mb() - before, peak_mb()
    again = [seconds_of(lambda: ntk.kernel(module, x)) for _ in range(5)]
    return {"seconds": first, "warm": statistics.median(again), "growth_mb": grown, "peak_mb": peak, "trace": trace}


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def gradient() -> dict[str, float]:
    """Seconds for the gradient of the entropy on 2-30-30-1 with 250 points: ours, and two ways through torch.func.

    `grad` is torch.func.grad of the entropy of the baseline's kernel; `mixed` is autograd through that kernel, which
    only takes its Jacobian from torch.func.
    """
    import torch
    from torch.func import functional_call, grad, jacrev, vmap

    from nnsim.cv import ntk

    module, x = dense(2, 30, 30, 1), torch.randn(250, 2)
    named = {name: p.detach() for name, p in module.named_parameters()}
    leaves = {name: p.clone().requires_grad_() for name, p in named.items()}
    q = torch.cat([p.flatten() for p in named.values()])[None].requires_grad_()

    def outputs(tensors: dict, point: torch.Tensor) -> torch.Tensor:
        return functional_call(module, tensors, (point[None],))[0]

    def entropy(tensors: dict) -> torch.Tensor:
        jacobian = [j.flatten(2) for j in vmap(jacrev(outputs), (None, 0))(tensors, x).values()]
        kernel = sum(torch.einsum("nop,mop->nm", j, j) for j in jacobian) / jacobian[0].shape[1]
        values = torch.linalg.eigvalsh(kernel).clamp_min(1e-14)
        return torch.special.entr(values / values.sum()).sum()

    def flat(parts: Iterable[torch.Tensor]) -> torch.Tensor:
        return torch.cat([part.flatten() for part in parts])

    ways: dict[str, Callable[[], torch.Tensor]] = {
        "ours": lambda: torch.autograd.grad(ntk.entropy(ntk.kernel(module, x, positions=q)).sum(), q)[0][0],
        "grad": lambda: flat(grad(entropy)(named).values()),
        "mixed": lambda: flat(torch.autograd.grad(entropy(leaves), list(leaves.values()), materialize_grads=True)),
    }
    results = {name: work() for name, work in ways.items()}
    found = {name: statistics.median(seconds_of(work) for _ in range(40)) for name, work in ways.items()}
    return {**found, "difference": float((results["ours"] - results["grad"]).norm() / results["grad"].norm())}


def measured(name: str, *arguments: int) -> dict[str, float]:
    """What a function of this file returns in a process of its own."""
    command = [sys.executable, __file__, "--only", name, *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def baseline(script: Path, points: int) -> dict[str, float]:
    command = [sys.executable, str(script), str(points), "1"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def report_kernel(script: Path, points: int, repeats: int) -> None:
    pairs = [(measured("kernel", points, 128, 128), baseline(script, points)) for _ in range(repeats)]
    ratio = statistics.median(other["seconds"] / mine["seconds"] for mine, other in pairs)
    memory = statistics.median(other["peak_growth_mb"] / max(mine["growth_mb"], 0.1) for mine, other in pairs)
    mine = {key: statistics.median(one[key] for one, _ in pairs) for key in pairs[0][0]}
    other = {key: statistics.median(one[key] for _, one in pairs) for key in pairs[0][1]}
    print(
        f"784-128-128-10, N = {points}: {mine['seconds'] * 1e3:.1f} ms (again: {mine['warm'] * 1e3:.1f} ms), "
        f"{mine['growth_mb']:.1f} MB; full Jacobian {other['seconds'] * 1e3:.0f} ms, {other['peak_growth_mb']:.0f} MB: "
        f"{ratio:.0f} times faster (asked: 150), 1/{memory:.0f} of the memory (asked: 1/80); "
        f"traces {mine['trace']:.3f} and {other['trace']:.3f}",
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--baseline", type=Path, default=BASELINE)
    parser.add_argument("--only", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.only:
        name, *numbers = options.only
        print(json.dumps({"kernel": kernel, "gradient": gradient}[name](*map(int, numbers))))
        return
    for points in (100, 500):
        report_kernel(options.baseline, points, options.repeats)
    found = [measured("gradient") for _ in range(options.repeats)]
    middle = {key: statistics.median(one[key] for one in found) for key in found[0]}
    ratio, mixed = (statistics.median(one[way] / one["ours"] for one in found) for way in ("grad", "mixed"))
    print(
        f"gradient of the entropy, 2-30-30-1, N = 250: {middle['ours'] * 1e3:.1f} ms; torch.func.grad "
        f"{middle['grad'] * 1e3:.1f} ms: {ratio:.1f} times faster (asked: 3); autograd through torch.func's Jacobian "
        f"{middle['mixed'] * 1e3:.1f} ms: {mixed:.1f} times; they differ by {middle['difference']:.0e}"
    )
    large = measured("kernel", 1000, 1000, 1000, 1000)
    print(
        f"784-1000-1000-1000-10, N = 1000: {large['seconds']:.2f} s, peak memory of the whole process "
        f"{large['peak_mb'] / 1e3:.2f} GB (asked: below 2.5), {large['growth_mb']:.0f} MB of it for the kernel"
    )


if __name__ == "__main__":
    main()
