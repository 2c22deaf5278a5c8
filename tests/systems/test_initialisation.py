"""Starts by name: laws of every layer's weights, what counts as weights, the NTK parametrisation, refusals."""

import copy
import math

import numpy as np
import pytest
import torch
from command_line import arrays_of
from scipy import stats
from torch import nn

from nnsim import Box, Evaluation, ForceField, InputError, Simulation, cv
from nnsim.integrators import Adam
from nnsim.networks.scaled import ScaledConv2d, ScaledLinear, fans, ntk_parametrised
from nnsim.precision import Precision
from nnsim.systems import LossPotential, NeuralNetwork
from nnsim.systems.initialisation import CUT_DEVIATION, SCHEMES, initial_values, starts
from nnsim.systems.modules import ChannelNorm, mlp

VARIANCES = {
    "lecun_normal": lambda fan_in, fan_out: 1 / fan_in,
    "lecun_truncated": lambda fan_in, fan_out: 1 / fan_in,
    "he_normal": lambda fan_in, fan_out: 2 / fan_in,
    "he_uniform": lambda fan_in, fan_out: 2 / fan_in,
    "glorot_normal": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "glorot_uniform": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "ntk": lambda fan_in, fan_out: 1.0,
}


def law(scheme):
    """The distribution of variance 1 that the values are multiples of."""
    if scheme.endswith("uniform"):
        return stats.uniform(-math.sqrt(3), 2 * math.sqrt(3))
    if scheme.endswith("truncated"):
        return stats.truncnorm(-2, 2, scale=1 / stats.truncnorm.std(-2, 2))
    return stats.norm()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def convolutional():
    """Images [N, 4, 6, 6] to outputs [N, 3]."""
    return nn.Sequential(
        nn.Conv2d(4, 6, 3, groups=2, stride=2, padding=1, padding_mode="circular"),
        nn.Tanh(),
        nn.Conv2d(6, 8, 2, bias=False, dilation=2),
        nn.Flatten(),
        nn.Linear(8, 5),
        nn.Tanh(),
        nn.Linear(5, 3),
    )


# As fans of the layers above: in / groups x kernel, out x kernel.
FANS = {"0.weight": (18, 54), "2.weight": (24, 32), "4.weight": (8, 5), "6.weight": (5, 3)}


def system_of(module, shape, classes=3, number=7, **settings):
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.normal(size=(number, *shape)))
    return NeuralNetwork(module, (x, torch.tensor(rng.integers(0, classes, number))), **settings)


def start(system, walkers=5, seed=0):
    return system.initial_positions(walkers, seeded(seed))


def tensors(module, scheme, walkers, seed=0):
    shapes = {name: tuple(p.shape) for name, p in module.named_parameters() if p.requires_grad}
    values = initial_values(module, shapes, scheme, walkers, seeded(seed))
    sizes = [math.prod(shape) for shape in shapes.values()]
    parts = values.split(sizes, dim=1)
    return {name: part.view(walkers, *shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


# ---------------------------------------------------------------- the law of the weights


@pytest.mark.parametrize("scheme", SCHEMES)
def test_mean_variance_and_distribution_of_every_layer(scheme):
    """500 walkers, 7500 to 96000 numbers for each layer; 5 standard errors each, and a Kolmogorov-Smirnov test."""
    system = system_of(convolutional(), (4, 6, 6), initial=scheme)
    positions = start(system, 500)
    assert positions.dtype == torch.float64
    distribution = law(scheme)
    kurtosis = float(distribution.stats("k")) + 3
    for name, values in system._layout.split(positions).items():
        if name.endswith("bias"):
            assert not values.any()
            continue
        variance, values = VARIANCES[scheme](*FANS[name]), values.flatten().numpy()
        assert values.mean() == pytest.approx(0, abs=5 * math.sqrt(variance / values.size))
        # the variance of a square is (kurtosis - 1) sigma^4
        assert (values**2).mean() == pytest.approx(variance, rel=5 * math.sqrt((kurtosis - 1) / values.size))
        assert stats.kstest(values / math.sqrt(variance), distribution.cdf).pvalue > 1e-5


def test_the_kurtoses_are_those_of_the_laws():
    """Normal 3, uniform 9/5, and cut at 2: the moments by parts, m2 = 1 - 4 f / Z and m4 = 3 m2 - 16 f / Z."""
    ratio = stats.norm.pdf(2) / math.erf(math.sqrt(2))
    m2 = 1 - 4 * ratio
    assert math.sqrt(m2) == pytest.approx(CUT_DEVIATION, rel=1e-15)
    expected = {"lecun_normal": 3, "he_uniform": 9 / 5, "lecun_truncated": (3 * m2 - 16 * ratio) / m2**2}
    for scheme, kurtosis in expected.items():
        assert float(law(scheme).stats("k")) + 3 == pytest.approx(kurtosis, rel=1e-9)


def test_bounded_laws_stay_in_their_bounds():
    """Out of 150000 numbers the largest comes within 0.1 % of the bound, and none goes beyond it."""
    module = nn.Linear(10, 30)
    for scheme, bound in (
        ("lecun_truncated", 2 / CUT_DEVIATION / math.sqrt(10)),
        ("he_uniform", math.sqrt(6 / 10)),
        ("glorot_uniform", math.sqrt(6 / 40)),
    ):
        largest = float(tensors(module, scheme, 500)["weight"].abs().max())
        assert 0.999 * bound < largest <= bound * (1 + 1e-15)


def test_uniform_bounds_are_those_of_torch():
    """torch.nn.init draws from the same intervals: its largest of 100000 numbers, to 0.1 %."""
    weight = torch.empty(200, 500, dtype=torch.float64)
    for scheme, fill in (
        ("he_uniform", lambda w, g: nn.init.kaiming_uniform_(w, nonlinearity="relu", generator=g)),
        ("glorot_uniform", lambda w, g: nn.init.xavier_uniform_(w, generator=g)),
    ):
        theirs = float(fill(weight, seeded(1)).abs().max())
        assert float(tensors(nn.Linear(500, 200), scheme, 1)["weight"].abs().max()) == pytest.approx(theirs, rel=1e-3)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(7, 5),
        nn.Conv1d(4, 6, 3),
        nn.Conv2d(4, 6, 3),
        nn.Conv2d(4, 6, (3, 2), groups=2),
        nn.Conv2d(6, 6, 5, groups=6),
        nn.Conv3d(2, 3, (1, 2, 3)),
    ],
    ids=str,
)
def test_fans_are_those_of_torch(layer):
    assert fans(tuple(layer.weight.shape)) == nn.init._calculate_fan_in_and_fan_out(layer.weight)


