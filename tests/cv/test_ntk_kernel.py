"""The empirical NTK, its entropy and their gradients, against explicit float64 computations (explicit_ntk.py)."""

import copy
from itertools import pairwise

import explicit_ntk as explicit
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from explicit_ntk import Conv
from torch import nn
from torch.nn.utils import parametrizations

from nnsim import InputError
from nnsim.cv import ntk
from nnsim.networks.scaled import ScaledConv2d, ScaledLinear

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU}
CONVENTIONS = ("mean", "all")


@pytest.fixture(autouse=True)
def seeded():
    """Modules draw their values from torch's global generator."""
    torch.manual_seed(0)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def tokens(*shape, kinds=7, seed=0):
    return torch.tensor(np.random.default_rng(seed).integers(0, kinds, shape))


def parameters_of(module):
    return torch.cat([p.detach().flatten() for p in module.parameters() if p.requires_grad])


def dense(sizes, activation, softmax=False, bias=True):
    layers = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out, bias=bias), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1], *([nn.Softmax(-1)] if softmax else [])).double()


def convolutional(convs, outputs, activation, image):
    layers = []
    for conv in convs:
        layers.append(
            nn.Conv2d(
                *conv.channels, conv.kernel, conv.stride, conv.padding, conv.dilation, conv.groups, bias=conv.bias
            )
        )
        layers.append(ACTIVATIONS[activation]())
        image = conv.size(image)
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(convs[-1].channels[1] * image[0] * image[1], outputs)
    ).double()


def assert_close(kernel, expected, relative=1e-12):
    expected = np.asarray(expected)
    assert tuple(kernel.shape) == expected.shape
    difference = np.abs(kernel.detach().numpy() - expected).max() / np.abs(expected).max()
    assert difference < relative, difference


def assert_all_of_it(module, x, jacobian, method="auto"):
    """Kernels to 1e-12, traces to 1e-12 and entropies to 1e-11, in both conventions."""
    for outputs in CONVENTIONS:
        kernel = ntk.kernel(module, x, outputs=outputs, method=method)
        expected = explicit.KERNELS[outputs](jacobian)
        assert kernel.dtype == torch.float64
        assert_close(kernel, expected)
        np.testing.assert_allclose(float(ntk.trace(kernel)), np.trace(expected), rtol=1e-12)
        np.testing.assert_allclose(
            float(ntk.trace(kernel, per_row=True)), np.trace(expected) / len(expected), rtol=1e-12
        )
        assert abs(float(ntk.entropy(kernel)) - explicit.entropy(jacobian, outputs)) < 1e-11


# ---------------------------------------------------------------------- dense networks

DENSE = {
    "relu": ((3, 8, 7, 4), "relu", False, True),
    "tanh": ((3, 8, 7, 4), "tanh", False, True),
    "silu": ((3, 8, 7, 4), "silu", False, True),
    "relu, softmax": ((3, 8, 4), "relu", True, True),
    "tanh, softmax": ((3, 6, 6, 4), "tanh", True, True),
    "silu, softmax, no bias": ((3, 6, 4), "silu", True, False),
    "one output": ((2, 9, 9, 1), "tanh", False, True),
    "one output, no bias": ((2, 9, 1), "relu", False, False),
    "no bias": ((3, 8, 7, 4), "silu", False, False),
    "many outputs": ((3, 4, 12), "tanh", False, True),
    "one layer": ((5, 3), "tanh", False, True),
    "deep": ((2, 5, 5, 5, 5, 5, 5, 2), "silu", False, True),
    "one input": ((1, 6, 2), "tanh", False, True),
}


def dense_case(name, count=9):
    sizes, activation, softmax, bias = DENSE[name]
    module, x = dense(sizes, activation, softmax, bias), normal(count, sizes[0], seed=5)
    theta = parameters_of(module).numpy()
    return module, x, theta, lambda q: explicit.dense_jacobian(sizes, activation, q, x, softmax, bias)


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("method", ["auto", "jacobian"])
def test_dense_networks(name, method):
    module, x, theta, jacobian = dense_case(name)
    assert_all_of_it(module, torch.tensor(x), jacobian(theta), method)


@pytest.mark.parametrize("name", ["tanh", "silu", "tanh, softmax", "silu, softmax, no bias", "deep"])
def test_backpropagation_of_the_tests_equals_complex_steps(name):
    sizes, activation, softmax, bias = DENSE[name]
    _, x, theta, jacobian = dense_case(name)
    steps = explicit.complex_step_jacobian(
        lambda q: explicit.dense_outputs(sizes, activation, q, x, softmax, bias), theta
    )
    np.testing.assert_allclose(jacobian(theta), steps, rtol=0, atol=1e-13 * np.abs(steps).max())


def test_kernel_equals_complex_steps():
    sizes, activation, softmax, bias = DENSE["tanh, softmax"]
    module, x, theta, _ = dense_case("tanh, softmax")
    steps = explicit.complex_step_jacobian(
        lambda q: explicit.dense_outputs(sizes, activation, q, x, softmax, bias), theta
    )
    assert_all_of_it(module, torch.tensor(x), steps)


def test_one_point():
    module, x, theta, _ = dense_case("tanh")
    jacobian = explicit.dense_jacobian(*DENSE["tanh"][:2], theta, x[:1])
    assert_all_of_it(module, torch.tensor(x[:1]), jacobian)


