"""Losses of all walkers at once against torch's own, the accuracies that go with them, and refusals."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnsim import DivergedError, Evaluation, InputError, Simulation, Trajectory, cv
from nnsim.bias import Wall
from nnsim.integrators import Adam, Langevin, MonteCarlo
from nnsim.precision import Precision
from nnsim.systems import (
    AnalyticSystem,
    BinaryCrossEntropy,
    CrossEntropy,
    LossPotential,
    MeanSquaredError,
    NeuralNetwork,
)  # fmt: skip
from nnsim.systems.modules import mlp

CPU = torch.device("cpu")
GENERATOR = torch.Generator().manual_seed(0)
N, C, W = 17, 3, 4
X = torch.randn(N, 2, generator=GENERATOR)
LABELS = torch.randint(0, C, (N,), generator=GENERATOR)
IGNORING = torch.where(torch.arange(N) % 3 == 0, -100, LABELS)
SOFT = torch.softmax(torch.randn(N, C, generator=GENERATOR, dtype=torch.float64), 1)
VALUES = torch.randn(N, C, generator=GENERATOR, dtype=torch.float64)
YES = torch.randint(0, 2, (N, C), generator=GENERATOR)
SHARES = torch.rand(N, C, generator=GENERATOR, dtype=torch.float64)
WEIGHT = torch.tensor([0.5, 2.0, 3.0])


def system(loss: Any, targets: Any, outputs: int = C, precision: str = "double", **settings: Any) -> NeuralNetwork:
    found = NeuralNetwork(lambda: mlp((2, 5, outputs), "tanh"), (X, targets), (X, targets), loss=loss, **settings)
    found.prepare(Precision.named(precision), CPU)
    return found


def positions(of: NeuralNetwork, walkers: int = W) -> Tensor:
    return torch.randn(walkers, of.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


ENTROPY, SQUARES, BINARY = nn.CrossEntropyLoss, nn.MSELoss, nn.BCEWithLogitsLoss
# What is given, targets, and how many outputs there are.
LOSSES: dict[str, tuple[Any, Tensor, int]] = {
    "cross-entropy": (ENTROPY(), LABELS, C),
    "of two classes": (ENTROPY(), LABELS % 2, 2),
    "its function": (F.cross_entropy, LABELS, C),
    "ignored": (ENTROPY(), IGNORING, C),
    "ignored class": (ENTROPY(ignore_index=1), LABELS, C),
    "weights": (ENTROPY(weight=WEIGHT), LABELS, C),
    "weights of zero": (ENTROPY(weight=torch.tensor([0.0, 0.0, 1.0])), LABELS, C),
    "smoothing": (ENTROPY(label_smoothing=0.2), LABELS, C),
    "weights, smoothing, ignored": (ENTROPY(weight=WEIGHT, label_smoothing=0.2), IGNORING, C),
    "sum": (ENTROPY(weight=WEIGHT, label_smoothing=0.2, reduction="sum"), IGNORING, C),
    "partial": (functools.partial(F.cross_entropy, weight=WEIGHT, label_smoothing=0.1), LABELS, C),
    "soft": (ENTROPY(), SOFT, C),
    "soft, weights, smoothing": (ENTROPY(weight=WEIGHT, label_smoothing=0.2), SOFT, C),
    "one-hot": (ENTROPY(label_smoothing=0.1), F.one_hot(LABELS, C).double(), C),
    "one-hot, weights": (ENTROPY(weight=WEIGHT), F.one_hot(LABELS, C).double(), C),
    "squares": (SQUARES(), VALUES, C),
    "squares, its function": (F.mse_loss, VALUES, C),
    "squares, sum": (SQUARES(reduction="sum"), VALUES, C),
    "answers": (BINARY(), YES.double(), C),
    "one answer": (BINARY(), YES[:, :1].double(), 1),
    "answers, its function": (F.binary_cross_entropy_with_logits, YES.double(), C),
    "shares": (BINARY(), SHARES, C),
    "weighted answers": (BINARY(weight=WEIGHT, pos_weight=2 * WEIGHT), YES.double(), C),
    "answers, sum": (BINARY(pos_weight=torch.tensor(3.0), reduction="sum"), YES[:, :1].double(), 1),
}


def of_torch(loss: Any, outputs: Tensor, targets: Tensor) -> Tensor:
    """Torch's value for each walker, in the type of the outputs."""
    plain = loss.to(outputs.dtype) if isinstance(loss, nn.Module) else loss
    if isinstance(loss, functools.partial):
        settings = {k: v.to(outputs.dtype) if isinstance(v, Tensor) else v for k, v in loss.keywords.items()}
        plain = functools.partial(loss.func, **settings)
    targets = targets.to(outputs.dtype) if targets.is_floating_point() else targets
    return torch.stack([plain(one, targets) for one in outputs])


