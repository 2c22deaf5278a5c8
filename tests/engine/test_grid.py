"""Grids: the cubic B-spline, its gradient and edges, and the kernels that are deposited on it."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from nnsim import Grid, InputError
from nnsim.bias.metadynamics import _peak
from nnsim.grid import values
from nnsim.grid.grid import Kernel

GRIDS = {
    "1d": Grid(-1.0, 2.0, 9),
    "1d smallest": Grid(0.0, 1.0, 4),
    "1d periodic": Grid(-3.0, 3.0, 7, periodic=True),
    "2d": Grid((-1.0, 0.0), (2.0, 10.0), (6, 11)),
    "2d mixed": Grid((-1.0, 0.0), (2.0, 10.0), (6, 5), periodic=(False, True)),
    "3d": Grid((-1.0, 0.0, 2.0), (2.0, 10.0, 3.0), (5, 4, 7)),
    "3d mixed": Grid((-1.0, 0.0, 2.0), (2.0, 10.0, 3.0), (5, 6, 7), periodic=(True, False, True)),
}
every_grid = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())


def random_coefficients(grid, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(size=grid.shape))


def random_points(grid, number, beyond=0.0, seed=1):
    """Uniform in the grid, widened on both sides by `beyond` times its width."""
    low, high = np.array(grid.lower), np.array(grid.upper)
    u = np.random.default_rng(seed).uniform(-beyond, 1 + beyond, size=(number, grid.dimensions))
    return torch.tensor(low + (high - low) * u)


def axis_matrix(grid, axis, x, derivative=0):
    """Row for each x: the weight of each coefficient, from scipy's B-splines and explicit images of coefficients."""
    m, h = grid.shape[axis], grid.spacing[axis]
    nodes = np.arange(-3, m + 3)
    if grid.periodic[axis]:
        owner = nodes % m
        x = grid.lower[axis] + np.mod(x - grid.lower[axis], grid.upper[axis] - grid.lower[axis])
    else:
        owner = np.where(nodes < 0, -1 - nodes, np.where(nodes >= m, 2 * m - 1 - nodes, nodes))
    matrix = np.zeros((len(x), m))
    for node, own in zip(nodes, owner, strict=True):
        center = grid.lower[axis] + (node + 0.5) * h
        element = BSpline.basis_element(center + h * np.arange(-2, 3), extrapolate=False)
        values = (element.derivative(derivative) if derivative else element)(x)
        matrix[:, own] += np.nan_to_num(values)
    return matrix


def scipy_value(grid, coefficients, s, derivatives=None):
    derivatives = derivatives or [0] * grid.dimensions
    result = coefficients.numpy()
    rows = [axis_matrix(grid, d, s[:, d].numpy(), derivatives[d]) for d in range(grid.dimensions)]
    letters = "abc"[: grid.dimensions]
    terms = ",".join(f"w{letter}" for letter in letters)
    return np.einsum(f"{terms},{letters}->w", *rows, result)


# ---------------------------------------------------------------- the function


@every_grid
def test_value_and_gradient_equal_scipy(grid):
    c, s = random_coefficients(grid), random_points(grid, 200)
    value, gradient = grid.evaluate(c, s)
    np.testing.assert_allclose(value, scipy_value(grid, c, s), atol=1e-12)
    for d in range(grid.dimensions):
        order = [int(e == d) for e in range(grid.dimensions)]
        np.testing.assert_allclose(gradient[:, d], scipy_value(grid, c, s, order), atol=1e-11)


@every_grid
def test_gradient_is_that_of_the_value(grid):
    c, s = random_coefficients(grid), random_points(grid, 100, beyond=0.2)
    _, gradient = grid.evaluate(c, s)
    for d in range(grid.dimensions):
        step = torch.zeros(grid.dimensions, dtype=torch.float64)
        step[d] = 1e-5 * grid.spacing[d]
        difference = (grid.evaluate(c, s + step)[0] - grid.evaluate(c, s - step)[0]) / (2 * step[d])
        np.testing.assert_allclose(gradient[:, d], difference, atol=2e-8 / grid.spacing[d])