def test_flattened_images_into_a_dense_network():
    sizes = (6, 5, 3)
    module, x = nn.Sequential(nn.Flatten(), *dense(sizes, "relu")), normal(8, 2, 3)
    jacobian = explicit.dense_jacobian(sizes, "relu", parameters_of(module).numpy(), x.reshape(8, 6))
    assert_all_of_it(module, torch.tensor(x), jacobian)


@pytest.mark.parametrize("what", ["more points than parameters", "points twice", "dead layer"])
@pytest.mark.parametrize("method", ["auto", "jacobian"])
def test_kernels_without_full_rank(what, method):
    sizes, x = (2, 3, 1), normal(40, 2)  # 13 parameters
    if what == "points twice":
        sizes, x = (2, 9, 3), np.repeat(normal(7, 2), 2, axis=0)
    module = dense(sizes, "relu" if what == "dead layer" else "tanh")
    if what == "dead layer":  # only the output's bias is left: rank one
        with torch.no_grad():
            module[0].bias.fill_(-50.0)
    jacobian = explicit.dense_jacobian(
        sizes, "relu" if what == "dead layer" else "tanh", parameters_of(module).numpy(), x
    )
    assert np.linalg.matrix_rank(explicit.mean_kernel(jacobian)) < len(x)
    assert_all_of_it(module, torch.tensor(x), jacobian, method)


# ---------------------------------------------------------------------- convolutions

