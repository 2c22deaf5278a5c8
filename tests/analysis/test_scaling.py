"""Scaling laws: exact on exact data, error bars that mean what they say, and tables of sweeps."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import error_of, nnsim
from conftest import statistics_scale

from nnsim import InputError
from nnsim.analysis import fit_logarithm, fit_power, read_sweep, scaling
from nnsim.errors import NNSimWarning

X = np.array([10.0, 20.0, 50.0, 100.0, 200.0, 500.0])


@pytest.mark.parametrize("error", [None, 0.1 * X], ids=["scatter", "errors"])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("exponent", [0.85, 0.0, -2.0])
def test_a_pure_power_law_gives_its_exponent(exponent: float, error: Any, weighted: bool) -> None:
    law = fit_power(X, 3.0 * X**exponent, error, weighted=weighted)
    assert law.exponent == pytest.approx(exponent, rel=0, abs=1e-12)
    assert law.prefactor == pytest.approx(3.0, rel=1e-12)
    np.testing.assert_allclose(law(X), 3.0 * X**exponent, rtol=1e-12)
    if error is None:
        assert law.exponent_error < 1e-12
        assert np.isnan(law.chi2)
    else:
        assert law.chi2 < 1e-20


def test_a_pure_logarithm_gives_its_slope() -> None:
    for error in (None, np.linspace(0.1, 0.3, 6)):
        law = fit_logarithm(X, 0.7 * np.log(X) - 2.0, error)
        assert law.slope == pytest.approx(0.7, abs=1e-12)
        assert law.intercept == pytest.approx(-2.0, abs=1e-12)
        np.testing.assert_allclose(law(X), 0.7 * np.log(X) - 2.0, atol=1e-12)


def test_against_the_normal_equations() -> None:
    rng = np.random.default_rng(3)
    y, error = X**0.8 * np.exp(0.1 * rng.standard_normal(6)), X**0.8 * rng.uniform(0.05, 0.2, 6)
    design, s = np.stack([np.ones(6), np.log(X)], axis=1), error / y
    for weighted in (True, False):
        w = np.diag(1 / s**2) if weighted else np.eye(6)
        solve = np.linalg.inv(design.T @ w @ design) @ design.T @ w
        b, a = solve @ np.log(y)
        covariance = solve @ np.diag(s**2) @ solve.T
        law = fit_power(X, y, error, weighted=weighted)
        assert (law.exponent, np.log(law.prefactor)) == pytest.approx((a, b), rel=1e-10)
        assert law.exponent_error == pytest.approx(covariance[1, 1] ** 0.5, rel=1e-10)
        assert law.prefactor_error / law.prefactor == pytest.approx(covariance[0, 0] ** 0.5, rel=1e-10)
        residuals = np.log(y) - b - a * np.log(X)
        assert law.chi2 == pytest.approx((residuals**2 / (s**2 if weighted else np.mean(s**2))).sum(), rel=1e-10)
    scatter = fit_power(X, y)
    expected = (residuals @ residuals / 4 * np.linalg.inv(design.T @ design)[1, 1]) ** 0.5
    assert scatter.exponent_error == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("kind", ["power", "power, equal weights", "logarithm"])
def test_error_bars_are_calibrated(kind: str) -> None:
    """Pulls of 4000 (1000) data sets with known noise: mean 0, variance 1, and chi2 = n - 2, within 5 standard errors.

    Of a power law the noise of ln y is Gaussian, with errors of 2 to 10 % that are given exactly.
    """
    rng, sets = np.random.default_rng(11), int(4000 * statistics_scale())
    s = np.array([0.1, 0.02, 0.05, 0.03, 0.08, 0.04])
    pulls, others, chi2 = np.empty(sets), np.empty(sets), np.empty(sets)
    for k in range(sets):
        noise = s * rng.standard_normal(6)
        if kind == "logarithm":
            law = fit_logarithm(X, 1.0 + 0.4 * np.log(X) + noise, s)
            pulls[k], others[k] = (law.slope - 0.4) / law.slope_error, (law.intercept - 1.0) / law.intercept_error
        else:
            y = 2.0 * X**0.75 * np.exp(noise)
            power = fit_power(X, y, s * y, weighted="equal" not in kind)
            pulls[k] = (power.exponent - 0.75) / power.exponent_error
            others[k] = np.log(power.prefactor / 2.0) / (power.prefactor_error / power.prefactor)
            law = power  # type: ignore[assignment]
        chi2[k] = law.chi2
    for values in (pulls, others):
        assert abs(values.mean()) < 5 / np.sqrt(sets)
        assert abs(values.var(ddof=1) - 1) < 5 * np.sqrt(2 / sets)
    if "equal" not in kind:
        assert abs(chi2.mean() - 4) < 5 * np.sqrt(8 / sets)


def test_errors_from_the_scatter_are_calibrated() -> None:
    """Without errors the pull is Student's t with n - 2 = 4 degrees: |t| > 2.776 in 5 % of 4000 (1000) data sets."""
    rng, sets = np.random.default_rng(12), int(4000 * statistics_scale())
    beyond = 0
    for _ in range(sets):
        law = fit_power(X, X * np.exp(0.1 * rng.standard_normal(6)))
        beyond += abs(law.exponent - 1) > 2.776445 * law.exponent_error
    assert abs(beyond - 0.05 * sets) < 5 * np.sqrt(0.05 * 0.95 * sets)


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        ([1, 2, 3], [1, 2], None, "different length .x: 3, y: 2."),
        ([1, 2], [1, 2], None, "2 points; a line without errors needs at least 3"),
        ([1], [1], [1], "1 points; a line with errors needs at least 2"),
        ([0, 1, 2], [1, 2, 3], None, "x = 0 must be above 0"),
        ([1, 2, 3], [1, -2, 3], None, "y = -2 must be above 0"),
        ([1, 2, 3], [1, 2, 3], [1, 0, 1], "error = 0 must be above 0"),
        ([1, 2, np.nan], [1, 2, 3], None, "x must be a list of finite numbers"),
        ([2, 2, 2], [1, 2, 3], None, "all points have x = 2"),
        (["a", 1, 2], [1, 2, 3], None, "x must be a list of numbers"),
    ],
)
def test_what_is_refused(x: Any, y: Any, error: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"fit_power: .*{message}"):
        fit_power(x, y, error)


