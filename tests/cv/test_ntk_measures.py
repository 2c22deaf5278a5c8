"""Numbers that describe a kernel, on kernels whose numbers are known; and the CVs of a NeuralNetwork made of them."""

import math
import sys

import explicit_ntk as explicit
import numpy as np
import pytest
import torch
from torch import nn

from nnsim import Box, Evaluation, ForceField, InputError, Simulation, cv
from nnsim.bias import Wall
from nnsim.cv import ntk
from nnsim.cv.ntk.tangent import TangentKernel
from nnsim.integrators import Langevin
from nnsim.precision import Precision
from nnsim.systems import AnalyticSystem, Harmonic, NeuralNetwork
from nnsim.systems.modules import mlp

LN2 = math.log(2)


def matrix(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def rotated(values, seed=0):
    """A symmetric matrix with these eigenvalues."""
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))[0]
    return torch.tensor(basis @ np.diag(values) @ basis.T)


def random_kernel(size, rank, seed=0, dtype=torch.float64):
    rows = np.random.default_rng(seed).normal(size=(size, rank))
    return torch.tensor(rows @ rows.T, dtype=dtype)


def near(value, expected, tolerance=1e-12):
    np.testing.assert_allclose(torch.as_tensor(value).detach(), expected, rtol=0, atol=tolerance)


# ---------------------------------------------------------------------- entropy


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_entropy_of_the_identity_is_the_logarithm_of_its_size(size):
    near(ntk.entropy(3.7 * torch.eye(size).double()), math.log(size))
    near(ntk.entropy(3.7 * torch.eye(size).double(), normalised=True), 1.0 if size > 1 else 0.0)


@pytest.mark.parametrize("size", [2, 5, 60])
def test_entropy_of_rank_one_is_zero(size):
    vector = torch.tensor(np.random.default_rng(1).normal(size=size))
    near(ntk.entropy(torch.outer(vector, vector)), 0.0, 1e-11)
    near(ntk.entropy(torch.ones(size, size).double()), 0.0, 1e-11)


def test_entropy_of_known_eigenvalues():
    values = np.array([4.0, 2.0, 1.0, 1.0])  # p = 1/2, 1/4, 1/8, 1/8: 7/4 bits
    for kernel in (torch.diag(torch.tensor(values)), rotated(values), rotated(1e3 * values, seed=2)):
        near(ntk.entropy(kernel), 1.75 * LN2)
        near(ntk.entropy(kernel, normalised=True), 1.75 / 2)
    near(ntk.entropy(rotated([1.0, 0.0, 0.0])), 0.0)
    near(ntk.entropy(rotated([1.0, 1.0, 0.0, 0.0, 0.0])), LN2)
    near(ntk.entropy(matrix([2, 1], [1, 2])), -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))


def test_entropy_of_blocks():
    """S of the whole = sum_b w_b (S_b - ln w_b) with w_b the share of the trace that block b has."""
    blocks = [random_kernel(4, 9, 1), 5 * random_kernel(3, 2, 2), torch.ones(2, 2).double()]
    shares = torch.stack([block.trace() for block in blocks])
    shares = shares / shares.sum()
    expected = sum(float(w * (ntk.entropy(b) - w.log())) for w, b in zip(shares, blocks, strict=True))
    near(ntk.entropy(torch.block_diag(*blocks)), expected, 1e-11)


def test_eigenvalues_are_clipped_where_the_definition_says():
    """Not relative to the largest: a kernel of tiny numbers is a multiple of the identity."""
    values = np.array([3e-14, 1e-14, 1e-16, -1e-16])
    near(ntk.entropy(torch.diag(torch.tensor(values))), explicit.entropy_of(values))
    near(
        ntk.entropy(torch.diag(torch.tensor([1.0, 1e-14, 0.0, -1e-13]))),
        explicit.entropy_of(np.array([1.0, 0, 0, 0])),
        1e-13,
    )