CONVOLUTIONS = {
    "plain": (Conv((2, 3), (3, 3)),),
    "no bias": (Conv((2, 3), (3, 3), bias=False),),
    "stride": (Conv((2, 3), (3, 2), stride=(2, 1)),),
    "padding": (Conv((2, 3), (3, 3), padding=(1, 2)),),
    "dilation": (Conv((2, 3), (2, 3), dilation=(2, 1), padding=(1, 0)),),
    "groups": (Conv((4, 6), (2, 2), groups=2),),
    "depthwise": (Conv((4, 4), (3, 3), groups=4, padding=(1, 1), bias=False),),
    "one by one": (Conv((2, 4), (1, 1)),),
    "all at once": (Conv((4, 6), (3, 2), (2, 1), (2, 1), (1, 2), 2),),
    "two layers": (Conv((2, 4), (3, 3), padding=(1, 1)), Conv((4, 2), (2, 2), stride=(2, 2), groups=2, bias=False)),
    "rows left over": (Conv((2, 3), (2, 2), stride=(3, 3)),),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("method", ["auto", "jacobian"])
def test_convolutions(name, method):
    convs, image = CONVOLUTIONS[name], (5, 6)
    activation = "silu" if name == "two layers" else "tanh"
    module = convolutional(convs, 3, activation, image)
    x = normal(6, convs[0].channels[0], *image, seed=3)
    jacobian = explicit.conv_jacobian(convs, 3, activation, parameters_of(module).numpy(), x)
    assert_all_of_it(module, torch.tensor(x), jacobian, method)


def test_a_convolution_of_the_whole_image_is_a_linear_layer():
    """The two explicit computations against each other."""
    x, theta = normal(5, 2, 3, 4), normal(3 * 24 + 3 + 2 * 3 + 2, seed=1)
    one = explicit.conv_jacobian((Conv((2, 3), (3, 4)),), 2, "tanh", theta, x)
    np.testing.assert_allclose(one, explicit.dense_jacobian((24, 3, 2), "tanh", theta, x.reshape(5, 24)), atol=1e-14)


# ---------------------------------------------------------------------- gradients


def gradient(module, x, positions, measure, **settings):
    leaf = positions.detach().clone().requires_grad_()
    value = measure(ntk.kernel(module, x, positions=leaf[None], **settings))
    if not value.requires_grad:  # as of a linear module, whose kernel is constant
        return torch.zeros_like(positions)
    return torch.autograd.grad(value.sum(), leaf, materialize_grads=True)[0]


def normwise(one, other):
    one, other = np.asarray(one), np.asarray(other)
    return np.linalg.norm(one - other) / np.linalg.norm(other)


@pytest.mark.parametrize("name", ["relu", "tanh", "silu", "tanh, softmax", "one output", "no bias"])
@pytest.mark.parametrize("outputs", CONVENTIONS)
def test_gradient_of_the_entropy(name, outputs):
    module, x, theta, jacobian = dense_case(name)
    expected = explicit.central_differences(lambda q: explicit.entropy(jacobian(q), outputs), theta)
    layerwise, full = (
        gradient(module, torch.tensor(x), torch.tensor(theta), ntk.entropy, outputs=outputs, method=method)
        for method in ("auto", "jacobian")
    )
    assert normwise(layerwise, expected) < 1e-7
    assert normwise(full, expected) < 1e-7
    assert normwise(layerwise, full) < 1e-9


def test_gradient_of_the_entropy_of_a_kernel_without_full_rank():
    sizes, x = (2, 3, 1), normal(30, 2)  # 13 parameters
    module = dense(sizes, "tanh")
    theta = parameters_of(module)
    expected = explicit.central_differences(
        lambda q: explicit.entropy(explicit.dense_jacobian(sizes, "tanh", q, x)), theta.numpy()
    )
    for method in ("auto", "jacobian"):
        assert normwise(gradient(module, torch.tensor(x), theta, ntk.entropy, method=method), expected) < 1e-7


@pytest.mark.parametrize("name", ["two layers", "all at once"])
@pytest.mark.parametrize("outputs", CONVENTIONS)
def test_gradient_of_the_entropy_of_convolutions(name, outputs):
    convs, image = CONVOLUTIONS[name], (4, 5)
    module, x = convolutional(convs, 2, "silu", image), normal(4, convs[0].channels[0], *image, seed=3)
    theta = parameters_of(module)
    layerwise, full = (
        gradient(module, torch.tensor(x), theta, ntk.entropy, outputs=outputs, method=method)
        for method in ("auto", "jacobian")
    )
    assert normwise(layerwise, full) < 1e-9
    along = normal(4, len(theta), seed=8)  # directions: all parameters would take the plain loops a minute
    for direction in along:
        (expected,) = explicit.central_differences(
            lambda t, d=direction: explicit.entropy(
                explicit.conv_jacobian(convs, 2, "silu", theta.numpy() + t[0] * d, x), outputs
            ),
            np.zeros(1),
        )
        assert abs(float(full.numpy() @ direction) - expected) < 1e-7 * np.linalg.norm(full) * np.linalg.norm(direction)


def of_diagonal(measure):
    return lambda kernel: measure(kernel.diagonal(dim1=-2, dim2=-1))


@pytest.mark.slow
@pytest.mark.parametrize(
    "measure",
    [ntk.trace, ntk.covariance_entropy, of_diagonal(ntk.magnitude_entropy), of_diagonal(ntk.magnitude_variance)],
    ids=["trace", "covariance entropy", "magnitude entropy", "magnitude variance"],
)
def test_gradient_of_the_other_measures(measure):
    module, x, theta, _ = dense_case("tanh")
    positions = torch.tensor(theta)
    found = gradient(module, torch.tensor(x), positions, measure)

    def values(q):
        return measure(ntk.kernel(module, torch.tensor(x), positions=torch.tensor(q)))

    assert normwise(found, explicit.differences_together(values, theta, step=1e-4)) < 1e-7


# ---------------------------------------------------------------------- any module, against row-by-row gradients


class Residual(nn.Module):
    def __init__(self, width, inplace=False):
        super().__init__()
        self.first, self.second, self.inplace = nn.Linear(width, width), nn.Linear(width, width), inplace

    def forward(self, x):
        inner = self.second(torch.tanh(self.first(x)))
        if self.inplace:
            inner += x
            return F.silu(inner, inplace=True)
        return F.silu(x + inner)


class ConvResidual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.GroupNorm(3, 3)

    def forward(self, x):
        return F.relu(x + self.norm(self.conv(x)))


class Called(nn.Module):
    """Any function of a dictionary of layers and the points."""

    def __init__(self, function, **layers):
        super().__init__()
        self.layers, self.function = nn.ModuleDict(layers), function

    def forward(self, x):
        return self.function(self.layers, x)


class Attention(nn.Module):
    def __init__(self, batch_first=True):
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(4, 2, dropout=0.0, batch_first=batch_first), nn.Linear(4, 2)
        self.batch_first = batch_first

    def forward(self, x):
        h = x if self.batch_first else x.transpose(0, 1)
        h, _ = self.attention(h, h, h)
        return self.head(h.mean(1 if self.batch_first else 0))


class TiedEmbedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.inner = nn.Embedding(7, 4), nn.Linear(4, 4)

    def forward(self, x):
        return F.linear(torch.tanh(self.inner(self.embedding(x).mean(1))), self.embedding.weight)


class SquaredLinear(nn.Linear):
    """A subclass that is no plain linear layer."""

    def forward(self, x):
        return F.linear(x, self.weight * self.weight, self.bias)


class OwnParameters(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale, self.linear = nn.Parameter(torch.tensor(1.3)), nn.Linear(3, 2)
        self.register_buffer("shift", torch.tensor([0.3, -0.4, 0.1]))

    def forward(self, x):
        return self.scale * self.linear(x - self.shift) + self.scale**2


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.head = nn.GRU(4, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.gru(x)[0][:, -1])


def frozen_first_layer():
    module = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    module[0].weight.requires_grad_(False)
    return module


def frozen_bias_of_a_convolution():
    module = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(48, 2))
    module[0].bias.requires_grad_(False)
    return module


def one_layer_under_two_names():
    layer = nn.Linear(3, 3)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(3, 2))


def one_weight_in_two_layers():
    module = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2))
    module[2].weight = module[0].weight
    return module


def hooked():
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    module[0].register_forward_hook(lambda layer, args, output: output * 2 + args[0].sum(-1, keepdim=True))
    module[2].register_forward_pre_hook(lambda layer, args: (args[0] ** 2,))
    return module


def normalised_in_evaluation():
    module = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 2))
    module[1].running_mean.normal_()
    module[1].running_var.uniform_(0.5, 2)
    return module.eval()


def encoder():
    layer = nn.TransformerEncoderLayer(4, 2, dim_feedforward=6, dropout=0.0, batch_first=True)
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(12, 2)).eval()


def spread_layer_norm():
    norm = nn.LayerNorm(6)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2), norm.bias.normal_()
    return nn.Sequential(nn.Linear(3, 6), norm, nn.Tanh(), nn.Linear(6, 2))


