"""Gradient descent and Adam: the updates of torch.optim, mini-batches, schedules, resume, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from command_line import arrays_of

from nnsim import Box, InputError, Simulation, cv
from nnsim.bias import Wall
from nnsim.describe import describe
from nnsim.integrators import Adam, CosineDecay, GradientDescent, Langevin, StepDecay
from nnsim.running.script import Script
from nnsim.systems import AnalyticSystem, Harmonic, LossPotential, NeuralNetwork, spiral_classification
from nnsim.systems.modules import mlp

EXAMPLE = Path(__file__).parents[2] / "examples" / "spiral_training.py"
SETTINGS: list[dict[str, Any]] = [{}, {"weight_decay": 1e-2}]
GRADIENT_DESCENT = [
    *SETTINGS,
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.8, "nesterov": True, "weight_decay": 1e-2},
]
ADAM = [*SETTINGS, {"betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 1e-3}, {"betas": (0.0, 0.9)}]


def network(initial: str = "module", **settings: Any) -> NeuralNetwork:
    torch.manual_seed(0)
    box = settings.pop("box", Box(kind="open"))
    return spiral_classification((5, 4), points_per_class=10, box=box, initial=initial, **settings)


def trained(system: NeuralNetwork, make: Any, steps: int, schedule: Any = None) -> torch.Tensor:
    """Parameters after training the module itself with an optimiser of torch, in double precision, full batch."""
    module = Simulation(system, GradientDescent(1.0), precision="double").system._module  # type: ignore[attr-defined]
    (x, y), optimiser = system.data("train"), make(module.parameters())
    rates = schedule(optimiser) if schedule else None
    for _ in range(steps):
        optimiser.zero_grad()
        F.cross_entropy(module(x.double()), y).backward()
        optimiser.step()
        if rates:
            rates.step()
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def assert_same_as_torch(integrator: Any, make: Any, schedule: Any = None) -> None:
    """200 steps of one walker, in double precision, to 1e-12."""
    system = network()
    simulation = Simulation(system, integrator, precision="double").advance(200)
    expected = trained(system, make, 200, schedule)
    start = system.initial_positions(1, torch.Generator())[0]
    assert (expected - start).abs().max() > 0.05  # it has gone somewhere
    assert torch.allclose(simulation.state.positions[0], expected, rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("settings", GRADIENT_DESCENT, ids=str)
def test_gradient_descent_is_that_of_torch(settings):
    assert_same_as_torch(GradientDescent(0.05, **settings), lambda p: torch.optim.SGD(p, 0.05, **settings))


@pytest.mark.parametrize("settings", ADAM, ids=str)
def test_adam_is_that_of_torch(settings):
    assert_same_as_torch(Adam(0.01, **settings), lambda p: torch.optim.Adam(p, 0.01, **settings))


def test_schedules_are_those_of_torch():
    rates = torch.optim.lr_scheduler
    assert_same_as_torch(
        GradientDescent(0.1, momentum=0.9, schedule=StepDecay(30, 0.7)),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
        lambda optimiser: rates.StepLR(optimiser, 30, 0.7),
    )
    assert_same_as_torch(
        Adam(0.01, schedule=CosineDecay(200, final=0.1)),
        lambda p: torch.optim.Adam(p, 0.01),
        lambda optimiser: rates.CosineAnnealingLR(optimiser, 200, eta_min=1e-3),
    )


def test_mini_batches_are_those_of_torch_on_the_same_points():
    system = network()
    simulation = Simulation(system, GradientDescent(0.05, momentum=0.9, batch_size=6), precision="double")
    module, (x, y) = simulation.system._module, system.data("train")
    optimiser = torch.optim.SGD(module.parameters(), 0.05, momentum=0.9)
    for step in range(30):
        index = simulation.integrator._batch_of(simulation.state)[0]  # type: ignore[attr-defined]
        assert len(index) == (6, 6, 6, 2)[step % 4]  # the last batch is smaller
        optimiser.zero_grad()
        F.cross_entropy(module(x.double()[index]), y[index]).backward()
        optimiser.step()
        simulation.advance(1)
    expected = torch.cat([p.detach().flatten() for p in module.parameters()])
    assert torch.allclose(simulation.state.positions[0], expected, rtol=0, atol=1e-12)


def test_an_epoch_visits_every_point_once_in_an_order_of_its_own_for_each_walker():
    simulation = Simulation(network(), GradientDescent(0.01, batch_size=8), walkers=3)
    epochs = []
    for _ in range(3):
        visited = []
        for _ in range(3):  # 20 points: 8, 8 and 4
            visited.append(simulation.integrator._batch_of(simulation.state))  # type: ignore[attr-defined]
            simulation.advance(1)
        epochs.append(torch.cat(visited, dim=1))
        assert torch.equal(epochs[-1].sort(dim=1).values, torch.arange(20).expand(3, -1))
    orders = torch.cat(epochs).tolist()
    assert len({tuple(order) for order in orders}) == 9


@pytest.mark.parametrize("how", ["batched", "vmap", "loop"])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "own"])
def test_batch_loss_is_the_loss_of_the_points(how, loss):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(9, 3, generator=generator)
    y = torch.randint(2, (9,), generator=generator) if loss == "cross_entropy" else torch.randn(9, 2)
    own = {"own": lambda outputs, targets: (outputs - targets).abs().mean()}
    system = NeuralNetwork(mlp((3, 4, 2), "tanh"), (x, y), loss=own.get(loss, loss), initial="normal", walkers=how)
    positions = system.initial_positions(3, generator)
    index = torch.stack([torch.randperm(9, generator=generator)[:4] for _ in range(3)])
    found = system.batch_loss(positions, index)
    outputs = system.forward(positions, ("train",))["train"]
    for w in range(3):
        alone = NeuralNetwork(mlp((3, 4, 2), "tanh"), (x[index[w]], y[index[w]]), loss=own.get(loss, loss))
        assert torch.allclose(found[w], alone.loss(outputs[w : w + 1, index[w]], "train")[0], rtol=1e-5)


def test_walkers_are_independent_runs():
    together = Simulation(network("reinitialise"), Adam(0.01), walkers=4, precision="double")
    start = together.state.positions.clone()
    together.advance(50)
    system = network("reinitialise")
    system.initial_positions = lambda walkers, generator: start[2:3].clone()  # type: ignore[method-assign]
    alone = Simulation(system, Adam(0.01), precision="double").advance(50)
    assert torch.allclose(together.state.positions[2], alone.state.positions[0], rtol=0, atol=1e-12)


def test_the_state_belongs_to_its_positions():
    system = network("reinitialise", potential=LossPotential(3.0))
    for integrator in (GradientDescent(0.1), GradientDescent(0.1, batch_size=20)):  # a batch of all points
        simulation = Simulation(system, integrator, walkers=2, precision="double").advance(7)
        state = simulation.state
        reference = Simulation(system, Langevin(0.1, 1.0), walkers=2, precision="double").force_field(
            state.positions, 0
        )
        assert torch.allclose(state.energy, reference.energy)  # U = 3 L
        assert torch.allclose(3 * state.forces, reference.forces)
        assert state.cvs.shape == (2, 0)


def test_the_loss_falls_and_is_recorded():
    observed = [cv.LogLoss("train"), cv.Accuracy("test")]
    simulation = Simulation(network("reinitialise"), Adam(0.01), observe=observed, walkers=5, every=50).advance(1000)
    loss = simulation.history["ln_loss_train"]
    assert loss.shape == (20, 5)
    assert (loss[-1] < loss[0] - 0.3).all()
    assert "kinetic_temperature" not in simulation.history.names


@pytest.mark.parametrize("integrator", [GradientDescent(0.5, momentum=0.9), Adam(0.05, batch_size=7)])
def test_confine_keeps_the_parameters_in_the_box(integrator):
    box = Box(0.6)
    free = Simulation(network("uniform", box=box), integrator, walkers=3).advance(200)
    assert not box.contains(free.state.positions).all()  # by default there is no box
    integrator.confine = True
    kept = Simulation(network("uniform", box=box), integrator, walkers=3).advance(200)
    assert box.contains(kept.state.positions).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda: GradientDescent(0.05, momentum=0.9, batch_size=6, schedule=StepDecay(10)),
        lambda: Adam(0.01, batch_size=7, schedule=CosineDecay(100)),
        lambda: Adam(0.01),
    ],
)
def test_resume_gives_the_same_bits(make, tmp_path):
    def simulation() -> Simulation:
        return Simulation(
            network("reinitialise"), make(), observe=[cv.Loss("train")], walkers=3, every=3, velocities_every=5
        )

    whole = simulation().run(46, output=tmp_path / "whole.zarr", progress=False)
    simulation().run(22, output=tmp_path / "parts.zarr", progress=False)  # in the middle of an epoch
    parts = simulation().run(46, output=tmp_path / "parts.zarr", resume=True, progress=False)
    for name, value in whole.state.state_dict()["integrator_state"].items():
        assert torch.equal(value, parts.state.integrator_state[name])
    assert torch.equal(whole.state.positions, parts.state.positions)
    assert arrays_of(tmp_path / "whole.zarr") == arrays_of(tmp_path / "parts.zarr")


def test_another_schedule_is_not_resumed(tmp_path):
    path = tmp_path / "run.zarr"
    Simulation(network(), Adam(schedule=StepDecay(10))).run(5, output=path, progress=False)
    with pytest.raises(InputError, match=r"integrator.schedule.every: 10 -> 20"):
        Simulation(network(), Adam(schedule=StepDecay(20))).run(9, output=path, resume=True, progress=False)
    assert describe(Adam(schedule=CosineDecay(5)))["schedule"] == {"type": "CosineDecay", "steps": 5, "final": 0.0}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GradientDescent(-0.1), "learning_rate = -0.1 must be a finite number above 0"),
        (lambda: GradientDescent(0.0), "learning_rate"),
        (lambda: GradientDescent(0.1, momentum=1.0), "momentum = 1 must be below 1"),
        (lambda: GradientDescent(0.1, momentum=-0.1), "momentum = -0.1"),
        (lambda: GradientDescent(0.1, nesterov=True), "needs momentum above 0"),
        (lambda: GradientDescent(0.1, weight_decay=-1), "weight_decay"),
        (lambda: GradientDescent(0.1, batch_size=0), "batch_size = 0 must be a whole number of at least 1"),
        (lambda: GradientDescent(0.1, batch_size=2.5), "batch_size"),
        (lambda: GradientDescent(0.1, schedule=0.5), "schedule = 0.5 must be a function of the step"),
        (lambda: Adam(float("nan")), "learning_rate"),
        (lambda: Adam(betas=(0.9, 1.0)), r"betas\[1\] = 1 must be below 1"),
        (lambda: Adam(betas=(-0.1, 0.9)), r"betas\[0\]"),
        (lambda: Adam(betas=0.9), "two numbers"),
        (lambda: Adam(eps=0.0), "eps"),
        (lambda: StepDecay(0), "every"),
        (lambda: StepDecay(5, factor=-1.0), "factor"),
        (lambda: CosineDecay(0), "steps"),
        (lambda: CosineDecay(5, final=-1.0), "final"),
    ],
)
def test_wrong_numbers_are_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(InputError, match=r"training has no bias.*wall.*observe"):
        Simulation(network(), GradientDescent(0.1), bias=Wall(cv.LogLoss("train"), upper=1.0))
    with pytest.raises(InputError, match="batch_size = 21 must be at most the number of train points, 20"):
        Simulation(network(), GradientDescent(0.1, batch_size=21))
    with pytest.raises(InputError, match="the system's is open"):
        Simulation(network(), Adam(confine=True))
    with pytest.raises(InputError, match="has no data, so no train loss"):
        Simulation(AnalyticSystem(3, Harmonic(), start=0.0), Adam())


def test_the_example(tmp_path):
    script = Script(EXAMPLE)
    simulation = script.simulation(script.settings(["runs=4", "every=10"]))
    assert simulation.steps == 30_000
    simulation.run(40, output=tmp_path / "sgd.zarr", progress=False)
    assert simulation.system.box.kind == "open"
    batches = script.simulation(script.settings(["runs=2", "batch_size=8", "momentum=0.9"])).advance(12)
    assert batches.state.step == 12