# ---------------------------------------------------------------- draws


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_generator_alone_decides(scheme):
    system = system_of(mlp((2, 5, 4, 3)), (2,), initial=scheme)
    state = torch.random.get_rng_state()
    positions = start(system)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(positions, start(system))
    assert not torch.equal(positions, start(system, seed=1))
    generator = seeded()
    first, second = (system.initial_positions(5, generator) for _ in range(2))
    assert torch.equal(first, positions)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_walkers_and_layers_are_independent(scheme):
    """Correlations over 2500 numbers lie within 5 / sqrt(2500) of zero: between walkers, and between two layers."""
    values = tensors(mlp((50, 50, 50)), scheme, 4)
    rows = torch.cat([values["0.weight"].flatten(1), values["2.weight"].flatten(1)])
    correlations = torch.corrcoef(rows) - torch.eye(8)
    assert float(correlations.abs().max()) < 5 / math.sqrt(2500)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_starts_outside_the_box_are_mirrored_back(scheme):
    wide, narrow = (system_of(mlp((4, 9, 3)), (4,), initial=scheme, box=box) for box in (None, Box(0.3)))
    free, boxed = start(wide, 50), start(narrow, 50)
    assert float(boxed.abs().max()) <= 0.3
    inside = free.abs() <= 0.3
    assert torch.equal(boxed[inside], free[inside])
    once = (free.abs() > 0.3) & (free.abs() <= 0.9)
    assert bool(once.any())
    np.testing.assert_allclose(boxed[once], (free.sign() * (0.6 - free.abs()))[once], atol=1e-15)


# ---------------------------------------------------------------- what counts as weights