# -------------------------------------------------------------------------------------------------------------- sweeps


def sweep(folder: Path, seeds: int = 3, widths: tuple[int, ...] = (10, 30, 100, 300), missing: int = 0) -> Path:
    """The folder of a sweep over depth, width and seed, with a trace 2 depth width^0.8 and an entropy ln(width)."""
    rng = np.random.default_rng(5)
    points = {}
    for depth in (1, 2):
        for width in widths:
            for seed in range(seeds):
                name = f"depth={depth},width={width},seed={seed}"
                points[name] = {"depth": depth, "width": width, "seed": seed}
                (folder / name).mkdir(parents=True)
                if depth == 2 and width in widths[:missing]:
                    continue
                factor = float(np.exp(0.02 * rng.standard_normal()))
                ends = {
                    "trace": {"first": 2 * depth * width**0.8 * factor, "last": 1.0},
                    "entropy": {"first": depth * np.log(width) - 5, "last": 0.0},
                }
                record = {"settings": {}, "steps": 5, "seconds": 1.0, "observables": ends}
                (folder / name / "done.json").write_text(json.dumps(record))
    plan = {"script": "s.py", "sha256": "", "set": {}, "steps": None, "swept": ["depth", "width", "seed"]}
    (folder / "sweep.json").write_text(json.dumps({**plan, "points": points}))
    return folder