def doubled_in_place(layers, x):
    h = layers["one"](x)
    h *= 2
    return layers["two"](torch.tanh(h))


def sorted_inside(layers, x):
    order = x[:, 0].argsort()
    return layers["out"](torch.tanh(layers["one"](x[order])))[order.argsort()]


def some_of_the_points(layers, x):
    """The second layer never sees the others."""
    chosen = (x[:, 0] > 0).nonzero()[:, 0]
    return layers["one"](x).index_add(0, chosen, layers["two"](x[chosen]))


FLAT, IMAGES, SEQUENCES = (torch.tensor(normal(7, *shape)) for shape in ((3,), (2, 5, 5), (3, 4)))
TOKENS = tokens(7, 5)

MODULES = {
    "layer norm": (spread_layer_norm, FLAT),
    "layer norm without parameters": (
        lambda: nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6, elementwise_affine=False), nn.Tanh(), nn.Linear(6, 2)),
        FLAT,
    ),
    "layer norm of images": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 2), nn.LayerNorm((3, 4, 4)), nn.SiLU(), nn.Flatten(), nn.Linear(48, 2)),
        IMAGES,
    ),
    "layer norm of each token": (
        lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Tanh(), nn.Flatten(), nn.Linear(18, 2)),
        SEQUENCES,
    ),
    "layer norm last": (lambda: nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 4), nn.LayerNorm(4)), FLAT),
    "group norm": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 2), nn.GroupNorm(2, 4), nn.SiLU(), nn.Flatten(), nn.Linear(64, 2)),
        IMAGES,
    ),
    "group norm of flat points": (
        lambda: nn.Sequential(nn.Linear(3, 6), nn.GroupNorm(2, 6), nn.Tanh(), nn.Linear(6, 2)),
        FLAT,
    ),
    "instance norm": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 2), nn.InstanceNorm2d(4, affine=True), nn.SiLU(), nn.Flatten(), nn.Linear(64, 2)
        ),
        IMAGES,
    ),
    "embedding": (lambda: nn.Sequential(nn.Embedding(7, 3), nn.Flatten(), nn.Tanh(), nn.Linear(15, 2)), TOKENS),
    "embedding with padding": (
        lambda: nn.Sequential(nn.Embedding(7, 3, padding_idx=2), nn.Flatten(), nn.Linear(15, 2)),
        TOKENS,
    ),
    "embedding bag": (lambda: nn.Sequential(nn.EmbeddingBag(7, 4), nn.Tanh(), nn.Linear(4, 2)), TOKENS),
    "attention": (Attention, SEQUENCES),
    "attention, tokens first": (lambda: Attention(batch_first=False), SEQUENCES),
    "encoder layer": (encoder, SEQUENCES),
    "residual": (lambda: nn.Sequential(nn.Linear(3, 5), Residual(5), nn.Linear(5, 2)), FLAT),
    "residual in place": (lambda: nn.Sequential(nn.Linear(3, 5), Residual(5, inplace=True), nn.Linear(5, 2)), FLAT),
    "residual convolutions": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 1), ConvResidual(), ConvResidual(), nn.Flatten(), nn.Linear(75, 2)),
        IMAGES,
    ),
    "a layer used twice": (
        lambda: Called(
            lambda m, x: m["out"](torch.tanh(m["twice"](torch.tanh(m["twice"](x))))),
            twice=nn.Linear(3, 3),
            out=nn.Linear(3, 2),
        ),
        FLAT,
    ),
    "a layer under two names": (one_layer_under_two_names, FLAT),
    "one weight in two layers": (one_weight_in_two_layers, FLAT),
    "a convolution used twice": (
        lambda: Called(
            lambda m, x: m["out"](torch.tanh(m["twice"](torch.tanh(m["twice"](x)))).flatten(1)),
            twice=nn.Conv2d(2, 2, 3, padding=1),
            out=nn.Linear(50, 2),
        ),
        IMAGES,
    ),
    "tied embedding": (TiedEmbedding, TOKENS),
    "a layer and its weight": (
        lambda: Called(lambda m, x: m["one"](x) + F.linear(x, m["one"].weight**2) + m["one"].bias, one=nn.Linear(3, 2)),
        FLAT,
    ),
    "in place": (
        lambda: nn.Sequential(
            nn.Linear(3, 5), nn.ReLU(inplace=True), nn.Linear(5, 4), nn.SiLU(inplace=True), nn.Linear(4, 2)
        ),
        FLAT,
    ),
    "in place on images": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 2), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(48, 2)),
        IMAGES,
    ),
    "changed in place": (lambda: Called(doubled_in_place, one=nn.Linear(3, 4), two=nn.Linear(4, 2)), FLAT),
    "frozen weight": (frozen_first_layer, FLAT),
    "frozen bias of a convolution": (frozen_bias_of_a_convolution, IMAGES),
    "own parameters and a buffer": (OwnParameters, FLAT),
    "batch norm in evaluation": (normalised_in_evaluation, FLAT),
    "weight norm": (
        lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 5)), nn.Tanh(), nn.Linear(5, 2)),
        FLAT,
    ),
    "weight norm of a convolution": (
        lambda: nn.Sequential(
            parametrizations.weight_norm(nn.Conv2d(2, 3, 2)), nn.Tanh(), nn.Flatten(), nn.Linear(48, 2)
        ),
        IMAGES,
    ),
    "subclass of a linear layer": (lambda: nn.Sequential(SquaredLinear(3, 5), nn.Tanh(), nn.Linear(5, 2)), FLAT),
    "hooks": (hooked, FLAT),
    "linear layer on tokens": (
        lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Flatten(), nn.Linear(15, 2)),
        SEQUENCES,
    ),
    "points and tokens in one axis": (
        lambda: Called(
            lambda m, x: m["out"](torch.tanh(m["one"](x.reshape(-1, 4))).reshape(-1, 15)),
            one=nn.Linear(4, 5),
            out=nn.Linear(15, 2),
        ),
        SEQUENCES,
    ),
    "points last": (
        lambda: Called(
            lambda m, x: m["out"](torch.tanh(m["one"](x.transpose(0, 1))).sum(0)),
            one=nn.Linear(4, 5),
            out=nn.Linear(5, 2),
        ),
        SEQUENCES,
    ),
    "as many tokens as points, points last": (
        lambda: Called(
            lambda m, x: m["out"](torch.tanh(m["one"](x.transpose(0, 1))).sum(0)),
            one=nn.Linear(4, 5),
            out=nn.Linear(5, 2),
        ),
        torch.tensor(normal(7, 7, 4)),
    ),
    "points in another order": (  # as packed sequences have them
        lambda: Called(
            lambda m, x: m["out"](torch.tanh(m["one"](x.flip(0)))).flip(0), one=nn.Linear(3, 5), out=nn.Linear(5, 2)
        ),
        FLAT,
    ),
    "points sorted and sorted back": (
        lambda: Called(sorted_inside, one=nn.Linear(3, 5), out=nn.Linear(5, 2)),
        FLAT,
    ),
    "one constant row": (
        lambda: Called(
            lambda m, x: x[:, :2] * m["one"](torch.ones(1, 3, dtype=x.dtype)) + m["out"](x),
            one=nn.Linear(3, 2),
            out=nn.Linear(3, 2),
        ),
        FLAT,
    ),
    "one constant vector": (
        lambda: Called(
            lambda m, x: x[:, :2] * m["one"](torch.ones(3, dtype=x.dtype)) + m["out"](x),
            one=nn.Linear(3, 2),
            out=nn.Linear(3, 2),
        ),
        FLAT,
    ),
    "as many constant rows as points": (
        lambda: Called(
            lambda m, x: m["out"](x) * m["one"](torch.eye(7, 3, dtype=x.dtype)).sum(),
            one=nn.Linear(3, 3),
            out=nn.Linear(3, 2),
        ),
        FLAT,
    ),
    "a branch by the sign of each point": (
        lambda: Called(
            lambda m, x: torch.where(x[:, :1] > 0, m["one"](x), m["two"](x)), one=nn.Linear(3, 2), two=nn.Linear(3, 2)
        ),
        FLAT,
    ),
    "a layer for some of the points": (
        lambda: Called(some_of_the_points, one=nn.Linear(3, 2), two=nn.Linear(3, 2)),
        FLAT,
    ),
    "called by keyword": (
        lambda: Called(lambda m, x: m["two"](torch.tanh(m["one"](input=x))), one=nn.Linear(3, 4), two=nn.Linear(4, 2)),
        FLAT,
    ),
    "the NTK parametrisation": (
        lambda: nn.Sequential(
            ScaledConv2d(2, 3, 2), nn.Tanh(), nn.Flatten(), ScaledLinear(48, 5), nn.SiLU(), ScaledLinear(5, 2)
        ),
        IMAGES,
    ),
    "images as channels": (  # each image a convolution of its own, all points in one axis
        lambda: Called(
            lambda m, x: m["out"](torch.tanh(m["one"](x.reshape(-1, 1, 5, 5))).reshape(-1, 32)),
            one=nn.Conv2d(1, 1, 2),
            out=nn.Linear(32, 2),
        ),
        IMAGES,
    ),
    "a layer without effect": (
        lambda: Called(lambda m, x: m["one"](x), one=nn.Linear(3, 2), unused=nn.Linear(3, 2)),
        FLAT,
    ),
    "a layer whose output is thrown away": (
        lambda: Called(lambda m, x: (m["unused"](x), m["one"](x))[1], one=nn.Linear(3, 2), unused=nn.Linear(3, 2)),
        FLAT,
    ),
    "a detached branch": (
        lambda: Called(lambda m, x: m["one"](x) + m["two"](x).detach(), one=nn.Linear(3, 2), two=nn.Linear(3, 2)),
        FLAT,
    ),
    "circular padding": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), nn.Tanh(), nn.Flatten(), nn.Linear(75, 2)
        ),
        IMAGES,
    ),
    "padding to the same size": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, (2, 4), padding="same"), nn.Tanh(), nn.Flatten(), nn.Linear(75, 2)),
        IMAGES,
    ),
    "pools": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 2), nn.SiLU(), nn.AvgPool2d(2), nn.Conv2d(3, 3, 1), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(3, 2),
        ),
        IMAGES,
    ),
    "convolution last": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 2), nn.Tanh(), nn.Conv2d(3, 2, 4), nn.Flatten()),
        IMAGES,
    ),
    "convolution of sequences": (
        lambda: nn.Sequential(nn.Conv1d(3, 4, 2), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2)),
        SEQUENCES,
    ),
    "transposed convolution": (
        lambda: nn.Sequential(nn.ConvTranspose2d(2, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(72, 2)),
        IMAGES,
    ),
    "recurrent": (Recurrent, SEQUENCES),
}  # fmt: skip