def test_each_kernel_of_a_batch_for_itself():
    kernels = torch.stack([random_kernel(5, rank, rank) for rank in (1, 2, 4, 9)])
    diagonals = kernels.diagonal(dim1=-2, dim2=-1)
    for measure, argument in (
        (ntk.entropy, kernels), (ntk.trace, kernels), (ntk.covariance_entropy, kernels), (ntk.spectrum, kernels),
        (ntk.magnitudes, diagonals), (ntk.magnitude_entropy, diagonals), (ntk.magnitude_variance, diagonals),
    ):  # fmt: skip
        together = measure(argument)
        near(together, torch.stack([measure(one) for one in argument]))
        near(measure(argument.unflatten(0, (2, 2))), together.unflatten(0, (2, 2)))
    assert ntk.entropy(kernels).shape == (4,)
    assert ntk.magnitudes(diagonals).shape == ntk.spectrum(kernels).shape == (4, 5)


def test_a_kernel_that_is_not_finite_does_not_spoil_the_others_of_its_batch():
    kernels = torch.stack([random_kernel(4, 6, 1), torch.full((4, 4), torch.nan).double(), random_kernel(4, 6, 2)])
    for measure in (ntk.entropy, ntk.covariance_entropy, ntk.trace, ntk.spectrum):
        found = measure(kernels)
        assert torch.isnan(found[1]).all()
        near(found[0], measure(kernels[0]))
        near(found[2], measure(kernels[2]))


def test_single_precision():
    kernel = random_kernel(30, 60)
    for measure in (ntk.entropy, ntk.covariance_entropy):
        assert measure(kernel.float()).dtype == torch.float32
        near(measure(kernel.float()), measure(kernel), 1e-5)


# ---------------------------------------------------------------------- the other measures


def test_trace():
    kernel = random_kernel(6, 4)
    near(ntk.trace(kernel), np.trace(kernel.numpy()))
    near(ntk.trace(kernel, per_row=True), np.trace(kernel.numpy()) / 6)


def test_covariance_entropy_does_not_know_the_lengths():
    covariance = torch.tensor(np.corrcoef(np.random.default_rng(0).normal(size=(6, 20))))
    lengths = torch.diag(torch.tensor([0.01, 1.0, 3.0, 20.0, 0.5, 7.0]).double())
    near(ntk.covariance_entropy(lengths @ covariance @ lengths), ntk.entropy(covariance), 1e-12)
    near(ntk.covariance_entropy(lengths @ covariance @ lengths, normalised=True), ntk.entropy(covariance) / math.log(6))
    near(ntk.covariance_entropy(lengths), math.log(6))
    near(ntk.covariance_entropy(matrix([4, 3], [3, 9])), ntk.entropy(matrix([1, 0.5], [0.5, 1])))


def test_a_point_without_gradient_adds_nothing_to_the_covariance_entropy():
    """No angle is defined there; the rest counts alone."""
    kernel = torch.block_diag(random_kernel(4, 6), torch.zeros(1, 1).double())
    found = ntk.covariance_entropy(kernel)
    assert torch.isfinite(found)
    assert min(abs(float(found - ntk.covariance_entropy(kernel[:4, :4]))), 1.0) < 1e-11


def test_magnitudes():
    diagonal = torch.tensor([1.0, 4.0, 9.0, 4.0]).double()
    near(ntk.magnitudes(diagonal), [1 / 8, 2 / 8, 3 / 8, 2 / 8])
    near(ntk.magnitude_entropy(diagonal), 3 / 8 * LN2 + 3 / 8 * math.log(8 / 3) + 1 / 2 * math.log(4))
    near(ntk.magnitude_entropy(diagonal, normalised=True), ntk.magnitude_entropy(diagonal) / math.log(4))
    near(ntk.magnitude_variance(diagonal), np.var([0.5, 1.0, 1.5, 1.0]))
    near(ntk.magnitude_entropy(5 * torch.ones(9).double()), math.log(9))
    near(ntk.magnitude_variance(5 * torch.ones(9).double()), 0.0)
    near(ntk.magnitude_entropy(torch.tensor([0.0, 2.0, 0.0]).double()), 0.0)
    near(ntk.magnitude_variance(torch.tensor([0.0, 2.0, 0.0]).double()), 2.0)
    near(ntk.magnitude_entropy(torch.tensor([2.0]).double(), normalised=True), 0.0)
    near(ntk.magnitude_variance(torch.tensor([2.0]).double()), 0.0)