class Mixed(nn.Module):
    """Every kind of parameter that has a rule."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(6, 8, padding_idx=2)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.memory = nn.LSTM(8, 4, batch_first=True, bidirectional=True)
        self.norms = nn.ModuleList([nn.LayerNorm(8), nn.GroupNorm(2, 8), nn.BatchNorm1d(8), ChannelNorm(8)])
        self.twice = nn.Bilinear(8, 8, 3)


def test_parameters_that_are_not_of_linear_layers():
    """400 walkers: 5 standard errors of the variance of normal numbers, sigma^2 sqrt(2 / n)."""
    module = Mixed()
    values = tensors(module, "glorot_normal", 400)
    assert list(values) == [name for name, _ in module.named_parameters()]
    for name, value in values.items():
        if name.startswith("norms"):
            assert bool((value == (1.0 if name.endswith("weight") else 0.0)).all()), name
        elif "bias" in name:
            assert not value.any(), name
    assert not values["words.weight"][:, 2].any()
    expected = {
        "attention.in_proj_weight": 2 / (8 + 8),  # three matrices of 8 x 8
        "attention.out_proj.weight": 2 / (8 + 8),
        "memory.weight_ih_l0": 2 / (8 + 16),
        "memory.weight_hh_l0_reverse": 2 / (4 + 16),
        "twice.weight": 2 / (8 * 8 + 3 * 8),
    }
    found = {name: values[name] for name in expected} | {"words": values["words.weight"][:, [0, 1, 3, 4, 5]]}
    for name, variance in (expected | {"words": 1.0}).items():
        assert float(found[name].square().mean()) == pytest.approx(
            variance, rel=5 * math.sqrt(2 / found[name].numel())
        ), name


def test_frozen_parameters_are_not_drawn():
    module = mlp((2, 4, 3))
    module[0].requires_grad_(False)
    assert list(tensors(module, "he_normal", 2)) == ["2.weight", "2.bias"]


def test_shared_tensors_are_drawn_once():
    one = nn.Linear(3, 3)
    module = nn.Sequential(one, nn.Tanh(), one, nn.Linear(3, 2))
    system = system_of(module, (3,), classes=2, initial="lecun_normal")
    assert list(system.parameters) == ["0.weight", "0.bias", "3.weight", "3.bias"]
    assert start(system).shape == (5, 9 + 3 + 6 + 2)


class Scaling(nn.Module):
    """A bare parameter."""

    def __init__(self):
        super().__init__()
        self.layer, self.factor = nn.Linear(2, 3), nn.Parameter(torch.ones(3))

    def forward(self, x):
        return self.factor * self.layer(x)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (
            Scaling(),
            r"'lecun_normal' has no rule for the parameter 'factor' of shape \(3,\) \(Scaling\); use initial='r",
        ),
        (nn.Sequential(nn.Linear(2, 3), nn.PReLU()), r"no rule for the parameter '1.weight' of shape \(1,\) \(PReLU\)"),
    ],
)
def test_parameters_without_a_rule_are_refused(module, words):
    with pytest.raises(InputError, match=words):
        system_of(module, (2,), initial="lecun_normal")
    system_of(module, (2,), initial="module")


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"initial = 'lecun' is not known; choose one of .*'lecun_normal'.*'ntk'"):
        system_of(mlp((2, 3)), (2,), initial="lecun")


# ---------------------------------------------------------------- the NTK parametrisation


CASES = {
    "dense": (lambda: mlp((6, 5, 4, 3), "tanh"), (6,)),
    "convolutional": (convolutional, (4, 6, 6)),
    "norms": (lambda: nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.SiLU(), nn.Linear(4, 3)), (6,)),
    "linear": (lambda: nn.Linear(6, 3), (6,)),
}


def pair(case):
    """The same network plain with LeCun's start, and in the NTK parametrisation; both in double precision."""
    make, shape = CASES[case]
    module = make()
    systems = [system_of(module, shape, initial=name, potential=LossPotential(1.0)) for name in ("lecun_normal", "ntk")]
    for system in systems:
        system.prepare(Precision.named("double"), torch.device("cpu"))
    return systems


def scales_of(system):
    """The scales of the weights by their names."""
    layers = dict(system.module.named_modules())
    scales = {f"{name}.weight".removeprefix("."): getattr(layer, "input_scale", None) for name, layer in layers.items()}
    return {name: scale for name, scale in scales.items() if scale is not None}