def test_one_fit_for_each_value_of_the_other_settings(tmp_path: Path) -> None:
    table = read_sweep(sweep(tmp_path / "s"))
    one, two = scaling(table, "width", "trace_first")
    assert (one.given, two.given) == ({"depth": 1}, {"depth": 2})
    assert (one.x_name, one.value, one.seeds) == ("width", "trace_first", (3, 3, 3, 3))
    rows = (table["depth"] == 2).reshape(-1, 3).all(axis=1)
    by_seed = table["trace_first"].reshape(-1, 3)[rows]
    np.testing.assert_allclose(two.mean, by_seed.mean(axis=1))
    np.testing.assert_allclose(two.error, by_seed.std(axis=1, ddof=1) / np.sqrt(3))
    for weighted in (False, True):
        law = scaling(table, "width", "trace_first", weighted=weighted)[1].law
        assert law == fit_power(two.x, two.mean, two.error, weighted=weighted)
        assert law.exponent == pytest.approx(0.8, abs=5 * law.exponent_error)  # type: ignore[union-attr]
    (only,) = scaling(table, "width", "trace_first", given={"depth": 2})
    assert only.law == two.law


def test_a_logarithm_without_spread_over_the_seeds(tmp_path: Path) -> None:
    fits = scaling(read_sweep(sweep(tmp_path / "s")), "width", "entropy_first", law="log")
    for depth, one in enumerate(fits, start=1):
        assert one.law.slope == pytest.approx(depth, abs=1e-12)  # type: ignore[union-attr]
        assert np.isnan(one.law.chi2)  # its errors, all 0, were not taken as weights


def test_sets_without_enough_results(tmp_path: Path) -> None:
    table = read_sweep(sweep(tmp_path / "s", missing=3))
    with pytest.warns(NNSimWarning, match="not fitted, for want of results: depth=2: 1 of at least"):
        (one,) = scaling(table, "width", "trace_first")
    assert one.given == {"depth": 1}
    with pytest.raises(InputError, match=r"too few results of trace_first .depth=2: 1 of at least"):
        scaling(table, "width", "trace_first", given={"depth": 2})


def test_what_a_table_cannot_give(tmp_path: Path) -> None:
    table = read_sweep(sweep(tmp_path / "s"))
    with pytest.raises(InputError, match="x = 'activation' must be a swept setting of numbers; choose one of depth, w"):
        scaling(table, "activation", "trace_first")
    with pytest.raises(InputError, match="no column 'trace'"):
        scaling(table, "width", "trace")
    with pytest.raises(InputError, match=r"law = 'linear' is not known"):
        scaling(table, "width", "trace_first", law="linear")
    with pytest.raises(InputError, match=r"entropy_first = -2.697 at depth=1, width=10.0 has no logarithm"):
        scaling(table, "width", "entropy_first")


def test_on_the_command_line(tmp_path: Path) -> None:
    folder = sweep(tmp_path / "s")
    done = nnsim("analyze", "scaling", folder, "--x", "width", "--value", "trace_first", "-o", tmp_path / "law.csv")
    assert done.status == 0, done.err
    assert "trace_first = prefactor width^exponent" in done.out
    with (tmp_path / "law.csv").open() as file:
        rows = list(csv.DictReader(file))
    fits = scaling(read_sweep(folder), "width", "trace_first")
    assert [row["depth"] for row in rows] == ["1", "2"]
    for row, one in zip(rows, fits, strict=True):
        assert float(row["exponent"]) == one.law.exponent  # type: ignore[union-attr]
        assert float(row["chi2_per_degree"]) == one.law.chi2 / 2
        assert f"{one.law.exponent:.4g} ± {one.law.exponent_error:.2g}" in done.out  # type: ignore[union-attr]
    done = nnsim(
        "analyze", "scaling", folder, "--x", "width", "--value", "entropy_first", "--law", "log", "--where", "depth=2"
    )
    assert "intercept + slope ln width" in done.out
    assert "chi2 not known" in done.out
    with_wrong = ("analyze", "scaling", folder, "--value", "trace_first", "--x")
    assert "was not swept" in error_of(*with_wrong, "width", "--where", "batch=2")
    assert "write --where name=value" in error_of(*with_wrong, "width", "--where", "depth")
    assert "must be a swept setting of numbers" in error_of(*with_wrong, "seconds")
    assert "there is no sweep" in error_of("analyze", "scaling", tmp_path, "--x", "a", "--value", "b")