@pytest.mark.parametrize("precision", ["double", "mixed"])
@pytest.mark.parametrize("case", LOSSES)
def test_values_and_gradients_are_those_of_torch(case: str, precision: str) -> None:
    loss, targets, count = LOSSES[case]
    one = system(loss, targets, count, precision)
    assert type(one._loss).__name__ != "OwnLoss"
    outputs = one.forward(positions(one), ("train",))["train"].detach().requires_grad_()
    found, expected = one.loss(outputs, "train"), of_torch(loss, outputs, targets)
    tolerance = 1e-13 if precision == "double" else 2e-6
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=0)
    factors = torch.linspace(1, 2, W, dtype=outputs.dtype)
    gradients = [torch.autograd.grad((factors * value).sum(), outputs)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", [name for name in LOSSES if "sum" not in name])
def test_a_mini_batch_has_the_mean_of_torch(case: str) -> None:
    loss, targets, count = LOSSES[case]
    one = system(loss, targets, count)
    index = torch.stack([torch.randperm(N, generator=torch.Generator().manual_seed(w))[:6] for w in range(W)])
    outputs = one.forward(positions(one), ("train",))["train"]
    expected = torch.stack([of_torch(loss, outputs[w : w + 1, index[w]], targets[index[w]])[0] for w in range(W)])
    torch.testing.assert_close(one.batch_loss(positions(one), index), expected, rtol=1e-12, atol=1e-14)


def test_a_mini_batch_of_ignored_points_has_no_loss() -> None:
    one = system(ENTROPY(), IGNORING)
    ignored = (IGNORING == -100).nonzero()[:2, 0].repeat(W, 1)
    assert one.batch_loss(positions(one), ignored).tolist() == [0.0] * W


def test_names_and_objects_are_the_same() -> None:
    for names, targets, count in (
        (("cross_entropy", CrossEntropy(), ENTROPY(), F.cross_entropy), LABELS, C),
        (("mse", MeanSquaredError(), SQUARES(), F.mse_loss), VALUES, C),
        (("bce", BinaryCrossEntropy(), BINARY(), F.binary_cross_entropy_with_logits), YES, C),
    ):
        systems = [system(one, targets, count) for one in names]
        losses = [one.loss(one.forward(positions(one), ("train",))["train"], "train") for one in systems]
        assert all(torch.equal(loss, losses[0]) for loss in losses)
        assert [one.describe()["loss"] for one in systems] == [names[0]] * 4


@pytest.mark.slow
def test_settings_are_recorded_and_compared_on_resume(tmp_path: Any) -> None:
    def run(loss: Any, **how: Any) -> None:
        simulation = Simulation(system(loss, LABELS, precision="mixed", initial="normal"), MonteCarlo(0.1))
        simulation.run(3 if how else 2, output=tmp_path / "run.zarr", progress=False, **how)

    run(ENTROPY(weight=WEIGHT, label_smoothing=0.1))
    recorded = Trajectory(tmp_path / "run.zarr").header["system"]["loss"]
    assert (recorded["type"], recorded["label_smoothing"], recorded["weight"]["shape"]) == ("CrossEntropy", 0.1, [3])
    run(CrossEntropy(weight=[0.5, 2.0, 3.0], label_smoothing=0.1, ignore_index=-100), resume=True)
    for other in (ENTROPY(weight=WEIGHT), ENTROPY(weight=2 * WEIGHT, label_smoothing=0.1), ENTROPY(), "cross_entropy"):
        with pytest.raises(InputError, match="loss"):
            run(other, resume=True)


def test_only_losses_that_native_code_knows_go_there() -> None:
    for loss, targets, native in (
        (ENTROPY(), LABELS, True),
        (SQUARES(), VALUES, True),
        (ENTROPY(), F.one_hot(LABELS, C), True),
        (ENTROPY(), IGNORING, True),
        (ENTROPY(), SOFT, True),
        (ENTROPY(label_smoothing=0.1), LABELS, True),
        ("bce", YES, True),
        (SQUARES(reduction="sum"), VALUES, True),
        (lambda outputs, targets: F.cross_entropy(outputs, targets), LABELS, False),
    ):
        assert (system(loss, targets, initial="normal").dense_network() is not None) == native


# ---------------------------------------------------------------- accuracies


def accuracies(one: NeuralNetwork, q: Tensor, slope: float = 5.0) -> tuple[Tensor, Tensor]:
    evaluation = Evaluation(one, q)
    return cv.Accuracy("train")(evaluation), cv.SmoothedAccuracy("train", slope=slope)(evaluation)


def test_ignored_points_do_not_count() -> None:
    """A classifier that is always right, on half of the points."""
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    labels = (x.sum(1) > 0).long()
    module = nn.Linear(4, 2)
    with torch.no_grad():
        module.weight.copy_(torch.stack([-torch.ones(4), torch.ones(4)]))
        module.bias.zero_()
    margin = (module(x)[:, 1] - module(x)[:, 0]).detach() * (2 * labels - 1)
    counted = torch.arange(40) % 2 == 1
    for ignored, keep in ((-100, counted), (7, counted)):
        one = NeuralNetwork(module, (x, torch.where(keep, labels, ignored)), loss=ENTROPY(ignore_index=ignored))
        exact, smooth = accuracies(one, one.initial_positions(1, torch.Generator()))
        assert exact.tolist() == [1.0]
        np.testing.assert_allclose(smooth, torch.sigmoid(5 * margin[keep]).mean(), rtol=1e-6)


@pytest.mark.parametrize("classes", [2, 3])
def test_ignored_points_of_several_classes(classes: int) -> None:
    one = system(ENTROPY(), torch.where(IGNORING >= 0, IGNORING % classes, -100), classes)
    outputs = one.forward(positions(one), ("train",))["train"]
    keep = IGNORING >= 0
    labels = IGNORING[keep] % classes
    exact, smooth = accuracies(one, positions(one))
    torch.testing.assert_close(exact, (outputs[:, keep].argmax(-1) == labels).double().mean(1))
    others = outputs[:, keep].clone()
    own = others.gather(2, labels.expand(W, -1)[..., None])[..., 0]
    others.scatter_(2, labels.expand(W, -1)[..., None], -torch.inf)
    torch.testing.assert_close(smooth, torch.sigmoid(5 * (own - others.amax(-1))).mean(1))


@pytest.mark.parametrize("outputs", [1, C])
def test_answers_are_right_where_the_logit_has_their_sign(outputs: int) -> None:
    one = system("bce", YES[:, :outputs], outputs)
    logits, sign = one.forward(positions(one), ("train",))["train"], 2 * YES[:, :outputs] - 1
    exact, smooth = accuracies(one, positions(one), slope=3.0)
    torch.testing.assert_close(exact, ((logits > 0) == (YES[:, :outputs] == 1)).double().mean((1, 2)))
    torch.testing.assert_close(smooth, torch.sigmoid(3 * sign * logits).mean((1, 2)))


@pytest.mark.slow
def test_a_smoothed_accuracy_of_answers_can_be_biased() -> None:
    one = system("bce", YES[:, 0], 1, "mixed", initial="normal")
    wall = Wall(cv.SmoothedAccuracy("train", slope=2.0), upper=0.3, strength=50.0)
    run = Simulation(one, Langevin(0.05, 1.0), bias=wall, observe=[cv.Accuracy("test")], walkers=20, every=200)
    assert run.advance(400).state.cvs.mean() < 0.45


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "targets", "outputs", "words"),
    [
        ("own", 2 * (LABELS % 2) - 1, 2, r"labels 0 ... 1, but train labels reach from -1 to 1; number the classes"),
        ("own", LABELS + 1, C, r"labels 0 ... 2, but train labels reach from 1 to 3"),
        ("own", IGNORING, C, r"reach from -100 to 2.*torch.nn.CrossEntropyLoss\(ignore_index=...\)"),
        ("own", SHARES[:, 0], 1, r"accuracy needs a classifier: two or more outputs and integer labels, or the loss"),
        (ENTROPY(), SOFT, C, r"accuracy needs one right class for each point, but train targets are probabilities"),
        ("bce", SHARES, C, r"accuracy needs targets that are 0 or 1, but some train targets lie between"),
        ("mse", VALUES, C, r"accuracy needs a classifier"),
    ],
)
def test_accuracies_without_right_answers_are_refused(loss: Any, targets: Tensor, outputs: int, words: str) -> None:
    loss = (lambda o, t: o.square().mean()) if loss == "own" else loss
    one = system(loss, targets, outputs, "mixed", initial="normal")
    for accuracy in (cv.Accuracy("train"), cv.SmoothedAccuracy("train")):
        with pytest.raises(InputError, match=words):
            Simulation(one, MonteCarlo(), observe=[accuracy])