def test_magnitudes_where_no_point_has_a_gradient_are_equal():
    """The limit of equal magnitudes, as the entropy of the zero kernel is that of the identity."""
    nothing = torch.zeros(4).double()
    near(ntk.magnitudes(nothing), 0.25)
    near(ntk.magnitude_entropy(nothing), math.log(4))
    near(ntk.magnitude_variance(nothing), 0.0)


@pytest.mark.parametrize("measure", [ntk.magnitude_entropy, ntk.magnitude_variance, ntk.covariance_entropy])
def test_no_gradient_is_nan_where_a_point_has_none(measure):
    """As of a network without biases at x = 0: infinite slope times a zero must not reach the forces."""
    rows = torch.tensor([[1.0, 2.0], [0.0, 0.0], [3.0, -1.0]]).double().requires_grad_()
    kernel = rows @ rows.T
    value = measure(kernel if measure is ntk.covariance_entropy else kernel.diagonal())
    (found,) = torch.autograd.grad(value, rows)
    assert torch.isfinite(found).all()


def test_spectrum_descends_and_is_never_negative():
    values = [5.0, 3.0, 1.0, 0.5]
    near(ntk.spectrum(rotated(values)), values)
    kernel = random_kernel(12, 3)
    found = ntk.spectrum(kernel)
    assert (found >= 0).all()
    assert (found.diff() <= 0).all()
    near(found[3:], 0.0, 1e-13 * float(found[0]))
    near(found.sum(), kernel.trace(), 1e-11)
    assert torch.equal(ntk.spectrum(torch.diag(torch.tensor([1.0, -1e-9]))), torch.tensor([1.0, 0.0]))


def test_class_blocks():
    kernel, labels = random_kernel(6, 9), torch.tensor([2, 0, 2, 5, 0, 2])
    blocks = ntk.class_blocks(kernel, labels)
    assert sorted(blocks) == [0, 2, 5]
    for label, block in blocks.items():
        chosen = np.flatnonzero(labels.numpy() == label)
        assert np.array_equal(block, kernel.numpy()[np.ix_(chosen, chosen)])
    by_output = ntk.class_blocks(random_kernel(12, 20), labels)  # two outputs a point, sample-major
    rows = [0, 1, 4, 5, 10, 11]
    assert np.array_equal(by_output[2], random_kernel(12, 20).numpy()[np.ix_(rows, rows)])
    walkers = torch.stack([kernel, 2 * kernel])
    assert torch.equal(ntk.class_blocks(walkers, labels)[2][1], 2 * blocks[2])
    with pytest.raises(InputError, match="5 labels do not fit a kernel of size 6"):
        ntk.class_blocks(kernel, labels[:5])


@pytest.mark.parametrize("measure", [ntk.entropy, ntk.trace, ntk.covariance_entropy, ntk.spectrum])
@pytest.mark.parametrize("shape", [(3,), (2, 3), (4, 3, 2), (0, 0)])
def test_kernels_that_are_not_square_are_refused(measure, shape):
    with pytest.raises(InputError, match="square"):
        measure(torch.zeros(shape))


def test_the_zero_kernel_counts_as_a_multiple_of_the_identity():
    near(ntk.entropy(torch.zeros(5, 5).double()), math.log(5))
    near(ntk.entropy(torch.zeros(5, 5).double(), normalised=True), 1.0)
    near(ntk.trace(torch.zeros(5, 5)), 0.0)
    near(ntk.spectrum(torch.zeros(5, 5)), 0.0)
    kernel = torch.zeros(5, 5).double().requires_grad_()
    (found,) = torch.autograd.grad(ntk.entropy(kernel), kernel)
    assert torch.equal(found, torch.zeros(5, 5).double())  # the clip is flat