@pytest.mark.slow
@every_grid
def test_native_equals_torch(grid):
    c, s = random_coefficients(grid), random_points(grid, 300, beyond=0.5)
    corners = torch.tensor(list(itertools.product(*zip(grid.lower, grid.upper, strict=True))))
    nodes = torch.tensor(list(itertools.product(*(grid.centers(d) for d in range(grid.dimensions)))))
    edges = torch.tensor(list(itertools.product(*(grid.edges(d) for d in range(grid.dimensions)))))
    for points in (s, corners, nodes, edges):
        native, reference = grid._evaluate_native(c, points), grid._evaluate_torch(c, points)
        for one, other in zip(native, reference, strict=True):
            assert one.shape == other.shape
            np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-13 * 4 / min(grid.spacing))


@every_grid
def test_nan_gives_nan_and_no_crash(grid):
    c, s = random_coefficients(grid), random_points(grid, 6)
    s[1, 0] = np.nan
    s[4, -1] = np.nan
    for evaluate in (grid._evaluate_native, grid._evaluate_torch):
        value, gradient = evaluate(c, s)
        assert torch.isnan(value).tolist() == [False, True, False, False, True, False]
        assert torch.isfinite(gradient[[0, 2, 3, 5]]).all()


@every_grid
def test_second_derivative_is_continuous_at_every_node(grid):
    """On each side of a node the spline is one cubic: its exact second derivative from four values of that side."""
    c, origin = random_coefficients(grid), random_points(grid, 1)[0]
    t = np.array([0.2, 0.4, 0.6, 0.8])
    second = 2 * np.linalg.inv(np.vander(t, increasing=True))[2]  # of the cubic's t^2 term, at t = 0
    third = 6 * np.linalg.inv(np.vander(t, increasing=True))[3]
    at_end = second + third  # the second derivative at t = 1
    for d in range(grid.dimensions):
        h = grid.spacing[d]
        # between neighbouring nodes, from half a bin outside the first to the last; edges are no nodes of the cubic
        count = grid.shape[d] if grid.periodic[d] else grid.shape[d] - 1
        curvature = []
        for interval in range(count):
            s = origin.repeat(4, 1)
            s[:, d] = torch.tensor(grid.lower[d] + (interval + 0.5 + t) * h)
            values = grid.evaluate(c, s)[0].numpy()
            curvature.append((second @ values, at_end @ values))
        jumps = [right[0] - left[1] for left, right in itertools.pairwise(curvature)]
        if grid.periodic[d]:
            jumps.append(curvature[0][0] - curvature[-1][1])
        scale = np.abs(np.array(curvature)).max()
        assert scale > 0.1  # otherwise there is nothing to see
        assert np.abs(jumps).max() < 1e-10 * max(scale, 1)


@every_grid
def test_zero_slope_at_the_edge_and_constant_outside(grid):
    c = random_coefficients(grid)
    for d, (edges, sign) in itertools.product(range(grid.dimensions), ((grid.lower, -1), (grid.upper, 1))):
        s = random_points(grid, 20)
        s[:, d] = edges[d]
        value, gradient = grid.evaluate(c, s)
        outside = s.clone()
        outside[:, d] += sign * 3.7
        beyond, slope = grid.evaluate(c, outside)
        if grid.periodic[d]:
            opposite = s.clone()
            opposite[:, d] = grid.lower[d] + grid.upper[d] - edges[d]
            np.testing.assert_allclose(value, grid.evaluate(c, opposite)[0], atol=1e-12)
            continue
        np.testing.assert_allclose(gradient[:, d], 0, atol=1e-12 / grid.spacing[d])
        np.testing.assert_allclose(beyond, value, atol=1e-14)
        assert (slope[:, d] == 0).all()
        others = [e for e in range(grid.dimensions) if e != d]
        np.testing.assert_allclose(slope[:, others], gradient[:, others], atol=1e-13)