def test_the_derivative_by_the_outputs_is_that_of_the_loss() -> None:
    for case in ("weights, smoothing, ignored", "weighted answers"):
        loss, targets, count = LOSSES[case]
        one = system(loss, targets, count, "mixed", initial="normal")
        simulation = Simulation(one, MonteCarlo(), observe=[cv.LossDerivative("train")], precision="double", walkers=2)
        evaluation = simulation.force_field.evaluate(simulation.state.positions)
        outputs = evaluation.outputs("train").detach().requires_grad_()
        (expected,) = torch.autograd.grad(of_torch(loss, outputs, targets).sum(), outputs)
        found = cv.LossDerivative("train").observe(simulation.state, evaluation)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)
    plain = system(lambda o, t: float(o.detach().sum()), LABELS, precision="mixed", initial="normal")
    with pytest.raises(InputError, match="the train loss has no derivative by the outputs"):
        Simulation(plain, MonteCarlo(), observe=[cv.LossDerivative("train")])


# ---------------------------------------------------------------- refusals


def own(function: Callable[[Tensor, Tensor], Any]) -> Any:
    return function


@pytest.mark.parametrize(
    ("loss", "targets", "outputs", "words"),
    [
        (ENTROPY, LABELS, C, r"loss is the class CrossEntropyLoss; give an object, CrossEntropyLoss\(\)"),
        (CrossEntropy, LABELS, C, r"loss is the class CrossEntropy; give an object"),
        (ENTROPY(reduction="none"), LABELS, C, r"reduction = 'none' gives a loss for each point, but one number"),
        (SQUARES(reduction="none"), VALUES, C, r"MeanSquaredError: reduction = 'none'"),
        ("mse_loss", VALUES, C, r"loss = 'mse_loss' is not known; choose one of 'cross_entropy', 'mse', 'bce'"),
        (None, VALUES, C, r"loss = None is not known"),
        (ENTROPY(weight=torch.ones(5)), LABELS, C, r"weight has 5 values, but the module has 3 outputs; give one for"),
        (BINARY(pos_weight=torch.ones(2)), YES, C, r"pos_weight has 2 values, but the module has 3 outputs"),
        (ENTROPY(), torch.full((N,), -100), C, r"all have the label -100, which is ignored"),
        (ENTROPY(), LABELS - 1, C, r"reach from -1 to 1, but the module has 3 outputs"),
        (ENTROPY(), LABELS[:, None].expand(-1, 2), C, r"must be integer labels \[N\] for cross-entropy"),
        ("cross_entropy", LABELS.double(), C, r"use loss='mse' for values, targets.long\(\) for labels that are fl"),
        (
            "cross_entropy",
            VALUES,
            C,
            r"of shape \(17, 3\) must be probabilities, at least 0 and of sum 1.*'bce' f",
        ),
        ("cross_entropy", LABELS * 0, 1, r"the cross-entropy of a single output is always 0; use loss='bce'"),
        ("bce", 2 * YES - 1, C, r"reach from -1 to 1, but must lie in 0 ... 1 for loss='bce'; give \(y \+ 1\) / 2"),
        ("bce", YES[:, 0], C, r"have shape \(17, 1\) for 3 outputs; give \[N, 3\] values"),
        (
            own(lambda o, t: F.cross_entropy(o, t, reduction="none")),
            LABELS,
            C,
            r"returns a tensor of shape \(17,\), but",
        ),
        (own(lambda o, t: None), LABELS, C, r"the loss <lambda> returns a NoneType, but one number is needed"),
        (
            own(lambda o, t: (o - t).square().mean()),
            VALUES[:, 0],
            1,
            r"compares each of 17 outputs with each of 17",
        ),
        (own(lambda o, t: ((o > 0) == t).float().mean()), YES[:, 0], 1, r"shapes \[17, 1\] and \[17\] are broadcast"),
        (nn.L1Loss(), VALUES[:, 0], 1, r"the loss L1Loss fails .*: UserWarning: Using a target size"),
        (nn.BCELoss(), YES[:, 0].float(), 1, r"the loss BCELoss fails with outputs and targets of shapes \[17, 1\] an"),
        (own(lambda o, t: F.cross_entropy(o, t.clamp_(min=1))), LABELS, C, r"changes its outputs or targets in place"),
        (own(lambda o, t: F.cross_entropy(o.sub_(o.amax()), t)), LABELS, C, r"changes its outputs or targets in pl"),
        (own(lambda o: o.mean()), LABELS, C, r"the loss <lambda> fails with .*: TypeError: "),
    ],
)
def test_losses_that_cannot_be_meant_are_refused(loss: Any, targets: Tensor, outputs: int, words: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match=words) as caught:
            system(loss, targets, outputs)
    assert "\n" not in str(caught.value)


