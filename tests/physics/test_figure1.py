"""The script of Figure 1b, with tiny numbers, and its picture."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

from nnsim import InputError, plotting
from nnsim.analysis import FinalAdvantage

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.slow
def test_eight_comparisons_become_a_table_and_a_picture(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import figure1

    amount = {"runs": 2, "chains": 1, "sweeps": 200, "trainings": 6, "steps": 2000}
    rows = figure1.compare(tmp_path, 3, **amount)
    assert [(row.training, row.steps) for row in rows] == [("short", 200), ("long", 2000)]
    for row in rows:
        assert row.parameters == 2 * 3 + 3 + 2 * (9 + 3) + 6 + 2
        assert 0.3 < row.result.equilibrium < 1
        assert row.result.total == 6
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.checkpoint.npz")}
    assert len(finished) == 3
    again = figure1.compare(tmp_path, 3, **amount)  # nothing is done twice
    assert again == rows
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    figure1.write(rows, tmp_path)
    with (tmp_path / "figure1.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(row["advantage"]) for row in table] == pytest.approx([row.result.advantage for row in rows])
    assert (tmp_path / "figure1.png").stat().st_size > 5000
    for name in ("figure1", "spiral_boltzmann", "spiral_training"):
        sys.modules.pop(name, None)


def test_picture_of_advantages():
    one = FinalAdvantage("ln_loss_train", "accuracy_test", -4.0, 0.88, float("nan"), 0.8, 0.01, 9, 10)
    ax = plotting.plot_advantages(["a", "b"], [one, one])
    assert ax.get_ylabel() == "test accuracy"
    dots = [np.asarray(container.lines[0].get_ydata(), dtype=float) for container in ax.containers]
    np.testing.assert_allclose(dots, [[0.88, 0.88], [0.8, 0.8]])
    with pytest.raises(InputError, match="1 labels for 2 comparisons"):
        plotting.plot_advantages(["a"], [one, one])
