"""How functions are compiled: all of it is said, so that nothing depends on which of them is compiled first."""

import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

import nnsim
from nnsim.jit import FAST, FUSED, IN_ORDER, SOURCES, compiled, is_finite
from nnsim.random.philox import TILE, normals

TAKEN_FROM_CALLERS = {"fastmath", "error_model", "forceinline", "_nrt"}  # by numba, where they are not given


def dispatchers() -> dict[str, Dispatcher]:
    """All compiled functions of the package."""
    names = (one.name for one in pkgutil.walk_packages(nnsim.__path__, "nnsim."))
    modules = [importlib.import_module(name) for name in names if not name.endswith("__main__")]
    return {
        f"{module.__name__}.{name}": one
        for module in modules
        for name, one in vars(module).items()
        if isinstance(one, Dispatcher)
    }


def test_every_function_says_all_of_its_settings():
    found = dispatchers()
    assert len(found) > 80
    assert {name for name, one in found.items() if not set(one.targetoptions) >= TAKEN_FROM_CALLERS} == set()


@pytest.mark.parametrize("arithmetic", [IN_ORDER, FUSED, FAST])
def test_what_is_not_finite_is_seen_whatever_is_computed_before(arithmetic):
    """Also where the compiler may write a sum anew, and cancel one with itself."""

    @compiled(arithmetic, python=True)
    def is_sum_finite(a, b, c):
        return is_finite(a + b - c)

    for kind in (np.float32, np.float64):
        assert is_sum_finite(kind(1), kind(2), kind(3))
        for odd in (np.nan, np.inf, -np.inf):
            assert not is_sum_finite(kind(1), kind(odd), kind(3))
            assert not is_sum_finite(kind(odd), kind(2), kind(3))


def test_no_compiled_function_asks_numba_what_is_finite():
    """See `is_finite`."""
    own = {name: one for name, one in dispatchers().items() if "isfinite" in one.py_func.__code__.co_names}
    assert own == {}


def test_the_cache_of_every_function_belongs_to_all_sources():
    assert {name for name, one in dispatchers().items() if one._cache._cache_file._source_stamp[-1] != SOURCES} == set()


TWICE = """
import sys
import nnsim.jit as jit
jit.SOURCES = sys.argv[1]  # as if another file had changed

@jit.compiled(jit.FUSED, python=True)
def double(x):
    return 2 * x

assert double(1.5) == 3.0
print(sum(double.stats.cache_hits.values()))
"""


@pytest.mark.slow
def test_what_was_compiled_from_other_sources_is_compiled_anew(tmp_path: Path):
    """Though the function's own file is the same: what it calls, and has become part of it, may be in another one."""
    (tmp_path / "twice.py").write_text(TWICE)
    found = []
    for sources in ("one", "one", "two", "two"):
        done = subprocess.run(
            [sys.executable, "twice.py", sources], cwd=tmp_path, capture_output=True, text=True, check=True,
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")},
        )  # fmt: skip
        found.append(int(done.stdout))
    assert found == [0, 1, 0, 1]


FIRST_CALL = """
import numpy as np
from nnsim.jit import FAST, compiled
from nnsim.random.philox import TILE, normals

@compiled(FAST, python=True)
def caller(counters, words, numbers, count):
    normals(counters, 3, 0, np.uint64(17), words, numbers, count)

counters = np.zeros((2, TILE), dtype=np.uint64)
counters[0] = np.arange(TILE)
words, numbers = np.zeros((4, TILE), dtype=np.uint64), np.zeros((4, TILE))
caller(counters, words, numbers, TILE)
print(numbers.tobytes().hex())
"""


@pytest.mark.slow
def test_noise_does_not_depend_on_what_is_compiled_first(tmp_path: Path):
    """Where a function whose sums may be in any order calls it first, and the compiler has nothing in store."""
    (tmp_path / "first.py").write_text(FIRST_CALL)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "first.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    counters = np.zeros((2, TILE), dtype=np.uint64)
    counters[0] = np.arange(TILE)
    words, numbers = np.zeros((4, TILE), dtype=np.uint64), np.zeros((4, TILE))
    normals(counters, 3, 0, np.uint64(17), words, numbers, TILE)
    assert done.stdout.strip() == numbers.tobytes().hex()
    assert 0.9 < numbers.std() < 1.1
