"""What holds for the kernel of every network, on networks and points that hypothesis chooses."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nnsim.cv import ntk

common = settings(deadline=None, max_examples=25, derandomize=True)  # the same examples in every run of CI

ACTIVATIONS = (nn.ReLU, nn.Tanh, nn.SiLU, nn.Sigmoid)
CONVENTIONS = st.sampled_from(["mean", "all"])
METHODS = st.sampled_from(["auto", "jacobian"])


@st.composite
def dense_cases(draw, hidden=3):
    """A network of 1 to 4 layers and its points, in double precision."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=2, max_size=2 + hidden))
    activation, bias = draw(st.sampled_from(ACTIVATIONS)), draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale, layers = draw(st.sampled_from([0.1, 1.0, 3.0])), []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out, bias=bias), activation()]
    module = nn.Sequential(*layers[:-1]).double()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.tensor(scale * rng.normal(size=p.shape)))
    return module, torch.tensor(rng.normal(size=(draw(st.integers(1, 9)), sizes[0])))


@st.composite
def conv_cases(draw):
    """Two convolutions and a linear layer, of any stride, padding, dilation and groups, and their points."""
    groups, rng = draw(st.integers(1, 2)), np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    channels = [draw(st.integers(1, 2)), groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))]
    first = nn.Conv2d(
        channels[0], channels[1], draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(0, 2)),
        bias=draw(st.booleans()),
    )  # fmt: skip
    second = nn.Conv2d(
        channels[1], channels[2], draw(st.integers(1, 2)), 1, 1, draw(st.integers(1, 2)), groups, draw(st.booleans())
    )
    convolutions = nn.Sequential(first, draw(st.sampled_from(ACTIVATIONS))(), second, nn.Tanh(), nn.Flatten()).double()
    x = torch.tensor(rng.normal(size=(draw(st.integers(1, 5)), channels[0], 5, 4)))
    module = nn.Sequential(*convolutions, nn.Linear(convolutions(x).shape[1], draw(st.integers(1, 3)))).double()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.tensor(rng.normal(size=p.shape)))
    return module, x


CASES = st.one_of(dense_cases(), conv_cases())


def kernel_of(module, x, **how):
    return ntk.kernel(module, x, **how).detach()


def same(one, other, relative=1e-12):
    largest = max(float(one.abs().max()), float(other.abs().max()))
    assert one.shape == other.shape
    assert (one - other).abs().max() <= relative * largest + 1e-300


def outputs_of(module, x):
    return module(x).shape[1]


@pytest.mark.slow
@common
@given(CASES, CONVENTIONS, METHODS)
def test_symmetric_and_positive_semidefinite(case, outputs, method):
    module, x = case
    kernel = kernel_of(module, x, outputs=outputs, method=method)
    assert len(kernel) == len(x) * (outputs_of(module, x) if outputs == "all" else 1)
    same(kernel, kernel.mT)
    values = np.linalg.eigvalsh(kernel.numpy())
    assert values.min() >= -1e-13 * max(values.max(), 1e-300)


@common
@given(CASES, CONVENTIONS)
def test_both_methods_agree(case, outputs):
    module, x = case
    same(kernel_of(module, x, outputs=outputs), kernel_of(module, x, outputs=outputs, method="jacobian"))


@common
@given(dense_cases(hidden=1), CONVENTIONS, st.integers(1, 6), st.integers(0, 999))
def test_the_order_of_hidden_neurons_does_not_matter(case, outputs, width, seed):
    ends, x = case
    rng = np.random.default_rng(seed)
    module = nn.Sequential(nn.Linear(x.shape[1], width), nn.SiLU(), nn.Linear(width, outputs_of(ends, x))).double()
    before = kernel_of(module, x, outputs=outputs)
    order = torch.tensor(rng.permutation(width))
    with torch.no_grad():
        module[0].weight.copy_(module[0].weight[order].clone())
        module[0].bias.copy_(module[0].bias[order].clone())
        module[2].weight.copy_(module[2].weight[:, order].clone())
    same(kernel_of(module, x, outputs=outputs), before)


@common
@given(CASES, st.integers(0, 999))
def test_the_order_of_points_is_that_of_rows(case, seed):
    module, x = case
    order = torch.tensor(np.random.default_rng(seed).permutation(len(x)))
    same(kernel_of(module, x[order]), kernel_of(module, x)[order][:, order])