def case(name):
    make, x = MODULES[name]
    return make().double(), x


def row_by_row(module, x):
    """J [N, O, n] by one backward pass for each output of each point."""
    own = [p for p in module.parameters() if p.requires_grad]
    outputs = module(x)
    rows = [torch.autograd.grad(o, own, retain_graph=True, materialize_grads=True) for o in outputs.flatten()]
    return torch.stack([torch.cat([g.flatten() for g in row]) for row in rows]).view(*outputs.shape, -1).numpy()


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("method", ["auto", "jacobian"])
def test_any_module(name, method):
    module, x = case(name)
    assert_all_of_it(module, x, row_by_row(module, x), method)


@pytest.mark.parametrize("name", [name for name in MODULES if name != "embedding bag"])
def test_gradient_of_any_module_is_that_of_the_full_jacobian(name):
    module, x = case(name)
    positions = parameters_of(module)
    for outputs in CONVENTIONS:
        layerwise, full = (
            gradient(module, x, positions, lambda k: ntk.entropy(k) + ntk.trace(k), outputs=outputs, method=method)
            for method in ("auto", "jacobian")
        )
        assert torch.linalg.vector_norm(layerwise - full) <= 1e-9 * torch.linalg.vector_norm(full)


def test_a_module_that_torch_does_not_differentiate_twice_has_a_kernel_but_no_gradient():
    module, x = case("embedding bag")
    with pytest.raises((InputError, NotImplementedError, RuntimeError)):
        gradient(module, x, parameters_of(module), ntk.trace)