@every_grid
def test_on_nodes_is_evaluate_at_centers(grid):
    c = random_coefficients(grid)
    nodes = torch.tensor(list(itertools.product(*(grid.centers(d) for d in range(grid.dimensions)))))
    np.testing.assert_allclose(grid.on_nodes(c).flatten(), grid.evaluate(c, nodes)[0], atol=1e-13)


@every_grid
def test_constant_coefficients_give_a_constant(grid):
    value, gradient = grid.evaluate(torch.full(grid.shape, 2.5, dtype=torch.float64), random_points(grid, 50, beyond=1))
    np.testing.assert_allclose(value, 2.5, rtol=1e-14)
    np.testing.assert_allclose(gradient, 0, atol=1e-12)


def test_cubic_in_the_inside_is_reproduced():
    """A cubic's coefficients are known: c = p - h^2 p'' / 6 for any cubic p (Marsden), so S = p away from the edges."""
    grid = Grid(-2.0, 2.0, 20)
    x = torch.tensor(grid.centers())
    c = 1 - x + 0.5 * x**2 + 0.3 * x**3 - grid.spacing[0] ** 2 * (1 + 1.8 * x) / 6
    s = torch.linspace(-1.6, 1.6, 77, dtype=torch.float64)[:, None]
    value, gradient = grid.evaluate(c, s)
    np.testing.assert_allclose(value, (1 - s + 0.5 * s**2 + 0.3 * s**3)[:, 0], atol=1e-13)
    np.testing.assert_allclose(gradient, -1 + s + 0.9 * s**2, atol=1e-12)


def test_single_precision_points_are_evaluated_in_double():
    grid, c = GRIDS["2d"], random_coefficients(GRIDS["2d"])
    s = random_points(grid, 10).float()
    value, _ = grid.evaluate(c, s)
    assert value.dtype == torch.float64
    assert torch.equal(value, grid.evaluate(c, s.double())[0])


# ---------------------------------------------------------------- bins


def test_bin_indices_at_the_edges():
    grid = Grid((0.0, -1.0), (1.0, 1.0), (4, 8))
    s = torch.tensor([[0.0, -1.0], [1.0, 1.0], [0.25, 0.0], [0.2499999, -1e-9]], dtype=torch.float64)
    assert grid.bin_indices(s).tolist() == [[0, 0], [3, 7], [1, 4], [0, 3]]
    assert grid.flat(grid.bin_indices(s)).tolist() == [0, 31, 12, 3]
    assert grid.inside(s).all()


def test_periodic_bin_indices_wrap():
    grid = Grid(0.0, 6.0, 6, periodic=True)
    s = torch.tensor([[0.0], [5.9], [6.0], [-0.5], [13.2]], dtype=torch.float64)
    assert grid.bin_indices(s).flatten().tolist() == [0, 5, 0, 5, 1]
    assert grid.inside(s).all()


def test_inside_refuses_outside_and_nan():
    grid = Grid((0.0, 0.0), (1.0, 1.0), (4, 4), periodic=(False, True))
    nan, inf = float("nan"), float("inf")
    s = torch.tensor([[0.5, 0.5], [1.1, 0.5], [-1e-12, 0.5], [0.5, 7.0], [nan, 0.5], [0.5, nan], [0.5, inf]])
    assert grid.inside(s.double()).tolist() == [True, False, False, True, False, False, False]


def test_kind_bins_is_constant_in_each_bin():
    grid = Grid((0.0, 0.0), (1.0, 3.0), (2, 3), kind="bins")
    c = torch.arange(6, dtype=torch.float64).view(2, 3)
    value, gradient = grid.evaluate(c, torch.tensor([[0.1, 0.1], [0.6, 1.5], [1.0, 3.0], [9.0, -9.0]]))
    assert value.tolist() == [0.0, 4.0, 5.0, 3.0]
    assert (gradient == 0).all()
    assert torch.equal(grid.on_nodes(c), c)