# ---------------------------------------------------------------------- gradients


def entropy_gradient(kernel):
    leaf = kernel.clone().requires_grad_()
    (found,) = torch.autograd.grad(ntk.entropy(leaf), leaf)
    return found


def exact_gradient(kernel):
    """-(ln rho + S I) / tr K, by the eigenvectors of numpy."""
    values, vectors = np.linalg.eigh(kernel.numpy())
    p = values / values.sum()
    logarithm = vectors @ np.diag(np.log(p)) @ vectors.T
    return -(logarithm - (p * np.log(p)).sum() * np.eye(len(p))) / values.sum()


@pytest.mark.parametrize(
    "kernel",
    [random_kernel(5, 9), rotated([3.0, 3.0, 3.0, 1.0]), rotated([2.0, 2.0, 1.0, 1.0]), matrix([2, 1], [1, 2])],
)
def test_gradient_of_the_entropy(kernel):
    found = entropy_gradient(kernel)
    near(found, exact_gradient(kernel))
    for seed in range(3):
        change = random_kernel(len(kernel), 3, seed) - random_kernel(len(kernel), 3, seed + 9)
        (expected,) = explicit.central_differences(
            lambda t, d=change: float(ntk.entropy(kernel + t[0] * d)), np.zeros(1), step=1e-4
        )
        near((found * change).sum(), expected, 1e-9)


@pytest.mark.parametrize("size", [1, 2, 8])
def test_gradient_of_the_entropy_at_its_maximum_is_zero(size):
    near(entropy_gradient(2.5 * torch.eye(size).double()), 0.0, 1e-15)


@pytest.mark.parametrize("size", [2, 8])
def test_gradient_of_the_entropy_near_equal_eigenvalues(size):
    """Differences of eigenvalues of 1e-15 ... 1e-9, by which a derivative of eigenvectors would divide."""
    for noise in (1e-15, 1e-12, 1e-9):
        kernel = torch.eye(size).double() + noise * random_kernel(size, size)
        found = entropy_gradient(kernel)
        assert torch.isfinite(found).all()
        near(found, exact_gradient(kernel), 1e-13)


def test_gradients_of_a_batch_do_not_mix():
    kernels = torch.stack([random_kernel(4, 6, seed) for seed in range(3)]).requires_grad_()
    weights = torch.tensor([1.0, -2.0, 0.5]).double()
    (found,) = torch.autograd.grad((weights * ntk.entropy(kernels)).sum(), kernels)
    for weight, kernel, one in zip(weights, kernels.detach(), found, strict=True):
        near(one, float(weight) * exact_gradient(kernel))


def test_gradient_of_the_covariance_entropy_has_no_part_along_the_lengths():
    kernel = random_kernel(5, 9).requires_grad_()
    (found,) = torch.autograd.grad(ntk.covariance_entropy(kernel), kernel)
    near((found * kernel.detach()).sum(1), 0.0)  # from d/dD_ii of D K D, for a symmetric gradient


# ---------------------------------------------------------------------- collective variables of a NeuralNetwork

SIZES = (2, 5, 4, 3)


def data(number, seed, classes=3):
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.normal(size=(number, 2))), torch.tensor(rng.integers(0, classes, number))


TRAIN, TEST = data(12, 0), data(9, 1)


def network(precision="double", module=None, **settings):
    torch.manual_seed(0)
    system = NeuralNetwork(mlp(SIZES, "tanh") if module is None else module, TRAIN, TEST, **settings)
    system.prepare(Precision.named(precision), torch.device("cpu"))
    return system


def convolution():
    return nn.Sequential(nn.Unflatten(1, (1, 1, 2)), nn.Conv2d(1, 2, (1, 2)), nn.Tanh(), nn.Flatten(), nn.Linear(2, 3))


def start(system, walkers=3, scale=0.3):
    own = system.initial_positions(walkers, torch.Generator().manual_seed(1))
    return own + scale * torch.tensor(np.random.default_rng(9).normal(size=own.shape))