def swapped(module, scale):
    """A module that turns the order of the points around between its layers, and has small outputs."""
    return Called(lambda m, x: scale * m["out"](torch.tanh(m["one"](x.flip(0)))).flip(0), one=module[0], out=module[2])


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e6])
def test_the_choice_of_rules_does_not_depend_on_the_size_of_gradients(scale):
    """The trial of rules must not take all small numbers for equal."""
    module, x = swapped(dense((3, 5, 2), "tanh"), scale), torch.tensor(normal(7, 3))
    assert_close(ntk.kernel(module, x), explicit.mean_kernel(row_by_row(module, x)))
    assert_close(ntk.kernel(module, scale * x), explicit.mean_kernel(row_by_row(module, scale * x)))


@pytest.mark.parametrize("first", [[0, 1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1, 0], [3, 3, 3, 1, 0, 2, 5]])
@pytest.mark.parametrize("name", ["points sorted and sorted back", "a layer for some of the points"])
def test_the_choice_of_rules_does_not_depend_on_the_first_points(first, name):
    """Modules that look at their points, with first points that happen to be in order, all alike or all chosen."""
    function = sorted_inside if "sorted" in name else some_of_the_points
    module = Called(function, one=nn.Linear(3, 2), two=nn.Linear(3, 2), out=nn.Linear(2, 2))
    module, x = module.double(), torch.tensor(normal(7, 3))
    x = x[x[:, 0].argsort()][torch.tensor(first)]
    assert_close(ntk.kernel(module, x), explicit.mean_kernel(row_by_row(module, x)))


def test_walkers_that_diverged_do_not_spoil_the_others():
    for module, x in (plain(), case("layer norm")):
        own = parameters_of(module)
        positions = torch.stack([own, torch.full_like(own, torch.nan), 2 * own])
        found = ntk.kernel(module, x, positions=positions)
        assert torch.isnan(found[1]).any()
        assert torch.isfinite(found[[0, 2]]).all()


@pytest.mark.slow
def test_the_module_stays_as_it_was():
    for name in MODULES:
        module, x = case(name)
        before, points = copy.deepcopy(module.state_dict()), x.clone()
        hooks = [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules()]
        own = {key: (id(p), p.requires_grad) for key, p in module.named_parameters()}
        ntk.kernel(module, x)
        ntk.kernel(module, x, positions=2 * parameters_of(module)[None])
        after = module.state_dict()
        assert all(torch.equal(after[key], value) for key, value in before.items())
        assert torch.equal(x, points)
        assert hooks == [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules()]
        assert own == {key: (id(p), p.requires_grad) for key, p in module.named_parameters()}
        assert all(p.grad is None for p in module.parameters())


# ---------------------------------------------------------------------- batches, walkers, precision

BATCHED = ("dense", "convolutional", "attention", "embedding", "layer norm", "a layer used twice", "tied embedding")


