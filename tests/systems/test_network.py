"""Networks as systems: ways to evaluate walkers, losses, starts, refusals, and the CVs made of outputs."""

import copy
import logging
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nnsim import Box, Evaluation, ForceField, InputError, Simulation, cv
from nnsim.integrators import Langevin
from nnsim.networks.layout import Layout
from nnsim.precision import Precision
from nnsim.systems import AnalyticSystem, GaussianPrior, LossPotential, NeuralNetwork
from nnsim.systems.forward import BatchedDense, LoopForward, VmapForward, choose_kind
from nnsim.systems.modules import mlp
from nnsim.systems.potentials import potential_terms

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def seeded():
    """Modules draw their values from torch's global generator."""
    torch.manual_seed(0)


def points(number, *shape, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(size=(number, *shape)))


def labels(number, classes, seed=0):
    return torch.tensor(np.random.default_rng(seed).integers(0, classes, number))


def classifier(module=None, width=2, classes=3, number=10, **settings):
    module = mlp((width, 5, classes), "tanh") if module is None else module
    train, test = ((points(n, width, seed=n), labels(n, classes, seed=n)) for n in (number, number + 3))
    return NeuralNetwork(module, train, test, **settings)


def doubled(system):
    system.prepare(Precision.named("double"), CPU)
    return system


def scattered(system, walkers=4):
    own = system.initial_positions(walkers, torch.Generator().manual_seed(1))
    return own + 0.3 * points(*own.shape, seed=9)


def plain_loop(module, system, positions, x):
    """Outputs by writing each walker's values into a copy of the module: no torch.func."""
    outputs, targets = [], [dict(module.named_parameters())[name] for name in system.parameters]
    for row in positions:
        with torch.no_grad():
            for target, part in zip(targets, row.split([t.numel() for t in targets]), strict=True):
                target.copy_(part.view_as(target))
        module.zero_grad()
        y = module(x)
        y.square().sum().backward()
        grads = [torch.zeros_like(t) if t.grad is None else t.grad for t in targets]
        outputs.append((y.detach(), torch.cat([g.flatten() for g in grads])))
    return tuple(torch.stack(column) for column in zip(*outputs, strict=True))


def outputs_and_gradient(system, positions, split="train"):
    leaf = positions.clone().requires_grad_()
    outputs = Evaluation(system, leaf).outputs(split)
    (gradient,) = torch.autograd.grad(outputs.square().sum(), leaf)
    return outputs.detach(), gradient


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.memory, self.head = kind(2, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.memory(x)[0][:, -1])