def jacobians(positions, x):
    return [explicit.dense_jacobian(SIZES, "tanh", row.numpy(), x.numpy()) for row in positions]


VARIABLES = {
    "ntk_entropy_train": (cv.NTKEntropy(), lambda k: ntk.entropy(k)),
    "ntk_trace_train": (cv.NTKTrace(), lambda k: ntk.trace(k)),
    "ntk_covariance_entropy_train": (cv.NTKCovarianceEntropy(), lambda k: ntk.covariance_entropy(k)),
    "ntk_magnitude_entropy_train": (cv.NTKMagnitudeEntropy(), lambda k: ntk.magnitude_entropy(k.diagonal())),
    "ntk_magnitude_variance_train": (cv.NTKMagnitudeVariance(), lambda k: ntk.magnitude_variance(k.diagonal())),
    "ntk_spectrum_train": (cv.NTKSpectrum(), lambda k: ntk.spectrum(k)),
    "ntk_entropy_train_normalised": (cv.NTKEntropy(normalised=True), lambda k: ntk.entropy(k, normalised=True)),
    "ntk_trace_train_per_row": (cv.NTKTrace(per_row=True), lambda k: ntk.trace(k, per_row=True)),
    "ntk_covariance_entropy_train_normalised": (
        cv.NTKCovarianceEntropy(normalised=True),
        lambda k: ntk.covariance_entropy(k, normalised=True),
    ),
    "ntk_magnitude_entropy_train_normalised": (
        cv.NTKMagnitudeEntropy(normalised=True),
        lambda k: ntk.magnitude_entropy(k.diagonal(), normalised=True),
    ),
}