def batched_case(name):
    if name == "dense":
        return dense((3, 6, 5, 4), "tanh"), torch.tensor(normal(7, 3))
    if name == "convolutional":
        convs = CONVOLUTIONS["two layers"]
        return convolutional(convs, 3, "relu", (5, 6)), torch.tensor(normal(7, 2, 5, 6))
    return case(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", BATCHED)
@pytest.mark.parametrize("outputs", CONVENTIONS)
@pytest.mark.parametrize("method", ["auto", "jacobian"])
def test_batched_equals_unbatched(name, outputs, method):
    module, x = batched_case(name)
    whole = ntk.kernel(module, x, outputs=outputs, method=method)
    for batch_size in (1, 3, 7, 50):
        assert_close(
            ntk.kernel(module, x, outputs=outputs, method=method, batch_size=batch_size), whole.detach(), 1e-13
        )


@pytest.mark.parametrize("name", BATCHED)
def test_gradient_in_batches(name):
    module, x = batched_case(name)
    positions = parameters_of(module)
    whole = gradient(module, x, positions, ntk.entropy)
    for batch_size in (1, 3):
        assert normwise(gradient(module, x, positions, ntk.entropy, batch_size=batch_size), whole) < 1e-9


@pytest.mark.parametrize("name", BATCHED)
@pytest.mark.parametrize("outputs", CONVENTIONS)
@pytest.mark.parametrize("method", ["auto", "jacobian"])
def test_each_walker_has_its_own_kernel(name, outputs, method):
    module, x = batched_case(name)
    own = parameters_of(module)
    positions = own + 0.3 * torch.tensor(normal(3, len(own), seed=2))
    together = ntk.kernel(module, x, outputs=outputs, positions=positions, method=method)
    assert together.shape[0] == 3
    for row, kernel in zip(positions, together, strict=True):
        alone = copy.deepcopy(module)
        nn.utils.vector_to_parameters(row, alone.parameters())
        assert_close(kernel, explicit.KERNELS[outputs](row_by_row(alone, x)))
    assert_close(ntk.kernel(module, x, outputs=outputs, positions=own[None], method=method)[0],
                 ntk.kernel(module, x, outputs=outputs, method=method).detach(), 1e-13)  # fmt: skip


@pytest.mark.parametrize(
    "name", [*BATCHED, "linear layer on tokens", "group norm", "recurrent", "a layer without effect"]
)
@pytest.mark.parametrize("outputs", CONVENTIONS)
@pytest.mark.parametrize("method", ["auto", "jacobian"])
def test_the_diagonal_alone(name, outputs, method):
    module, x = batched_case(name)
    how = {"outputs": outputs, "method": method}
    expected = ntk.kernel(module, x, **how).diagonal()
    assert_close(ntk.diagonal(module, x, **how), expected)
    assert_close(ntk.diagonal(module, x, batch_size=3, **how), expected)
    own = parameters_of(module)
    positions = torch.stack([own, 1.5 * own])
    both = ntk.kernel(module, x, positions=positions, **how).diagonal(dim1=-2, dim2=-1)
    assert_close(ntk.diagonal(module, x, positions=positions, **how), both)


@pytest.mark.parametrize("name", [*BATCHED, "linear layer on tokens", "group norm"])
def test_gradient_of_the_trace_from_the_diagonal_alone(name):
    module, x = batched_case(name)
    own = parameters_of(module)
    leaf = own[None].clone().requires_grad_()
    (found,) = torch.autograd.grad(ntk.diagonal(module, x, positions=leaf).sum(), leaf)
    assert normwise(found[0], gradient(module, x, own, ntk.trace, method="jacobian")) < 1e-9


@pytest.mark.parametrize("name", ["dense", "convolutional", "layer norm"])
def test_gradient_by_the_own_parameters_of_the_module(name):
    module, x = batched_case(name)
    assert not ntk.kernel(module, x).requires_grad
    value = ntk.entropy(ntk.kernel(module, x, create_graph=True))
    parts = torch.autograd.grad(value, list(module.parameters()), materialize_grads=True)
    found = torch.cat([part.flatten() for part in parts])
    assert normwise(found, gradient(module, x, parameters_of(module), ntk.entropy)) < 1e-11


def test_layerwise_insists_on_rules():
    for name in ("dense", "convolutional", "layer norm", "embedding"):
        module, x = batched_case(name)
        assert_close(ntk.kernel(module, x, method="layerwise"), explicit.mean_kernel(row_by_row(module, x)))
    module, x = case("one weight in two layers")
    with pytest.raises(InputError, match=r"'layerwise'.*0\.weight.*'auto'"):
        ntk.kernel(module, x, method="layerwise")


def test_frozen_parameters_are_not_among_the_positions():
    module, x = case("frozen weight")
    positions = parameters_of(module)
    assert len(positions) == 5 + 12
    assert_close(ntk.kernel(module, x, positions=positions[None])[0], explicit.mean_kernel(row_by_row(module, x)))


def test_gradients_of_walkers_do_not_mix():
    module, x = batched_case("dense")
    own = parameters_of(module)
    leaf = (own + 0.3 * torch.tensor(normal(3, len(own), seed=2))).requires_grad_()
    values = ntk.entropy(ntk.kernel(module, x, positions=leaf))
    assert values.shape == (3,)
    (together,) = torch.autograd.grad(values.sum(), leaf)
    for row, found in zip(leaf.detach(), together, strict=True):
        assert normwise(found, gradient(module, x, row, ntk.entropy)) < 1e-11


@pytest.mark.parametrize("name", BATCHED)
@pytest.mark.parametrize("outputs", CONVENTIONS)
def test_single_precision(name, outputs):
    module, x = batched_case(name)
    double = ntk.kernel(module, x, outputs=outputs)
    single = ntk.kernel(module.float(), x.float() if x.is_floating_point() else x, outputs=outputs)
    assert single.dtype == torch.float32
    assert_close(single, double.detach(), 1e-5)
    # eigenvalues err by 1e-7 of the largest, which counts where they are small themselves
    assert abs(float(ntk.entropy(single)) - float(ntk.entropy(double))) < 1e-4


# ---------------------------------------------------------------------- refusals


def plain():
    return dense((3, 5, 2), "tanh"), torch.tensor(normal(6, 3))


def refused(match, module=None, x=None, **settings):
    default = plain()
    module, x = default[0] if module is None else module, default[1] if x is None else x
    with pytest.raises(InputError, match=match):
        ntk.kernel(module, x, **settings)


def with_nan(x):
    x = x.clone()
    x[2, 0] = torch.nan
    return x


@pytest.mark.parametrize("method", ["auto", "jacobian"])
def test_refusals_of_points(method):
    refused("(?i)no points|N = 0|at least one|empty", x=torch.zeros(0, 3).double(), method=method)
    refused(r"(?i)shape.*\(4,\)|\(4,\).*shape", x=torch.zeros(5, 4).double(), method=method)
    refused("(?i)nan", x=with_nan(plain()[1]), method=method)
    refused("(?i)nan|infinite|finite", x=torch.full((3, 3), torch.inf).double(), method=method)


@pytest.mark.parametrize("method", ["auto", "jacobian"])
def test_refusals_of_modules(method):
    norm = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()
    refused("BatchNorm1d", norm, method=method)
    dropout = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.3), nn.Linear(4, 2)).double()
    refused("Dropout", dropout, method=method)
    ntk.kernel(norm.eval(), plain()[1])
    ntk.kernel(dropout.eval(), plain()[1])
    tokens_out = nn.Linear(4, 2).double()
    refused(r"(?i)outputs.*\[N, (O|C)\]", tokens_out, torch.tensor(normal(5, 3, 4)), method=method)
    flat_out = Called(lambda m, x: m["one"](x)[:, 0], one=nn.Linear(3, 2)).double()
    refused(r"(?i)\[N, (O|C)\]", flat_out, method=method)
    pair = Called(lambda m, x: (m["one"](x), x), one=nn.Linear(3, 2)).double()
    refused(r"(?i)tuple.*\[N, (O|C)\]", pair, method=method)
    frozen = plain()[0].requires_grad_(False)
    refused("(?i)no trainable parameters", frozen, method=method)
    refused("(?i)no trainable parameters", nn.Flatten(), method=method)
    mixing = Called(lambda m, x: m["one"](x - x.mean(0)), one=nn.Linear(3, 2)).double()
    refused("(?i)rest of the batch|other points", mixing, method=method)