@common
@given(CASES, CONVENTIONS)
def test_entropies_lie_between_zero_and_the_logarithm_of_the_size(case, outputs):
    kernel = kernel_of(*case, outputs=outputs)
    for measure in (ntk.entropy, ntk.covariance_entropy):
        assert -1e-12 <= float(measure(kernel)) <= math.log(len(kernel)) + 1e-12
        assert -1e-12 <= float(measure(kernel, normalised=True)) <= 1 + 1e-12


@pytest.mark.slow
@common
@given(CASES, CONVENTIONS, METHODS, st.integers(1, 9))
def test_batched_equals_unbatched(case, outputs, method, batch_size):
    module, x = case
    how = {"outputs": outputs, "method": method}
    same(kernel_of(module, x, batch_size=batch_size, **how), kernel_of(module, x, **how), 1e-13)


@pytest.mark.slow
@common
@given(CASES, CONVENTIONS, st.integers(0, 999))
def test_kernels_of_classes_are_blocks_of_the_whole(case, outputs, seed):
    module, x = case
    labels = torch.tensor(np.random.default_rng(seed).integers(0, 3, len(x)))
    blocks = ntk.class_blocks(kernel_of(module, x, outputs=outputs), labels)
    assert sorted(blocks) == labels.unique().tolist()
    for label, block in blocks.items():
        own = kernel_of(module, x[labels == label], outputs=outputs)
        # rounding is relative to the whole kernel, since a sum of large numbers may be small
        largest = kernel_of(module, x, outputs=outputs).abs().max()
        assert block.shape == own.shape
        assert (block - own).abs().max() <= 1e-12 * largest


@common
@given(CASES, st.floats(1e-3, 1e3))
def test_entropies_do_not_know_a_factor_of_the_kernel(case, factor):
    kernel = kernel_of(*case)
    if kernel.abs().max() < 1e-3:  # a dead network: there the clip of eigenvalues decides
        return
    for measure in (ntk.entropy, ntk.covariance_entropy):
        assert abs(float(measure(factor * kernel) - measure(kernel))) < 1e-8  # the clip is not scaled
    same(ntk.spectrum(factor * kernel), factor * ntk.spectrum(kernel))


@pytest.mark.slow
@common
@given(CASES, METHODS)
def test_the_mean_kernel_is_the_mean_over_outputs(case, method):
    """K_ij = 1/O sum_a K_(ia)(ja), so that the trace of all is O times that of the mean."""
    module, x = case
    count = outputs_of(module, x)
    mean, every = (kernel_of(module, x, outputs=outputs, method=method) for outputs in ("mean", "all"))
    blocks = every.view(len(x), count, len(x), count)
    same(mean, blocks.diagonal(dim1=1, dim2=3).mean(-1))
    np.testing.assert_allclose(float(ntk.trace(every)), count * float(ntk.trace(mean)), rtol=1e-12)


@common
@given(CASES, CONVENTIONS)
def test_magnitudes_are_a_distribution(case, outputs):
    diagonal = kernel_of(*case, outputs=outputs).diagonal()
    if diagonal.max() == 0:
        return
    found = ntk.magnitudes(diagonal)
    assert (found >= 0).all()
    assert abs(float(found.sum()) - 1) < 1e-14 * len(found)
    assert -1e-12 <= float(ntk.magnitude_entropy(diagonal)) <= math.log(len(found)) + 1e-12
    assert 0 <= float(ntk.magnitude_variance(diagonal)) <= len(found) - 1 + 1e-12


@pytest.mark.slow
@common
@given(CASES, CONVENTIONS)
def test_the_spectrum_is_that_of_the_kernel(case, outputs):
    kernel = kernel_of(*case, outputs=outputs)
    found = ntk.spectrum(kernel)
    assert (found >= 0).all()
    assert (found.diff() <= 0).all()
    np.testing.assert_allclose(
        found, np.linalg.eigvalsh(kernel)[::-1], rtol=0, atol=1e-12 * max(float(found[0]), 1e-300)
    )


@pytest.mark.slow
@common
@given(CASES, st.integers(0, 999))
def test_a_point_given_twice_has_equal_rows(case, seed):
    module, x = case
    again = int(np.random.default_rng(seed).integers(0, len(x)))
    kernel = kernel_of(module, torch.cat([x, x[again : again + 1]]))
    same(kernel[-1], kernel[again])
    same(kernel[:-1, :-1], kernel_of(module, x))