@pytest.fixture
def calls(monkeypatch):
    """Counts how often kernels and diagonals are computed."""
    count = {"kernel": 0, "diagonal": 0}

    def counted(what, plain):
        def call(*args, **settings):
            count[what] += 1
            return plain(*args, **settings)

        return call

    for what in count:
        monkeypatch.setattr(TangentKernel, what, counted(what, getattr(TangentKernel, what)))
    return count


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.parametrize("outputs", ["mean", "all"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_variables_are_the_measures_of_the_kernel(name, outputs, split):
    plain, measure = VARIABLES[name]
    assert plain.name == name
    settings = {key: True for key in ("normalised", "per_row") if getattr(plain, key, False)}
    variable, system = type(plain)(split, outputs=outputs, **settings), network()
    positions, x = start(system), {"train": TRAIN, "test": TEST}[split][0]
    found = variable(Evaluation(system, positions))
    kernels = [torch.tensor(explicit.KERNELS[outputs](j)) for j in jacobians(positions, x)]
    expected = torch.stack([measure(kernel) for kernel in kernels])
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


def test_names_tell_every_setting_apart():
    variables = [
        cv.NTKEntropy(**settings)
        for settings in (
            {}, {"split": "test"}, {"outputs": "all"}, {"label": 1}, {"label": 0}, {"points": 5}, {"points": 6},
            {"points": 5, "seed": 1}, {"points": 5, "subsamples": 2}, {"normalised": True},
            {"points": 5, "label": 1, "outputs": "all", "normalised": True},
        )
    ]  # fmt: skip
    assert len({variable.name for variable in variables}) == len(variables)
    assert cv.NTKEntropy("test").name == "ntk_entropy_test"


def test_one_kernel_serves_all(calls):
    system = network()
    evaluation = Evaluation(system, start(system))
    for variable, _ in VARIABLES.values():
        variable(evaluation)
    assert calls["kernel"] == 1
    cv.NTKEntropy("test")(evaluation)
    cv.NTKSpectrum("test")(evaluation)
    assert calls["kernel"] == 2
    cv.NTKEntropy(outputs="all")(evaluation)
    assert calls["kernel"] == 3


def test_numbers_of_the_diagonal_build_no_kernel(calls):
    system = network()
    evaluation = Evaluation(system, start(system))
    for variable in (cv.NTKTrace(), cv.NTKTrace(per_row=True), cv.NTKMagnitudeEntropy(), cv.NTKMagnitudeVariance()):
        variable(evaluation)
    assert calls == {"kernel": 0, "diagonal": 1}


def test_a_run_computes_one_kernel_for_each_record(calls):
    variables = [variable for variable, _ in VARIABLES.values()]
    simulation = Simulation(
        network(), Langevin(dt=0.01, friction=1.0, kT=0.01), observe=variables, walkers=2, steps=20, every=5
    )
    calls["kernel"] = 0
    simulation.run(progress=False)
    assert 4 <= calls["kernel"] <= 5  # steps 5, 10, 15, 20, and perhaps 0
    assert calls["diagonal"] <= 5


def test_kernels_of_a_class():
    system = network()
    positions, (x, y) = start(system), TRAIN
    for label in (0, 1, 2):
        found = cv.NTKEntropy(label=label)(Evaluation(system, positions))
        own = [explicit.entropy(j) for j in jacobians(positions, x[y == label])]
        near(found, own, 1e-11)
        whole = [ntk.class_blocks(torch.tensor(explicit.mean_kernel(j)), y)[label] for j in jacobians(positions, x)]
        near(found, [float(ntk.entropy(block)) for block in whole], 1e-11)


def test_subsamples():
    """Means over subsamples that a seed decides; all the points at once are the whole kernel."""
    system = network()
    positions = start(system)

    def value(**settings):
        return cv.NTKEntropy(**settings)(Evaluation(system, positions))

    assert torch.equal(value(points=5, subsamples=4), value(points=5, subsamples=4))
    assert torch.equal(
        value(points=5, subsamples=4), cv.NTKEntropy(points=5, subsamples=4)(Evaluation(network(), positions))
    )
    assert not torch.equal(value(points=5, subsamples=4), value(points=5, subsamples=4, seed=1))
    near(value(points=12), value(), 1e-12)
    near(value(points=12, subsamples=3), value(), 1e-12)
    drawn = ntk.variables.subsample_indices(12, 5, 4, 0)
    assert len(drawn) == 4
    assert all(len(set(numbers)) == 5 and set(numbers) <= set(range(12)) for numbers in drawn)
    assert len(set(drawn)) > 1
    parts = [[explicit.entropy(j) for j in jacobians(positions, TRAIN[0][list(numbers)])] for numbers in drawn]
    near(value(points=5, subsamples=4), np.mean(parts, axis=0), 1e-11)


def test_subsamples_of_a_class_are_points_of_it():
    system = network()
    positions, (x, y) = start(system), TRAIN
    own = x[y == 1]
    found = cv.NTKTrace(label=1, points=2, subsamples=3)(Evaluation(system, positions))
    drawn = ntk.variables.subsample_indices(len(own), 2, 3, 0)
    expected = [
        np.mean(
            [
                np.trace(explicit.mean_kernel(explicit.dense_jacobian(SIZES, "tanh", q.numpy(), own[list(n)].numpy())))
                for n in drawn
            ]
        )
        for q in positions
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def shared_layer():
    layer = nn.Linear(2, 2)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(2, 3))


def tied_weights():
    module = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 3))
    module[2].weight = module[0].weight
    return module


@pytest.mark.parametrize("make", [shared_layer, tied_weights, convolution])
@pytest.mark.parametrize("walkers", ["vmap", "loop"])
def test_kernel_and_outputs_of_one_system(make, walkers):
    """Whatever evaluates the outputs leaves the module fit for the kernel, and the other way round."""
    system = network(module=make(), walkers=walkers)
    positions = start(system)
    evaluation = Evaluation(system, positions)
    before, entropy = cv.Loss()(evaluation), cv.NTKEntropy()(evaluation)
    again = Evaluation(system, positions)
    assert torch.equal(cv.NTKEntropy()(again), entropy)
    assert torch.equal(cv.Loss()(again), before)
    for row, value in zip(positions, entropy, strict=True):
        module = make().double()
        nn.utils.vector_to_parameters(row, module.parameters())
        near(ntk.entropy(ntk.kernel(module, TRAIN[0], method="jacobian")), value, 1e-11)


