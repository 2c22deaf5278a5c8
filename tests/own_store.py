"""A store of one's own, which keeps runs in memory, as a user would write it; `test_own_store.py` runs it."""

import copy
from pathlib import Path

import numpy as np

from nnsim import Store, TrajectoryError


class MemoryStore(Store):
    """Series, tables, attributes and the checkpoint in dicts; what was not flushed is lost, as after a kill."""

    def __init__(self, name="memory"):
        self.path = Path(name)
        self.attrs, self.series, self.tables, self.tree, self.held, self.counts = {}, {}, {}, None, False, {}

    def begun(self):
        return bool(self.attrs)

    def lock(self):
        if self.held:
            raise TrajectoryError(f"{self.path} is being written by another run; wait until it ends")
        self.held = True

    def release(self):
        self.held = False

    def create(self, header, *, overwrite):
        if self.begun() and not overwrite:
            raise TrajectoryError(f"{self.path} holds a run already; replace it with overwrite=True")
        self.attrs, self.series, self.tables, self.tree, self.counts = {}, {}, {}, None, {}
        self.set_attrs("parameters/nnsim", header)

    def header(self):
        return copy.deepcopy(self.attrs["parameters/nnsim"])

    def steps(self):
        return max((self.series[name][count - 1][0] for name, count in self.counts.items()), default=0)

    def checkpoint(self, run):
        return copy.deepcopy(self.tree) if self.tree and self.tree["run"] == run else None

    def resume(self, counts):
        self.series = {name: self.series[name][:count] for name, count in counts.items()}
        self.counts = dict(counts)

    def append(self, series, step, time, value):
        self.series.setdefault(series, []).append((step, time, np.array(value)))

    def put(self, path, array, attrs=None):
        self.tables[path] = np.array(array)
        if attrs is not None:
            self.attrs[path] = copy.deepcopy(attrs)

    def set_attrs(self, group, attrs):
        self.attrs.setdefault(group, {}).update(copy.deepcopy(attrs))

    def flush(self):
        self.counts = {name: len(frames) for name, frames in self.series.items()}
        return dict(self.counts)

    def save(self, tree):
        self.tree = copy.deepcopy(tree)

    def close(self):
        self.flush()
        self.release()