def test_settings_out_of_range_are_refused() -> None:
    for make, words in (
        (lambda: CrossEntropy(label_smoothing=1.5), "label_smoothing = 1.5 must be at most 1"),
        (lambda: CrossEntropy(label_smoothing=-0.1), "label_smoothing = -0.1"),
        (lambda: CrossEntropy(weight=[1.0, -1.0]), "weight must be finite numbers of at least 0"),
        (lambda: CrossEntropy(weight=2.0), "weight is one number; give one for each class"),
        (lambda: CrossEntropy(ignore_index=0.5), "ignore_index = 0.5 must be a whole number"),
        (lambda: BinaryCrossEntropy(pos_weight="3"), "pos_weight = '3' must be finite numbers"),
        (lambda: MeanSquaredError(reduction="median"), "reduction = 'median' is not known"),
    ):
        with pytest.raises(InputError, match=words):
            make()


def test_an_own_loss_may_return_any_one_number() -> None:
    for function in (
        lambda o, t: F.multi_margin_loss(o, t),
        lambda o, t: F.multi_margin_loss(o, t)[None, None],
        lambda o, t: float(F.multi_margin_loss(o, t)),
        lambda o, t: F.multi_margin_loss(o, t).numpy(),
    ):
        one = system(function, LABELS)
        outputs = one.forward(positions(one), ("train",))["train"].detach()
        expected = torch.stack([F.multi_margin_loss(o, LABELS) for o in outputs])
        torch.testing.assert_close(one.loss(outputs, "train").double(), expected, rtol=1e-6, atol=0)