BIASED = [
    cv.NTKEntropy(), cv.NTKTrace(), cv.NTKTrace(per_row=True, outputs="all"), cv.NTKEntropy("test", outputs="all"),
    cv.NTKEntropy(label=1, normalised=True), cv.NTKEntropy(points=5, subsamples=3), cv.NTKCovarianceEntropy(),
    cv.NTKMagnitudeEntropy(), cv.NTKMagnitudeVariance(), cv.NTKTrace(points=4, label=2),
]  # fmt: skip


@pytest.mark.parametrize("variable", BIASED, ids=lambda variable: variable.name)
@pytest.mark.parametrize("make", [lambda: None, convolution], ids=["dense", "convolutional"])
def test_forces(variable, make):
    """Also where the kernel is shared with a second bias, and the loss is biased too."""
    system = network(module=make())
    positions = start(system, walkers=2)
    value = variable(Evaluation(system, positions))
    walls = (
        Wall(variable, upper=0.9 * float(value.min()), strength=3.0),
        Wall(cv.NTKEntropy(), lower=5.0, strength=0.1, name="other"),
        Wall(cv.LogLoss(), upper=-1.0, strength=0.3, name="loss"),
    )
    field = ForceField(system, walls)
    found = field(positions, 0).forces
    for direction in torch.tensor(np.random.default_rng(4).normal(size=(8, *positions.shape))):

        def energies(t, d=direction):  # of walkers that do not know each other
            return field.energies(positions + t * d, 0)[1]

        h = 1e-4
        near_by = [energies(factor * h) for factor in (-2, -1, 1, 2)]
        slope = (near_by[0] - 8 * near_by[1] + 8 * near_by[2] - near_by[3]) / (12 * h)
        expected, scale = -(found * direction).sum(1), found.norm(dim=1) * direction.norm(dim=1)
        assert ((slope - expected).abs() < 1e-8 * scale).all(), (slope - expected) / scale


def test_mixed_precision():
    """Network in float32, positions in float64."""
    double, mixed = network(), network("mixed")
    positions = start(double)
    for variable in BIASED:
        found = variable(Evaluation(mixed, positions))
        np.testing.assert_allclose(found, variable(Evaluation(double, positions)), rtol=1e-4, atol=1e-4)
    field = ForceField(mixed, (Wall(cv.NTKEntropy(), upper=0.0, strength=1.0),))
    exact = ForceField(double, (Wall(cv.NTKEntropy(), upper=0.0, strength=1.0),))
    forces, expected = field(positions, 0).forces, exact(positions, 0).forces
    assert forces.dtype == torch.float64
    assert (forces - expected).norm() < 1e-3 * expected.norm()


def test_loss_derivative():
    system = network()
    positions = start(system)
    found = cv.LossDerivative("test").observe(None, Evaluation(system, positions))
    x, y = (values.numpy() for values in TEST)
    for row, derivative in zip(positions.numpy(), found, strict=True):
        p = explicit.dense_outputs(SIZES, "tanh", row, x, softmax=True)
        near(derivative, (p - np.eye(3)[y]) / len(x))
    assert cv.LossDerivative().name == "loss_derivative_train"


def test_loss_derivative_and_kernel_say_how_the_loss_falls():
    """dL/dt = -|dL/dtheta|^2 = -(dL/df)^T K dL/df under gradient flow."""
    system = network()
    positions = start(system).requires_grad_()
    evaluation = Evaluation(system, positions)
    (gradient,) = torch.autograd.grad(cv.Loss()(evaluation).sum(), positions, retain_graph=True)
    slope = cv.LossDerivative().observe(None, evaluation).flatten(1)
    kernel = evaluation.tangent_kernel("train", outputs="all").detach()
    near(torch.einsum("wi,wij,wj->w", slope, kernel, slope), gradient.square().sum(1), 1e-12)