class Branching(nn.Module):
    """The path depends on the values of the parameters, which vmap cannot follow."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 3)

    def forward(self, x):
        return torch.tanh(self.layer(x)) if self.layer.weight.sum() > 0 else 2 * self.layer(x)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other, self.head = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 3)
        self.other.weight = self.one.weight

    def forward(self, x):
        return self.head(torch.tanh(self.other(torch.tanh(self.one(x)))))


def convolution():
    return nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 3))


def normed():
    return nn.Sequential(nn.Linear(2, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 3))


def frozen_first_layer():
    module = mlp((2, 5, 3), "tanh")
    module[0].requires_grad_(False)
    return module


def batchnorm_at_rest():
    module = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3))
    for _ in range(3):
        module(torch.randn(20, 2))
    return module.eval()


ZOO = {
    "dense": (lambda: mlp((2, 5, 4, 3), "tanh"), (2,), BatchedDense),
    "dense without bias": (
        lambda: nn.Sequential(nn.Linear(2, 4, bias=False), nn.SiLU(), nn.Linear(4, 3)),
        (2,),
        BatchedDense,
    ),
    "flatten and dense": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.GELU(), nn.Linear(4, 3)),
        (2, 3),
        BatchedDense,
    ),
    "convolution": (convolution, (1, 4, 4), VmapForward),
    "layer norm": (normed, (2,), VmapForward),
    "tied": (Tied, (2,), VmapForward),
    "frozen layer": (frozen_first_layer, (2,), VmapForward),
    "batch norm after eval": (batchnorm_at_rest, (2,), VmapForward),
    "lstm": (lambda: Recurrent(nn.LSTM), (5, 2), LoopForward),
    "gru": (lambda: Recurrent(nn.GRU), (5, 2), LoopForward),
    "branch": (Branching, (2,), LoopForward),
}


@pytest.mark.parametrize("case", ZOO)
def test_automatic_choice_gives_the_outputs_and_gradients_of_a_plain_loop(case):
    make, shape, expected = ZOO[case]
    module = make()
    system = doubled(NeuralNetwork(module, (points(7, *shape), labels(7, 3))))
    assert type(system._forward.whole) is expected
    positions = scattered(system)
    outputs, gradient = outputs_and_gradient(system, positions)
    reference, slope = plain_loop(module.double(), system, positions, points(7, *shape))
    assert outputs.shape == (4, 7, 3)
    np.testing.assert_allclose(outputs, reference, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(gradient, slope, rtol=1e-11, atol=1e-11)
    assert gradient.abs().max() > 0.1


@pytest.mark.parametrize("case", ["dense", "convolution", "layer norm", "tied", "frozen layer"])
def test_every_way_gives_the_same(case):
    make, shape, best = ZOO[case]
    ways = ["vmap", "loop", "auto"] + (["batched"] if best is BatchedDense else [])
    module, results = make(), []
    for way in ways:
        system = doubled(NeuralNetwork(module, (points(7, *shape), labels(7, 3)), walkers=way))
        results.append(outputs_and_gradient(system, scattered(system)))
    for outputs, gradient in results[1:]:
        np.testing.assert_allclose(outputs, results[0][0], rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(gradient, results[0][1], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda: mlp((2, 5, 3)), "batched", "walkers are evaluated together, by batched matrix products"),
        (normed, "vmap", "walkers are vectorised with torch.func.vmap"),
        (Branching, "loop", "walkers are evaluated one after the other: torch.func.vmap cannot follow this module ("),
    ],
)
def test_the_way_is_announced_once_and_recorded(caplog, make, kind, words):
    with caplog.at_level(logging.INFO, logger="nnsim"):
        system = NeuralNetwork(make(), (points(7, 2), labels(7, 3)))
        doubled(system)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(words)
    assert system.kind == system.describe()["walkers"] == kind


@pytest.mark.parametrize("make", [lambda: Recurrent(nn.LSTM), lambda: Recurrent(nn.GRU)])
def test_vmap_refuses_what_it_cannot_do(make):
    with pytest.raises(InputError, match=r"walkers = 'vmap', but torch.func.vmap cannot .*; use 'auto' or 'loop'$"):
        NeuralNetwork(make(), (points(7, 5, 2), labels(7, 3)), walkers="vmap")


class Complaining(nn.Linear):
    def forward(self, x):
        warnings.warn("this layer is slow", stacklevel=1)
        return super().forward(x)


def test_trying_vmap_warns_of_nothing():
    module = Complaining(2, 3)
    x = points(7, 2).float()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layout = Layout({name: tuple(p.shape) for name, p in module.named_parameters()})
        assert choose_kind(module, copy.deepcopy(module), layout, x, "auto") == "vmap"


def test_batched_refuses_what_it_cannot_do():
    with pytest.raises(InputError, match=r"walkers = 'batched' needs a Sequential"):
        classifier(normed(), walkers="batched")


def test_hooks_are_not_skipped():
    """A hook changes what a layer does: the batched products, which do not call layers, must not be used."""
    module = mlp((2, 5, 3), "tanh")
    module[0].register_forward_hook(lambda layer, inputs, output: 2 * output)
    system = doubled(NeuralNetwork(module, (points(7, 2), labels(7, 3))))
    positions = scattered(system)
    reference, _ = plain_loop(module.double(), system, positions, points(7, 2))
    np.testing.assert_allclose(Evaluation(system, positions).outputs("train"), reference, rtol=1e-12, atol=1e-13)


def test_parameter_names_shapes_and_sizes():
    system = classifier()
    assert dict(system.parameters) == {"0.weight": (5, 2), "0.bias": (5,), "2.weight": (3, 5), "2.bias": (3,)}
    assert system.size == 33
    assert list(classifier(frozen_first_layer()).parameters) == ["2.weight", "2.bias"]
    tied = classifier(Tied())
    assert list(tied.parameters) == ["one.weight", "one.bias", "other.bias", "head.weight", "head.bias"]
    assert tied.size == 4 + 2 + 2 + 6 + 3


def test_splits_in_one_pass_or_alone():
    system = doubled(classifier())
    positions = scattered(system)
    both = system.forward(positions, ("test", "train"))
    for split, number in (("train", 10), ("test", 13)):
        assert both[split].shape == (4, number, 3)
        np.testing.assert_allclose(both[split], system.forward(positions, (split,))[split], rtol=1e-13)


class Doubling(nn.Module):
    def forward(self, x):
        return 2 * x


@pytest.mark.parametrize("middle", [nn.Tanh, Doubling])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64, torch.bool])
def test_integer_points_become_floats(middle, dtype):
    """Raw images, for example."""
    x = torch.randint(0, 256, (9, 3), generator=torch.Generator().manual_seed(0)).to(dtype)
    module, y = nn.Sequential(nn.Linear(3, 5), middle(), nn.Linear(5, 3)), labels(9, 3)
    systems = [doubled(NeuralNetwork(module, (points, y), (points[:4], y[:4]))) for points in (x, x.double())]
    outputs = [system.forward(scattered(systems[0]), ("train", "test")) for system in systems]
    for split in ("train", "test"):
        assert torch.equal(outputs[0][split], outputs[1][split])


def test_integers_stay_where_the_module_takes_them():
    module = nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(12, 3))
    x = torch.randint(0, 7, (9, 3), generator=torch.Generator().manual_seed(0))
    system = NeuralNetwork(module, (x, labels(9, 3)))
    assert system._points["train"].dtype == torch.int64
    with pytest.raises(InputError, match=r"cannot evaluate test points of shape \(3,\)"):
        NeuralNetwork(module, (x, labels(9, 3)), (x.double(), labels(9, 3)))
    with pytest.raises(InputError, match=r"cannot evaluate int64 train points of shape \(3,\): index out of range"):
        NeuralNetwork(module, (x + 7, labels(9, 3)))


@pytest.mark.parametrize("initial", ["normal", "uniform", "reinitialise"])
def test_parameters_that_no_walker_starts_with_need_not_be_finite(initial):
    system = classifier(spoiled(mlp((2, 5, 3), "tanh"), "0.weight"), initial=initial, box=Box(1.0))
    assert torch.isfinite(start(system)).all()


def test_a_copy_is_prepared_without_touching_the_original():
    """Two simulations of different precision may share a system: each prepares a copy of its own."""
    box = Box(5.0)
    for original in (doubled(classifier(potential=LossPotential(1.0), box=box)), AnalyticSystem(3, box=box)):
        original.prepare(Precision.named("double"), CPU)
        before = dict(vars(original))
        positions = points(2, 3 if isinstance(original, AnalyticSystem) else original.size)
        energy = original.energy(Evaluation(original, positions))
        other = copy.copy(original)
        other.prepare(Precision.named("single"), CPU)
        assert other.box.lower.dtype == torch.float32
        assert original.box.lower.dtype == box.lower.dtype == torch.float64
        assert all(vars(original)[name] is value for name, value in before.items())
        if energy is not None:
            assert other.forward(positions, ("train",))["train"].dtype == torch.float32
            assert torch.equal(original.energy(Evaluation(original, positions)), energy)


def test_the_users_module_is_left_alone():
    module = batchnorm_at_rest()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    system = classifier(module, potential=LossPotential(1.0))
    Simulation(system, Langevin(0.01, 1.0), walkers=2).advance(5)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


# ---------------------------------------------------------------- losses


def test_cross_entropy_is_torchs():
    system = doubled(classifier())
    evaluation = Evaluation(system, scattered(system))
    for split in ("train", "test"):
        outputs, targets = evaluation.outputs(split), evaluation.targets(split)
        expected = [float(F.cross_entropy(row, targets)) for row in outputs]
        np.testing.assert_allclose(evaluation.loss(split), expected, rtol=1e-13)


@pytest.mark.parametrize(("outputs", "shape"), [(1, (10,)), (1, (10, 1)), (3, (10, 3))])
def test_mse_is_torchs(outputs, shape):
    y = points(*shape, seed=4)
    system = doubled(NeuralNetwork(mlp((2, 4, outputs)), (points(10, 2), y), loss="mse"))
    evaluation = Evaluation(system, scattered(system))
    expected = [float(F.mse_loss(row, y.reshape(10, outputs))) for row in evaluation.outputs("train")]
    np.testing.assert_allclose(evaluation.loss("train"), expected, rtol=1e-13)


def test_a_callable_loss():
    system = doubled(classifier(loss=lambda outputs, targets: F.multi_margin_loss(outputs, targets)))
    evaluation = Evaluation(system, scattered(system))
    expected = [float(F.multi_margin_loss(row, evaluation.targets("train"))) for row in evaluation.outputs("train")]
    np.testing.assert_allclose(evaluation.loss("train"), expected, rtol=1e-13)
    builtin, own = (
        doubled(classifier(loss=loss, potential=LossPotential(2.0))) for loss in ("cross_entropy", F.cross_entropy)
    )
    positions = scattered(builtin)
    np.testing.assert_allclose(
        ForceField(builtin)(positions, 0).forces, ForceField(own)(positions, 0).forces, rtol=1e-11, atol=1e-13
    )


def test_potentials():
    system = doubled(classifier())
    positions = scattered(system)
    evaluation = Evaluation(system, positions)
    loss, prior = evaluation.loss("train"), positions.square().sum(1) / (2 * 0.5**2)
    np.testing.assert_allclose(LossPotential(3.0)(evaluation), 3 * loss, rtol=1e-14)
    np.testing.assert_allclose(GaussianPrior(0.5)(evaluation), prior, rtol=1e-14)
    joint = LossPotential(3.0) + GaussianPrior(0.5) + LossPotential(1.0)
    np.testing.assert_allclose(joint(evaluation), 4 * loss + prior, rtol=1e-14)
    own = classifier(potential=lambda evaluation: evaluation.positions.sum(-1))
    forces = ForceField(own)(positions, 0).forces
    assert torch.equal(forces, -torch.ones_like(positions))
    for bad in (lambda: LossPotential(-1.0), lambda: GaussianPrior(0.0)):
        with pytest.raises(InputError):
            bad()


def test_sums_of_potentials():
    system = doubled(classifier())
    evaluation = Evaluation(system, scattered(system))
    loss, prior = LossPotential(2.0), GaussianPrior(0.5)
    expected = loss(evaluation) + prior(evaluation)

    def own(evaluation):
        return evaluation.positions.sum(-1)

    for total in (loss + prior, prior + loss, sum([loss, prior])):
        assert set(total.parts) == {loss, prior}
        assert potential_terms(total) == (2.0, 2.0)
        np.testing.assert_allclose(total(evaluation), expected, rtol=1e-14)
    assert sum([loss]) is loss
    for total in (own + loss + prior, loss + (own + prior), (loss + prior) + own):
        assert set(total.parts) == {loss, prior, own}
        np.testing.assert_allclose(total(evaluation), expected + own(evaluation), rtol=1e-14)
        assert potential_terms(total) is None
    for bad in (lambda: loss + 1.0, lambda: 1.0 + loss, lambda: loss + "prior", lambda: loss + GaussianPrior):
        with pytest.raises(InputError, match=r"cannot be added to a potential; add potentials or functions"):
            bad()


# ---------------------------------------------------------------- refusals


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 3)

    def forward(self, x):
        return self.layer(x) + 0.1 * torch.randn(len(x), 3)


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 3)

    def forward(self, x):
        return self.layer(x), x


def spoiled(module, name):
    module.state_dict()[name].view(-1)[0] = torch.nan
    return module


class Centred(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 3)

    def forward(self, x):
        y = self.layer(x)
        return y - y.mean(0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)),
            r"layer '1' \(BatchNorm1d\) makes outputs depend on the rest of the batch; call module.eval\(\) first",
        ),
        (
            lambda: nn.Sequential(
                nn.Linear(2, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 3)
            ).eval(),
            r"BatchNorm1d\) makes outputs depend on the rest of the batch",
        ),
        (
            lambda: nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.3), nn.Linear(4, 3)),
            r"layer '1' \(Dropout\) makes outputs random; call module.eval\(\) first",
        ),
        (Noisy, r"two calls with the same input differ.*remove the randomness"),
        (Centred, r"the output of a point depends on the rest of the batch"),
        (lambda: nn.Flatten(0), r"no trainable parameters"),
        (lambda: mlp((2, 3)).requires_grad_(False), r"no trainable parameters; set requires_grad=True"),
        (lambda: mlp((5, 3)), r"cannot evaluate train points of shape \(2,\): mat1"),
        (lambda: nn.Sequential(nn.Linear(2, 3), nn.Flatten(0)), r"must return \[N, C\]"),
        (lambda: torch.jit.script(mlp((2, 3))), r"compiled by TorchScript.*as it was before torch.jit.script"),
        (lambda: nn.Sequential(nn.LazyLinear(3)), r"parameter '0.weight' is not initialised.*call the module once"),
        (lambda: Pair(), r"the module returns a tuple; it must return a tensor \[N, C\]"),
        (lambda: spoiled(mlp((2, 4, 3)), "2.bias"), r"1 of 3 values of the parameter '2.bias' are NaN.*'reinitialise'"),
        (
            lambda: spoiled(frozen_first_layer(), "0.bias"),
            r"1 of 5 values of the parameter '0.bias' .*repair the module$",
        ),
        (lambda: spoiled(batchnorm_at_rest(), "1.running_mean"), r"outputs .* are NaN \(its buffer '1.running_mean'"),
        (lambda: len, r"module is a builtin_function_or_method; give a torch.nn.Module"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_unfit_modules_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        classifier(make())


def test_dropout_is_accepted_when_off():
    assert classifier(nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.3), nn.Linear(4, 3)).eval()).size == 27
    assert classifier(nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.0), nn.Linear(4, 3))).size == 27


def test_the_trial_leaves_torchs_generator_alone():
    module = Noisy()
    state = torch.random.get_rng_state()
    with pytest.raises(InputError):
        classifier(module)
    assert torch.equal(torch.random.get_rng_state(), state)


def with_value(tensor, value):
    tensor = tensor.clone()
    tensor[3] = value
    return tensor


X, Y = points(10, 2), labels(10, 3)


@pytest.mark.parametrize(
    ("train", "settings", "message"),
    [
        ((with_value(X, torch.nan), Y), {}, r"2 train points are NaN or infinite; clean the data"),
        ((with_value(X, torch.inf), Y), {}, r"2 train points are NaN or infinite"),
        ((X, with_value(Y, 3)), {}, r"train targets reach from 0 to 3, but the module has 3 outputs: .* 0 ... 2"),
        ((X, with_value(Y, -1)), {}, r"train targets reach from -1 to 2"),
        ((X, Y.double()), {}, r"train targets must be integer labels \[N\] for cross-entropy; use loss='mse'"),
        ((X, torch.stack([Y, Y], dim=1)), {}, r"integer labels \[N\]"),
        ((X, Y[:7]), {}, r"train has \(10, 2\) points and \(7,\) targets; lengths must agree"),
        ((X[:0], Y[:0]), {}, r"train is empty; give at least one point with its target"),
        ((X, 1), {}, r"train targets have shape \(\) and type torch.int64; give real numbers, one row for each"),
        ((X + 0j, Y), {}, r"train points have shape \(10, 2\) and type torch.complex128; give real numbers"),
        ((np.array(X.tolist(), dtype=object), Y), {}, r"train points cannot be turned into a tensor .*; convert them"),
        ((X, np.array(["cat", "dog"] * 5)), {}, r"train targets cannot be turned .*; number the classes 0 ... C-1"),
        ((X, Y), {"test": (X, ["cat", "dog"] * 5)}, r"test targets cannot be turned"),
        (X, {}, r"train must be a pair"),
        (
            (X, Y),
            {"test": (points(4, 3), labels(4, 3))},
            r"train and test points have different shapes, \(2,\) and \(3,\)",
        ),
        ((X, Y), {"test": (X, with_value(Y, 7))}, r"test targets reach from 0 to 7"),
        ((X, Y), {"test": (with_value(X, torch.nan), Y)}, r"2 test points are NaN"),
        ((X, X), {"loss": "mse"}, r"train targets have shape \(10, 2\) for 3 outputs; give \[N, 3\] values"),
        ((X, with_value(points(10, 3), torch.nan)), {"loss": "mse"}, r"3 train targets are NaN"),
        ((X, Y), {"loss": "hinge"}, r"choose one of 'cross_entropy', 'mse'"),
        ((X, Y), {"initial": "zeros"}, r"initial = 'zeros' is not known"),
        ((X, Y), {"initial_scale": 0.0}, r"initial_scale = 0"),
        ((X, Y), {"walkers": "many"}, r"walkers = 'many' is not known"),
        ((X, Y), {"box": Box(torch.ones(5))}, r"5 limits for 33 parameters"),
    ],
)
def test_bad_data_and_settings_are_refused(train, settings, message):
    with pytest.raises(InputError, match=message):
        NeuralNetwork(mlp((2, 5, 3), "tanh"), train, **settings)


def test_a_missing_split_is_named():
    system = NeuralNetwork(mlp((2, 5, 3)), (X, Y))
    evaluation = Evaluation(system, system.initial_positions(1, torch.Generator()))
    for ask in (evaluation.outputs, evaluation.targets, evaluation.loss):
        with pytest.raises(InputError, match=r"there is no 'test' split; give test=\(points, targets\)"):
            ask("test")


# ---------------------------------------------------------------- starts


def start(system, walkers=5, seed=0):
    return system.initial_positions(walkers, torch.Generator().manual_seed(seed))


def test_start_at_the_modules_own_values():
    module = mlp((2, 5, 3), "tanh")
    positions = start(classifier(module))
    own = torch.cat([p.detach().flatten() for p in module.parameters()]).double()
    assert positions.dtype == torch.float64
    assert torch.equal(positions, own.expand(5, -1))


def test_own_values_outside_the_box_are_refused():
    with pytest.raises(
        InputError, match=r"the module's own values reach .*, outside the Box\(reflecting, \[-0.01, 0.01\]\)"
    ):
        start(classifier(box=Box(0.01)))


@pytest.mark.parametrize("initial", ["normal", "uniform", "reinitialise"])
def test_random_starts_differ_between_walkers_and_are_reproducible(initial):
    system = classifier(initial=initial, box=Box(2.0))
    state = torch.random.get_rng_state()
    positions = start(system)
    assert torch.equal(torch.random.get_rng_state(), state)  # torch's global generator is nobody's business
    assert positions.dtype == torch.float64
    assert len(torch.unique(positions, dim=0)) == 5
    assert torch.equal(positions, start(system))
    assert not torch.equal(positions, start(system, seed=1))
    torch.manual_seed(99)
    assert torch.equal(positions, start(system))
    assert bool(system.box.contains(positions).all())


def test_normal_start_has_the_scale_and_is_folded_into_the_box():
    walkers, n = 300, 33
    wide = start(classifier(initial="normal", initial_scale=0.7), walkers)
    # variance of 300 x 33 normal numbers: relative standard error sqrt(2 / 9900) = 1.4 %
    assert float(wide.square().mean()) == pytest.approx(0.49, rel=5 * (2 / (walkers * n)) ** 0.5)
    folded = start(classifier(initial="normal", initial_scale=0.7, box=Box(0.5)), walkers)
    assert folded.abs().max() <= 0.5
    inside = wide.abs() <= 0.5
    assert torch.equal(folded[inside], wide[inside])
    once = (wide.abs() > 0.5) & (wide.abs() <= 1.5)
    np.testing.assert_allclose(folded[once], (torch.sign(wide) * (1 - wide.abs()))[once], atol=1e-15)


def test_reinitialise_resets_every_layer_as_torch_does():
    positions = start(classifier(initial="reinitialise"), 400)
    first = positions[:, :10]  # Linear(2, 5): uniform in +-1 / sqrt(2), variance 1/6
    assert first.abs().max() <= 2**-0.5
    # fourth moment of a uniform number is a^4 / 5: the variance of its square is 4/45 a^4
    assert float(first.square().mean()) == pytest.approx(1 / 6, abs=5 * (4 / 45 / 4 / first.numel()) ** 0.5)


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


def test_reinitialise_resets_attention_as_torch_does():
    """`MultiheadAttention` sets some values of a layer it is made of: its biases start at zero."""
    system = NeuralNetwork(Attending(), (points(7, 5, 4), labels(7, 3)), initial="reinitialise")
    tensors = system._layout.split(start(system, 300))
    assert not tensors["attention.in_proj_bias"].any()
    assert not tensors["attention.out_proj.bias"].any()
    weights = tensors["attention.in_proj_weight"]
    assert float(weights.std()) == pytest.approx(np.sqrt(2 / (4 + 12)), rel=5 / np.sqrt(2 * weights.numel()))
    assert len(weights.unique(dim=0)) == 300


def test_reinitialise_needs_reset_parameters():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, 3))

        def forward(self, x):
            return x @ self.weight

    with pytest.raises(InputError, match=r"\(Own\) has no reset_parameters; give it one"):
        start(classifier(Own(), initial="reinitialise"))


# ---------------------------------------------------------------- precision


@pytest.mark.parametrize(
    ("name", "state", "network"),
    [
        ("single", torch.float32, torch.float32),
        ("mixed", torch.float64, torch.float32),
        ("double", torch.float64, torch.float64),
    ],
)
def test_precision_modes(name, state, network):
    system = classifier(potential=LossPotential(1.0), box=Box(5.0))
    simulation = Simulation(system, Langevin(0.01, 1.0), walkers=2, precision=name).advance(3)
    assert simulation.state.positions.dtype == simulation.state.velocities.dtype == state
    assert simulation.state.forces.dtype == state
    assert simulation.state.energy.dtype == torch.float64
    assert Evaluation(simulation.system, simulation.state.positions).outputs("train").dtype == network
    assert system.module[0].weight.dtype == torch.float32  # the user's own is not converted


def test_unknown_precision_is_refused():
    with pytest.raises(InputError, match=r"precision = 'half' is not known; choose one of 'single', 'mixed', 'double'"):
        Simulation(classifier(), Langevin(0.01, 1.0), precision="half")


# ---------------------------------------------------------------- collective variables


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_cvs_of_outputs_against_a_plain_loop(classes):
    system = doubled(classifier(classes=classes, module=mlp((2, 5, classes), "tanh")))
    evaluation = Evaluation(system, scattered(system, 6))
    for split in ("train", "test"):
        outputs, y = evaluation.outputs(split).numpy(), evaluation.targets(split).numpy()
        smooth, hard = np.zeros(6), np.zeros(6)
        for w in range(6):
            for point, label in zip(outputs[w], y, strict=True):
                others = np.delete(point, label)
                smooth[w] += 1 / (1 + np.exp(-4.0 * (point[label] - others.max()))) / len(y)
                hard[w] += (np.argmax(point) == label) / len(y)
        assert len(set(hard)) > 1
        np.testing.assert_allclose(cv.Accuracy(split)(evaluation), hard, rtol=1e-13)
        np.testing.assert_allclose(cv.SmoothedAccuracy(split, 4.0)(evaluation), smooth, rtol=1e-12)
        np.testing.assert_allclose(cv.SmoothedAccuracy(split, 4.0, scale=10.0)(evaluation), 10 * smooth, rtol=1e-12)
        inner = 1e-4 + (1 - 2e-4) * smooth
        logit = cv.SmoothedAccuracy(split, 4.0, "logit", 3.0)
        np.testing.assert_allclose(logit(evaluation), 3 * np.log(inner / (1 - inner)), rtol=1e-11)
        np.testing.assert_allclose(logit.accuracy(logit(evaluation)), smooth, rtol=1e-11)
        loss = system.loss(evaluation.outputs(split), split)
        np.testing.assert_allclose(cv.Loss(split)(evaluation), loss, rtol=1e-14)
        np.testing.assert_allclose(cv.LogLoss(split)(evaluation), loss.log(), rtol=1e-13)


def test_smoothed_accuracy_tends_to_the_accuracy_as_the_slope_grows():
    system = doubled(classifier())
    evaluation = Evaluation(system, scattered(system, 6))
    np.testing.assert_allclose(cv.SmoothedAccuracy("test", 1e6)(evaluation), cv.Accuracy("test")(evaluation), atol=1e-6)


def test_a_tie_counts_as_wrong():
    system = doubled(classifier())
    assert cv.Accuracy("train")(Evaluation(system, torch.zeros(2, 33, dtype=torch.float64))).tolist() == [0.0, 0.0]


def test_log_loss_of_a_loss_that_rounds_to_zero_is_finite_and_forceless():
    x, y = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    system = NeuralNetwork(nn.Sequential(nn.Linear(2, 2, bias=False)), (x, y))
    positions = torch.tensor([[1e4, -1e4, -1e4, 1e4]], dtype=torch.float64, requires_grad=True)
    value = cv.LogLoss("train")(Evaluation(system, positions))
    assert value.item() == pytest.approx(-87.3, abs=0.1)
    (gradient,) = torch.autograd.grad(value.sum(), positions)
    assert (gradient == 0).all()


def test_cvs_of_parameters():
    system = doubled(classifier())
    positions = scattered(system)
    evaluation = Evaluation(system, positions)
    q = positions.numpy()
    np.testing.assert_allclose(cv.WeightNorm()(evaluation), np.sqrt((q**2).sum(1)), rtol=1e-14)
    np.testing.assert_allclose(cv.Distance(0.5)(evaluation), np.sqrt(((q - 0.5) ** 2).sum(1)), rtol=1e-14)
    np.testing.assert_allclose(cv.Distance(positions[1])(evaluation), np.sqrt(((q - q[1]) ** 2).sum(1)), rtol=1e-13)
    np.testing.assert_allclose(cv.Parameter(4)(evaluation), q[:, 4])


def test_names_of_cvs():
    assert cv.Loss().name == "loss_train"
    assert cv.LogLoss("test").name == "ln_loss_test"
    assert cv.Accuracy().name == "accuracy_test"
    assert cv.SmoothedAccuracy("test", 5.0, "logit", 10.0).name == "10x_logit_smoothed_accuracy_test"
    assert not cv.Accuracy().differentiable
    assert cv.SmoothedAccuracy().differentiable


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cv.Loss("validation"), r"Loss: split = 'validation' is not known; choose one of 'train', 'test'"),
        (lambda: cv.LogLoss("validation"), r"LogLoss: split"),
        (lambda: cv.Accuracy("validation"), r"Accuracy: split"),
        (lambda: cv.SmoothedAccuracy(slope=0.0), r"slope = 0 must be"),
        (lambda: cv.SmoothedAccuracy(scale=-1.0), r"scale = -1 must be"),
        (lambda: cv.SmoothedAccuracy(coordinate="log"), r"coordinate = 'log'"),
        (lambda: cv.Distance(torch.ones(2, 2)), r"reference = .* must be finite"),
        (lambda: cv.Distance(float("nan")), r"reference = .* must be finite"),
        (lambda: cv.Parameter(-1), r"index = -1"),
    ],
)
def test_bad_cvs_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_cvs_that_do_not_fit_the_system_are_refused():
    regression = NeuralNetwork(mlp((2, 4, 1)), (points(10, 2), points(10)), loss="mse")
    evaluation = Evaluation(regression, start(regression))
    with pytest.raises(InputError, match=r"accuracy needs a classifier"):
        cv.Accuracy("train")(evaluation)
    with pytest.raises(InputError, match=r"the reference has 3 values for 17 parameters"):
        cv.Distance(torch.ones(3))(evaluation)
    with pytest.raises(InputError, match=r"index = 17 must be below the number of parameters, 17"):
        cv.Parameter(17)(evaluation)


def test_one_training_point_is_enough():
    for module, shape in ((mlp((2, 5, 3)), (2,)), (Recurrent(nn.LSTM), (5, 2)), (convolution(), (1, 4, 4))):
        system = NeuralNetwork(module, (points(1, *shape), labels(1, 3)))
        assert Evaluation(system, start(system)).outputs("train").shape == (5, 1, 3)