@pytest.mark.slow
def test_a_loss_that_is_no_mean_is_not_estimated_on_mini_batches() -> None:
    for loss, words in (
        (ENTROPY(reduction="sum"), "reduction = 'sum' would add up the points of the mini-batch only"),
        (lambda o, t: F.cross_entropy(o, t, reduction="sum"), "the loss of all points given twice is another"),
        (lambda o, t: F.cross_entropy(o, t) + o.pow(2).sum(), "so it is no mean over the points"),
    ):
        one = system(loss, LABELS, precision="mixed", initial="normal", potential=LossPotential(1.0))
        for integrator in (Adam(0.01, batch_size=5), Langevin(0.01, 1.0, batch_size=5)):
            with pytest.raises(InputError, match=rf"cannot be estimated on mini-batches: .*{words}"):
                Simulation(one, integrator)
        Simulation(one, Adam(0.01))
    mean = system(lambda o, t: F.cross_entropy(o, t, weight=WEIGHT), LABELS, precision="mixed", initial="normal")
    Simulation(mean, Adam(0.01, batch_size=5))


# ---------------------------------------------------------------- logarithms


def test_a_loss_below_zero_has_no_logarithm() -> None:
    one = system(lambda o, t: F.cross_entropy(o, t) - 50.0, LABELS, precision="mixed", initial="normal")
    for settings in ({"observe": [cv.LogLoss("test")]}, {"bias": Wall(cv.LogLoss("train"), upper=1.0)}):
        with pytest.raises(InputError, match=r"ln_loss_(train|test): the .* loss of walker \d is -4\d.*cv.Loss"):
            Simulation(one, Langevin(0.01, 1.0), **settings)  # type: ignore[arg-type]
    Simulation(one, Langevin(0.01, 1.0), observe=[cv.Loss("test")])
    function = AnalyticSystem(2, start=0.5)
    with pytest.raises(InputError, match="ln_energy: the function of walker 0 is -1"):
        Simulation(function, MonteCarlo(), observe=[cv.LogEnergy(lambda q: q[:, 0] - 1.5)])


def test_a_loss_that_falls_below_zero_stops_the_run() -> None:
    one = system(
        lambda o, t: F.cross_entropy(o, t) - 0.9, LABELS, precision="mixed", initial="normal", initial_scale=0.1
    )
    run = Simulation(one, Adam(0.1), observe=[cv.LogLoss("train")], every=1)
    with pytest.raises(DivergedError, match=r"ln_loss_train: the train loss of walker 0 is -0.* only numbers above 0"):
        run.advance(300)
    assert 1 < run.state.step < 300


def test_a_loss_of_zero_counts_as_the_smallest_number() -> None:
    one = system(lambda o, t: F.relu(o.mean() - 1e6), LABELS)
    value = cv.LogLoss("train")(Evaluation(one, positions(one)))
    torch.testing.assert_close(value, torch.full_like(value, torch.finfo(torch.float64).tiny).log())