@pytest.mark.parametrize("case", CASES)
def test_ntk_starts_with_the_functions_of_lecun(case):
    """The same numbers are drawn: W here is W sqrt(fan_in) there, and the outputs are equal, so their laws are too."""
    plain, scaled = pair(case)
    assert plain.parameters == scaled.parameters
    scales = scales_of(scaled)
    assert scales
    here, there = start(plain), start(scaled)
    ours, theirs = plain._layout.split(here), scaled._layout.split(there)
    for name, values in theirs.items():
        scale = scales.get(name, 1.0)
        np.testing.assert_allclose(ours[name], values * scale, rtol=1e-15)
    outputs = [Evaluation(system, positions).outputs("train") for system, positions in ((plain, here), (scaled, there))]
    assert float(outputs[0].abs().max()) > 0.1
    np.testing.assert_allclose(*outputs, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("case", CASES)
def test_ntk_gradients_are_those_of_the_plain_network_by_the_chain_rule(case):
    plain, scaled = pair(case)
    scales = scales_of(scaled)
    forces = [system._layout.split(ForceField(system)(start(system), 0).forces) for system in (plain, scaled)]
    for name, force in forces[1].items():
        scale = scales.get(name, 1.0)
        np.testing.assert_allclose(force, scale * forces[0][name], rtol=1e-11, atol=1e-13)
        assert force.any()


@pytest.mark.parametrize("case", CASES)
def test_the_module_that_was_given_stays_as_it_was(case):
    make, shape = CASES[case]
    module = make()
    before, words = copy.deepcopy(module.state_dict()), str(module)
    system = system_of(module, shape, initial="ntk")
    assert str(module) == words
    assert all(torch.equal(values, module.state_dict()[name]) for name, values in before.items())
    assert list(system.module.state_dict()) == list(before)
    assert all(torch.equal(values, system.module.state_dict()[name]) for name, values in before.items())
    assert {type(layer) for layer in system.module.modules()}.isdisjoint({nn.Linear, nn.Conv2d})


def test_scaled_layers_are_plain_ones_on_scaled_inputs():
    x, images = torch.randn(5, 6, generator=seeded()), torch.randn(2, 4, 6, 6, generator=seeded())
    for layer, points in (
        (ScaledLinear(6, 3, input_scale=0.7), x),
        (ScaledConv2d(4, 6, 3, groups=2, padding=1, padding_mode="reflect", input_scale=0.7), images),
    ):
        plain = copy.deepcopy(layer)
        plain.__class__ = type(layer).__base__
        assert torch.equal(layer(points), plain(0.7 * points))
        assert str(layer).endswith("input_scale=0.7)")
    assert ScaledLinear(16, 3).input_scale == 0.25
    assert ScaledConv2d(8, 6, 2, groups=2).input_scale == 0.25


def test_converted_layers_keep_hooks_and_what_they_share():
    one = nn.Linear(4, 4)
    one.register_forward_hook(lambda layer, inputs, output: 2 * output)
    scaled = ntk_parametrised(nn.Sequential(one, one))
    assert scaled[0] is scaled[1]
    x = torch.randn(3, 4, generator=seeded())
    assert torch.equal(scaled[0](x), 2 * nn.functional.linear(0.5 * x, one.weight, one.bias))
    again = ntk_parametrised(scaled)
    assert again[0].input_scale == 0.5
    assert torch.equal(again(x), scaled(x))


def test_layers_with_frozen_weights_stay_plain():
    """Their weights are not drawn anew, so that a scale would change what they do."""
    module = mlp((4, 5, 3))
    module[0].weight.requires_grad_(False)
    scaled = ntk_parametrised(module)
    assert [type(layer) for layer in scaled] == [nn.Linear, nn.ReLU, ScaledLinear]


class Own(nn.Linear):
    pass


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.Sequential(nn.Flatten(0, 1), nn.Conv1d(2, 3, 1)), r"layer '1' \(Conv1d\) has no NTK parametrisation"),
        (nn.Sequential(nn.Linear(2, 2), Own(2, 3)), r"layer '1' \(Own\) .*choose initial='lecun_normal'"),
        (Own(2, 3), r"NeuralNetwork: layer 'module' \(Own\)"),
        (Mixed(), r"layer 'attention' \(MultiheadAttention\)"),
        (Scaling(), r"layer 'module' \(Scaling\)"),
    ],
)
def test_ntk_refuses_layers_that_it_does_not_know(module, words):
    with pytest.raises(InputError, match=words):
        system_of(module, (2,), initial="ntk")


def test_the_record_tells_the_start_and_the_scales():
    plain, scaled = (system_of(mlp((4, 5, 3)), (4,), initial=name).describe() for name in ("lecun_normal", "ntk"))
    assert plain["initial"] == ["lecun_normal", 1.0]
    assert scaled["initial"] == ["ntk", 1.0]
    assert "ScaledLinear(in_features=4, out_features=5, bias=True, input_scale=0.5)" in scaled["module"]
    assert plain["parameters"] == scaled["parameters"]


@pytest.mark.slow
def test_a_run_from_ntk_resumes_to_the_same_bits(tmp_path):
    def simulation(initial="ntk"):
        system = system_of(convolutional(), (4, 6, 6), initial=initial)
        return Simulation(system, Adam(0.01, batch_size=3), observe=[cv.Loss("train")], walkers=2, every=3, seed=4)

    whole = simulation().run(20, output=tmp_path / "whole.zarr", progress=False)
    simulation().run(9, output=tmp_path / "parts.zarr", progress=False)
    with pytest.raises(InputError, match="ScaledConv2d"):
        simulation("lecun_normal").run(20, output=tmp_path / "parts.zarr", resume=True, progress=False)
    parts = simulation().run(20, output=tmp_path / "parts.zarr", resume=True, progress=False)
    assert torch.equal(whole.state.positions, parts.state.positions)
    assert arrays_of(tmp_path / "whole.zarr") == arrays_of(tmp_path / "parts.zarr")


def test_rules_say_how_each_tensor_starts():
    rules = starts(mlp((8, 3)), ["0.weight", "0.bias"], "he_uniform")
    assert (rules["0.weight"].deviation, rules["0.weight"].kind) == (0.5, "uniform")
    assert (rules["0.bias"].mean, rules["0.bias"].deviation) == (0.0, 0.0)