# ---------------------------------------------------------------------- refusals


def simulation(system, **settings):
    return Simulation(system, Langevin(dt=0.01, friction=1.0, kT=1.0), walkers=2, steps=10, every=5, **settings)


@pytest.mark.parametrize(
    "variable",
    [
        cv.NTKEntropy(),
        cv.NTKTrace(),
        cv.NTKSpectrum(),
        cv.NTKEntropy(label=1),
        cv.NTKEntropy(points=3),
        cv.LossDerivative(),
    ],
    ids=lambda variable: variable.name,
)
def test_systems_without_data_are_refused(variable):
    with pytest.raises(InputError, match=r"AnalyticSystem has no (data|torch module).*NeuralNetwork"):
        simulation(AnalyticSystem(5, Harmonic(), box=Box(2.0)), observe=[variable])


def test_a_bias_on_a_system_without_data_is_refused():
    with pytest.raises(InputError, match=r"AnalyticSystem has no (data|torch module).*NeuralNetwork"):
        simulation(AnalyticSystem(5, Harmonic(), box=Box(2.0)), bias=Wall(cv.NTKEntropy(), upper=1.0))


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        (cv.NTKEntropy(label=7), "no point of 'train' has label = 7"),
        (cv.NTKEntropy("test", points=10), "points = 10 must be at most the 9"),
        (cv.NTKTrace(points=12, label=1), "points = 12 must be at most the .* of class 1"),
    ],
)
def test_what_does_not_fit_the_data_is_refused(variable, message):
    with pytest.raises(InputError, match=message):
        simulation(network(), observe=[variable])
    with pytest.raises(InputError, match=message):
        simulation(network(), bias=Wall(variable, upper=1.0))


def test_labels_of_a_regression_are_refused():
    system = NeuralNetwork(mlp((2, 3, 1), "tanh"), (TRAIN[0], TRAIN[0][:, 0]), loss="mse")
    with pytest.raises(InputError, match="label = 1 needs a classifier"):
        simulation(system, observe=[cv.NTKEntropy(label=1)])
    with pytest.raises(InputError, match="no 'test' split"):
        simulation(system, observe=[cv.NTKEntropy("test")])


def test_a_spectrum_cannot_be_biased():
    with pytest.raises(InputError, match="ntk_spectrum_train"):
        simulation(network(), bias=Wall(cv.NTKSpectrum(), upper=1.0))


@pytest.mark.parametrize(
    "kind", [cv.NTKEntropy, cv.NTKTrace, cv.NTKCovarianceEntropy, cv.NTKMagnitudeEntropy, cv.NTKSpectrum]
)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "validation"}, "split = 'validation'"),
        ({"outputs": "sum"}, "outputs = 'sum' is not known.*'mean'.*'all'"),
        ({"points": 0}, "points = 0 must be a whole number of at least 1"),
        ({"points": 2.5}, "points = 2.5 must be a whole number"),
        ({"label": -1}, "label = -1 must be a whole number of at least 0"),
        ({"subsamples": 0, "points": 3}, "subsamples = 0 must be"),
        ({"subsamples": 5}, "subsamples = 5 of all points.*give points"),
        ({"seed": -1}, "seed = -1 must be"),
        ({"seed": "x"}, "seed = 'x' must be"),
    ],
)
def test_wrong_settings_are_refused(kind, settings, message):
    with pytest.raises(InputError, match=f"{kind.__name__}: {message}"):
        kind(**settings)


def test_a_kernel_too_large_is_refused_when_the_simulation_is_made(monkeypatch):
    # the package has the function of the name of this module
    home = sys.modules[TangentKernel.__module__]
    monkeypatch.setattr(home, "free_bytes", lambda device: 1000)
    monkeypatch.setattr(home, "PIECE", 0)  # so little work is not held against the memory otherwise
    with pytest.raises(InputError, match="fewer points or subsamples"):
        simulation(network(), observe=[cv.NTKEntropy()])