def test_refusals_of_types():
    refused("(?i)module is a function", module=lambda x: x)
    refused("(?i)points are a ndarray", x=normal(4, 3))
    refused("(?i)points|N = 0", x=torch.tensor(3.0))
    refused(r"(?i)shape \(2, 3\)|\[N, (O|C)\]", x=torch.zeros(4, 2, 3).double())
    mixed = plain()[0]
    mixed[0].float()
    refused("(?i)types", mixed)


def test_refusals_of_settings():
    refused("batch_size = 0", batch_size=0)
    refused("batch_size = -3", batch_size=-3)
    refused("batch_size = 2.5", batch_size=2.5)
    refused("outputs = 'sum'.*'mean'", outputs="sum")
    refused("method = 'fast'.*'jacobian'", method="fast")
    refused("max_memory", max_memory=0)
    refused("max_memory", max_memory="lots")
    count = len(parameters_of(plain()[0]))
    for wrong in (torch.zeros(2, count + 1), torch.zeros(2, count - 1), torch.zeros(count), torch.zeros(2, 2, count)):
        refused(f"(?i)positions.*{count}", positions=wrong.double())


@pytest.mark.parametrize("method", ["auto", "jacobian"])
@pytest.mark.parametrize("outputs", CONVENTIONS)
def test_too_large_a_kernel_is_refused_before_any_work(method, outputs):
    calls = []
    module = nn.Sequential(nn.Linear(3, 20), nn.Tanh(), nn.Linear(20, 10)).double()
    module.register_forward_hook(lambda layer, args, output: calls.append(len(args[0])))
    x = torch.tensor(normal(600, 3))  # 600 x 600 doubles alone are 2.88e6 bytes
    with pytest.raises(InputError, match=r"(?i)max_memory") as error:
        ntk.kernel(module, x, outputs=outputs, method=method, max_memory=1e6)
    assert "byte" in str(error.value).lower() or "MB" in str(error.value)
    assert any(word in str(error.value) for word in ("fewer points", "subsample", "points="))
    assert max(calls, default=0) <= 16  # a trial of a few points at most


def test_what_is_allowed_changes_nothing():
    """Less memory means more, smaller pieces, or a refusal; never another kernel."""
    module, x = plain()
    expected, refusals = ntk.kernel(module, x), 0
    for limit in (1e3, 2e3, 5e3, 1e4, 1e5, 1e6, 1e8):
        try:
            assert_close(ntk.kernel(module, x, max_memory=limit), expected.detach(), 1e-13)
            assert_close(ntk.kernel(module, x, max_memory=limit, method="jacobian"), expected.detach())
        except InputError:
            refusals += 1
    assert refusals < 6