def test_centers_edges_and_spacing():
    grid = Grid((-6.0, -1.0), (1.0, 11.0), spacing=(0.1, 0.5))
    assert grid.shape == (70, 24)
    assert grid.dimensions == 2
    np.testing.assert_allclose(grid.edges(1), np.linspace(-1, 11, 25), atol=1e-12)
    np.testing.assert_allclose(grid.centers(0), -6 + 0.1 * (np.arange(70) + 0.5), atol=1e-12)


def test_grids_are_equal_by_their_settings():
    grid = Grid(0.0, 1.0, 10)
    assert grid == Grid(0.0, 1.0, spacing=0.1)
    assert hash(grid) == hash(Grid(0.0, 1.0, 10))
    assert grid != Grid(0.0, 1.0, 10, periodic=True)
    assert Grid(**grid.describe()) == grid
    assert eval(repr(grid)) == grid


# ---------------------------------------------------------------- kernels


def sigmas(grid):
    return [None, [0.4 * h for h in grid.spacing], [0.1 * h for h in grid.spacing]]


@every_grid
@pytest.mark.parametrize("which", range(3))
def test_every_deposit_has_weight_one(grid, which):
    """Also from the corner bins: what would fall outside is mirrored back in."""
    kernel = Kernel(grid, sigmas(grid)[which])
    for index in itertools.product(*({0, 1, m // 2, m - 1} for m in grid.shape)):
        s = torch.tensor([[grid.centers(d)[i] for d, i in enumerate(index)]])
        c, visits = torch.zeros(grid.shape, dtype=torch.float64), torch.zeros(grid.shape, dtype=torch.int64)
        assert kernel.deposit_(c, visits, s, 1.0) == 1
        assert abs(float(c.sum()) - 1) < 1e-14
        assert visits[index] == 1
        assert visits.sum() == 1
        assert (c >= 0).all()


@every_grid
@pytest.mark.parametrize("which", range(3))
def test_native_deposit_equals_torch(grid, which):
    kernel = Kernel(grid, sigmas(grid)[which])
    s = random_points(grid, 200, beyond=0.3)
    s[3, 0], s[5, -1] = np.nan, np.inf
    corners = torch.tensor(list(itertools.product(*zip(grid.lower, grid.upper, strict=True))))
    s = torch.cat((s, corners))
    results = []
    for deposit in (kernel.deposit_, kernel._deposit_torch):
        c, visits = random_coefficients(grid), torch.zeros(grid.shape, dtype=torch.int64)
        count = deposit(c, visits, s, 0.37)
        results.append((c, visits, count))
    (c, visits, count), (c_torch, visits_torch, count_torch) = results
    assert count == count_torch == visits.sum() == grid.inside(s).sum()
    assert torch.equal(visits, visits_torch)
    np.testing.assert_allclose(c, c_torch, rtol=1e-13, atol=1e-13)
    assert abs(float((c - random_coefficients(grid)).sum()) - 0.37 * count) < 1e-12


@every_grid
@pytest.mark.parametrize("parts", [2, 3])
def test_deposits_in_parts_are_those_of_the_whole(grid, parts):
    """To the bit, in whichever order the parts come; visits are counted once."""
    from nnsim.grid import compiled

    kernel, s = Kernel(grid, sigmas(grid)[1]), random_points(grid, 200, beyond=0.3)
    tables = *grid.native_tables, *kernel.native_tables
    whole, visits = random_coefficients(grid), torch.zeros(grid.shape, dtype=torch.int64)
    count = kernel.deposit_(whole, visits, s, 0.37)
    c, counted = random_coefficients(grid).view(-1).numpy(), np.zeros(visits.numel(), dtype=np.int64)
    for part in reversed(range(parts)):
        assert compiled.deposit(c, counted, s.numpy(), 0.37, *tables, part, parts) == count
    np.testing.assert_array_equal(c, whole.view(-1).numpy())
    np.testing.assert_array_equal(counted, visits.view(-1).numpy())


def test_single_bin_adds_to_one_coefficient():
    grid = Grid(0.0, 1.0, 5)
    c, visits = torch.zeros(5, dtype=torch.float64), torch.zeros(5, dtype=torch.int64)
    assert Kernel(grid, None).deposit_(c, visits, torch.tensor([[0.5], [0.59], [1.0], [1.01]]), 2.0) == 3
    assert c.tolist() == [0, 0, 4.0, 0, 2.0]
    assert visits.tolist() == [0, 0, 2, 0, 1]


def test_gaussian_kernel_against_a_sum_over_mirror_images():
    grid, sigma = Grid(0.0, 10.0, 50), 0.44
    kernel = Kernel(grid, sigma)
    x = grid.centers()
    for start in (0.05, 0.7, 5.0, 9.99):
        c, visits = torch.zeros(50, dtype=torch.float64), torch.zeros(50, dtype=torch.int64)
        kernel.deposit_(c, visits, torch.tensor([[start]]), 1.0)
        node = x[int(start / 0.2)]
        expected = np.zeros(50)
        for image in (node, -node, 20 - node):
            distance = x - image
            expected += np.where(np.abs(distance) <= 4 * sigma, np.exp(-0.5 * (distance / sigma) ** 2), 0)
        np.testing.assert_allclose(c, expected / expected.sum(), atol=1e-15)


def test_periodic_kernel_wraps():
    grid = Grid(0.0, 10.0, 50, periodic=True)
    kernel = Kernel(grid, 0.5)
    results = []
    for start in (0.1, 5.1):
        c = torch.zeros(50, dtype=torch.float64)
        kernel.deposit_(c, torch.zeros(50, dtype=torch.int64), torch.tensor([[start]]), 1.0)
        results.append(c)
    assert torch.equal(results[0].roll(25), results[1])
    assert results[0][-1] == results[0][1]


def test_deposits_commute_with_the_histogram():
    """The sum of all deposits is the counts convolved with the kernel: what a merge over machines relies on."""
    grid = GRIDS["2d"]
    kernel, s = Kernel(grid, (0.3, 1.0)), random_points(grid, 500)
    c, visits = torch.zeros(grid.shape, dtype=torch.float64), torch.zeros(grid.shape, dtype=torch.int64)
    kernel.deposit_(c, visits, s, 0.01)
    rebuilt = torch.zeros_like(c)
    for i, j in itertools.product(range(grid.shape[0]), range(grid.shape[1])):
        center = torch.tensor([[grid.centers(0)[i], grid.centers(1)[j]]])
        kernel.deposit_(rebuilt, torch.zeros_like(visits), center, 0.01 * int(visits[i, j]))
    np.testing.assert_allclose(c, rebuilt, rtol=1e-12)


# ---------------------------------------------------------------- any grid at all


@st.composite
def any_grid(draw):
    k = draw(st.integers(1, 3))
    lower = [draw(st.floats(-20, 20)) for _ in range(k)]
    upper = [low + draw(st.floats(0.1, 30)) for low in lower]
    bins = [draw(st.integers(4, 9)) for _ in range(k)]
    return Grid(lower, upper, bins, periodic=[draw(st.booleans()) for _ in range(k)])


@settings(max_examples=40, deadline=None)
@given(grid=any_grid(), seed=st.integers(0, 2**32 - 1), beyond=st.floats(0, 2))
def test_any_grid_native_equals_torch_and_is_bounded(grid, seed, beyond):
    c, s = random_coefficients(grid, seed), random_points(grid, 16, beyond, seed)
    native, reference = grid._evaluate_native(c, s), grid._evaluate_torch(c, s)
    np.testing.assert_allclose(native[0], reference[0], atol=1e-11)
    for d in range(grid.dimensions):  # a point within rounding of an edge may be seen on either side of it
        np.testing.assert_allclose(native[1][:, d], reference[1][:, d], atol=1e-10 / grid.spacing[d])
    # the basis functions are positive and sum to one, so S lies between the smallest and the largest coefficient
    assert native[0].max() <= c.max() + 1e-12
    assert native[0].min() >= c.min() - 1e-12


@settings(max_examples=40, deadline=None)
@given(grid=any_grid(), seed=st.integers(0, 2**32 - 1), fraction=st.floats(0.01, 1))
def test_any_kernel_conserves_weight(grid, seed, fraction):
    widths = [fraction * (m - 1) / 8 * h for m, h in zip(grid.shape, grid.spacing, strict=True)]
    kernel, s = Kernel(grid, widths), random_points(grid, 32, 0.2, seed)
    c, visits = torch.zeros(grid.shape, dtype=torch.float64), torch.zeros(grid.shape, dtype=torch.int64)
    count = kernel.deposit_(c, visits, s, 1.0)
    assert count == visits.sum() == grid.inside(s).sum()
    assert abs(float(c.sum()) - count) < 1e-13 * max(count, 1)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lower": 1.0, "upper": 1.0, "bins": 5}, r"lower = 1 must be below upper = 1"),
        ({"lower": (0.0, 3.0), "upper": (1.0, 2.0), "bins": 5}, r"lower = 3 must be below upper = 2"),
        ({"lower": 0.0, "upper": 1.0, "bins": 0}, r"bins = 0 must be a whole number of at least 4"),
        ({"lower": 0.0, "upper": 1.0, "bins": 3}, r"at least 4"),
        ({"lower": 0.0, "upper": 1.0, "bins": 0, "kind": "bins"}, r"bins = 0 must be a whole number of at least 1"),
        ({"lower": 0.0, "upper": 1.0, "bins": 4.5}, r"bins = 4.5 must be a whole number"),
        ({"lower": (0,) * 4, "upper": (1,) * 4, "bins": 5}, r"1 to 3 CVs"),
        ({"lower": (), "upper": (), "bins": 5}, r"1 to 3 CVs"),
        ({"lower": (0, 0), "upper": (1,), "bins": 5}, r"2 lower and 1 upper edges"),
        ({"lower": 0.0, "upper": 1.0, "spacing": 0.3}, r"spacing = 0.3 does not divide \[0, 1\]"),
        ({"lower": 0.0, "upper": 1.0, "spacing": 0.0}, r"spacing = 0 must be a finite number above 0"),
        ({"lower": 0.0, "upper": 1.0, "spacing": -0.1}, r"spacing = -0.1 must be"),
        ({"lower": float("nan"), "upper": 1.0, "bins": 5}, r"lower = nan must be a finite number"),
        ({"lower": 0.0, "upper": float("inf"), "bins": 5}, r"upper = inf must be a finite number"),
        ({"lower": 0.0, "upper": 1.0}, r"give either bins or spacing"),
        ({"lower": 0.0, "upper": 1.0, "bins": 5, "spacing": 0.2}, r"give either bins or spacing"),
        ({"lower": (0, 0), "upper": (1, 1), "bins": (5, 5, 5)}, r"3 values of bins for 2 CVs"),
        ({"lower": "ab", "upper": 1.0, "bins": 5}, r"lower = 'ab' must be a finite number; give a plain number"),
        ({"lower": 0.0, "upper": 1.0, "bins": torch.tensor(4.5)}, r"bins = tensor\(4.5000\) must be a whole number"),
        (
            {"lower": (0,) * 3, "upper": (1,) * 3, "bins": 10**5},
            r"bins = \(100000, 100000, 100000\) make 1e\+15 bins, 1.6e\+07 GB .*; at most 2e\+08 are allowed, so take",
        ),
        ({"lower": 0.0, "upper": 1.0, "bins": 5, "kind": "linear"}, r"choose one of 'spline', 'bins'"),
    ],
)
def test_bad_grids_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Grid(**arguments)


@pytest.mark.parametrize(
    ("sigma", "message"),
    [
        (
            0.2,
            r"sigma = 0.2 makes a kernel of 33 bins \(4 sigma to either side\), more than the grid's 20; take",
        ),
        (0.0, r"sigma = 0 must be a finite number above 0"),
        (-0.1, r"sigma = -0.1"),
        (float("nan"), r"sigma = nan"),
        ((0.1, 0.1), r"Kernel: 2 values of sigma for 1 CVs"),
    ],
)
def test_bad_kernels_are_refused(sigma, message):
    with pytest.raises(InputError, match=message):
        Kernel(Grid(0.0, 1.0, 20), sigma)


@pytest.mark.parametrize("bins", [8, 9])
def test_the_widest_kernel_has_as_many_bins_as_the_grid(bins):
    """A kernel reaches floor(4 sigma / h) bins to either side: 9 bins for sigma = h, also on a grid 8 sigma wide."""
    grid = Grid(0.0, float(bins), bins)
    assert Kernel(grid, 0.99).weights[0].shape == (bins, 7)
    if bins == 9:
        assert Kernel(grid, 1.0).weights[0].shape == (9, 9)
    else:
        with pytest.raises(InputError, match=r"sigma = 1 makes a kernel of 9 bins .* more than the grid's 8;"):
            Kernel(grid, 1.0)


@pytest.mark.parametrize("scalar", [torch.tensor, np.array, float])
def test_numbers_of_any_kind(scalar):
    assert Grid(scalar(0.0), scalar(1.0), spacing=scalar(0.125)) == Grid(0.0, 1.0, 8)


@pytest.mark.parametrize("sigma", [None, 0.3])
@pytest.mark.parametrize("periodic", [False, True])
def test_convolved_counts_are_the_sum_of_the_deposits(sigma, periodic):
    grid = Grid((0.0, -1.0), (3.0, 2.0), bins=(25, 27), periodic=(periodic, False))
    kernel = Kernel(grid, sigma)
    s = torch.rand(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3 + torch.tensor(
        [0.0, -1.0]
    )
    coefficients = torch.zeros(grid.shape, dtype=torch.float64)
    visits = torch.zeros(grid.shape, dtype=torch.int64)
    assert kernel.deposit_(coefficients, visits, s, 0.7) == 40
    torch.testing.assert_close(0.7 * kernel.convolve(visits.double()), coefficients, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", ["spline", "bins"])
@pytest.mark.parametrize("bins", [(6,), (5, 7), (4, 5, 6)])
def test_one_spline_in_numpy_torch_and_compiled(bins, kind):
    """The three that are written agree at 500 points inside, outside and on the nodes, wrapped and mirrored."""
    k = len(bins)
    grid = Grid((-1.0,) * k, (2.0,) * k, bins, periodic=(False, True, False)[:k], kind=kind)
    generator = torch.Generator().manual_seed(k)
    table = torch.randn(bins, generator=generator, dtype=torch.float64)
    s = torch.rand(500, k, generator=generator, dtype=torch.float64) * 5 - 2
    s = s if kind == "spline" else s[grid.inside(s)]
    here = values.grid_values(table.numpy(), grid.describe(), s.numpy())
    np.testing.assert_allclose(here, grid.evaluate(table, s)[0].numpy(), atol=1e-13)
    if kind == "spline":
        np.testing.assert_allclose(here, grid._evaluate_torch(table, s)[0].numpy(), atol=1e-13)
    nodes = np.stack(np.meshgrid(*map(grid.centers, range(k)), indexing="ij"), axis=-1)
    at_nodes = values.grid_values(table.numpy(), grid.describe(), nodes)
    np.testing.assert_allclose(values.node_values(table.numpy(), grid.periodic, kind), at_nodes, atol=1e-13)
    np.testing.assert_allclose(grid.on_nodes(table).numpy(), at_nodes, atol=1e-13)


def test_the_peak_of_a_hill_is_that_of_the_spline():
    """On 1 and 2 axes, with the kernel of the middle node as coefficients."""
    for bins in ((41,), (41, 31)):
        kernel = Kernel(Grid((0.0,) * len(bins), tuple(0.1 * m for m in bins), bins), sigma=0.15)
        counts = torch.zeros(bins, dtype=torch.float64)
        counts[tuple(m // 2 for m in bins)] = 1
        found = values.node_values(kernel.convolve(counts).numpy(), (False,) * len(bins)).max()
        assert _peak(kernel) == pytest.approx(found, rel=1e-14)
