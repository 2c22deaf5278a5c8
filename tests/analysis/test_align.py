"""Renaming of hidden neurons: found exactly where it was only that, never for the worse, and refused where unknown."""

import itertools
import time

import numpy as np
import pytest
import torch
from torch import nn

from nnsim.analysis import align, rename_neurons, rmsd
from nnsim.analysis.renaming.align import chain_of
from nnsim.errors import InputError

MNIST = {
    "0.weight": (100, 784), "0.bias": (100,), "2.weight": (100, 100), "2.bias": (100,), "4.weight": (10, 100),
    "4.bias": (10,),
}  # fmt: skip
SMALL = {"0.weight": (4, 3), "0.bias": (4,), "2.weight": (3, 4), "2.bias": (3,), "4.weight": (2, 3)}


def size(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(int(np.prod(shape)) for shape in shapes.values())


@pytest.mark.parametrize("signs", [True, False])
def test_a_renamed_network_is_found_exactly_and_fast(signs):
    rng = np.random.default_rng(0)
    reference, chain = rng.standard_normal(size(MNIST)), chain_of("test", MNIST)
    names = chain.random(rng, signs)
    given = rename_neurons(reference, MNIST, names.permutations, names.signs, check=False)
    align(given[:8], given[:8], {"0.weight": (2, 3), "1.weight": (1, 2)})  # imports scipy
    start = time.process_time()
    found = align(given, reference, MNIST, signs=signs, check=not signs)  # names do not tell odd activations
    assert time.process_time() - start < 2
    assert (found.positions == reference).all()
    for before, after, old, new in zip(names.permutations, found.permutations, names.signs, found.signs, strict=True):
        assert (before[after] == np.arange(100)).all()
        assert (old[after] * new == 1).all()
    assert found.rmsd == 0
    assert 1.3 < found.rmsd_before < 1.5  # sqrt(2)


def test_noise_does_not_hide_the_names():
    rng = np.random.default_rng(1)
    reference, chain = rng.standard_normal(size(MNIST)), chain_of("test", MNIST)
    moved = reference + 0.3 * rng.standard_normal(reference.shape)
    names = chain.random(rng)
    found = align(chain.rename(moved, names), reference, MNIST, signs=True, check=False)
    assert (found.positions == moved).all()
    assert found.rmsd == pytest.approx(0.3, rel=0.02)  # of 89610 numbers: 5 standard errors are 0.012 of it


@pytest.mark.parametrize("activation", [nn.Tanh(), nn.ReLU()])
def test_a_renamed_network_computes_the_same(activation):
    module = nn.Sequential(nn.Linear(3, 5), activation, nn.Linear(5, 4), activation, nn.Linear(4, 2)).double()
    shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
    flat, odd = nn.utils.parameters_to_vector(module.parameters()).detach().numpy(), isinstance(activation, nn.Tanh)
    names = chain_of("test", shapes).random(np.random.default_rng(2), signs=odd)
    x = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before = module(x)
    renamed = rename_neurons(flat, shapes, names.permutations, names.signs, module=module, points=x)
    assert not np.allclose(renamed, flat)
    nn.utils.vector_to_parameters(torch.from_numpy(renamed), module.parameters())
    assert torch.allclose(module(x), before, rtol=1e-12, atol=1e-12)


def test_convolutions_and_their_flattened_channels():
    module = nn.Sequential(
        nn.Conv2d(2, 6, 3), nn.Tanh(), nn.Conv2d(6, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(16, 5), nn.Tanh(),
        nn.Linear(5, 3),
    ).double()  # fmt: skip
    shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
    chain = chain_of("test", shapes)
    assert chain.hidden == (6, 4, 5)
    flat = nn.utils.parameters_to_vector(module.parameters()).detach().numpy()
    names = chain.random(np.random.default_rng(3))
    renamed = chain.rename(flat, names)
    x = torch.randn(3, 2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before = module(x)
    nn.utils.vector_to_parameters(torch.from_numpy(renamed), module.parameters())
    assert torch.allclose(module(x), before, rtol=1e-12, atol=1e-12)
    for proof in ({"module": module}, {"module": module, "points": x}, {"check": False}):
        assert (align(renamed, flat, shapes, signs=True, **proof).positions == flat).all()


@pytest.mark.slow
def test_unrelated_networks_come_as_close_as_any_names_bring_them():
    rng = np.random.default_rng(4)
    for _ in range(5):
        q, reference = rng.standard_normal((2, size(SMALL)))
        chain = chain_of("test", SMALL)
        distances = []
        for one, two in itertools.product(itertools.permutations(range(4)), itertools.permutations(range(3))):
            names = chain.identity().replaced(0, np.array(one), np.ones(4)).replaced(1, np.array(two), np.ones(3))
            distances.append(np.sqrt(((chain.rename(q, names) - reference) ** 2).mean()))
        assert align(q, reference, SMALL, starts=16).rmsd == pytest.approx(min(distances), rel=1e-12)


def test_frames_of_walkers_each_with_its_own_reference():
    rng = np.random.default_rng(5)
    reference, chain = rng.standard_normal((2, size(SMALL))), chain_of("test", SMALL)
    frames = np.array([[chain.rename(one, chain.random(rng)) for one in reference] for _ in range(3)])
    known = {"signs": True, "check": False}
    found = align(frames, reference, SMALL, **known)
    assert (found.positions == reference).all()
    assert found.rmsd.shape == found.rmsd_before.shape == (3, 2)
    assert [p.shape for p in found.permutations] == [s.shape for s in found.signs] == [(3, 2, 4), (3, 2, 3)]
    assert (rmsd(frames, reference, align=True, parameters=SMALL, **known).values == 0).all()
    # half of the difference is names, half is real
    moved = frames + 0.01 * rng.standard_normal(frames.shape)
    close = rmsd(moved, reference, align=True, parameters=SMALL, by_layer=True, **known)
    far = rmsd(moved, reference, parameters=SMALL)
    assert (close.values < 0.02).all()
    assert (far.values > 0.3).all()
    assert list(close.layers) == ["0", "2", "4"]
    sizes = {"0": 16, "2": 15, "4": 6}
    total = sum(sizes[name] * values**2 for name, values in close.layers.items()) / size(SMALL)
    assert np.allclose(np.sqrt(total), close.values, rtol=1e-12)


def test_never_further_away_and_the_same_twice():
    rng = np.random.default_rng(6)
    q, reference = rng.standard_normal((2, 10, size(SMALL)))
    one, two = (align(q, reference, SMALL, signs=True, seed=7, check=False) for _ in range(2))
    assert (one.rmsd <= one.rmsd_before).all()
    assert (one.positions == two.positions).all()
    plain = align(q, reference, SMALL)
    assert all((s == 1).all() for s in plain.signs)
    assert (np.sort(plain.permutations[0], axis=-1) == np.arange(4)).all()


def test_bad_input_is_refused_by_name():
    q = np.zeros(size(SMALL))
    with pytest.raises(InputError, match="parameters make 37 numbers, but the positions have 5"):
        align(np.zeros(5), np.zeros(5), SMALL)
    with pytest.raises(InputError, match=r"reference of shape \(5,\)"):
        align(q, np.zeros(5), SMALL)
    with pytest.raises(InputError, match="starts = 0"):
        align(q, q, SMALL, starts=0)
    with pytest.raises(InputError, match="must be finite"):
        align(q * np.nan, q, SMALL)
    with pytest.raises(InputError, match="must be names and shapes"):
        align(q, q, None)
    with pytest.raises(InputError, match="must be names and shapes"):
        rmsd(q.reshape(1, 1, -1), align=True)
    with pytest.raises(InputError, match="no hidden neurons"):
        align(np.zeros(6), np.zeros(6), {"0.weight": (2, 3)})
    with pytest.raises(InputError, match=r"parameter 1.weight of shape \[4\]: neither"):  # a normalisation
        align(np.zeros(16), np.zeros(16), {"0.weight": (4, 3), "1.weight": (4,)})
    with pytest.raises(InputError, match="inputs are not the 4 outputs"):
        align(np.zeros(22), np.zeros(22), {"0.weight": (4, 3), "1.weight": (2, 5)})
    with pytest.raises(InputError, match="inputs are not the 4 outputs"):  # 8 inputs are no flattened channels here
        align(np.zeros(28), np.zeros(28), {"0.weight": (4, 3), "1.weight": (2, 8)})
    with pytest.raises(InputError, match="one of each hidden layer"):
        rename_neurons(q, SMALL, [np.arange(4)])
    with pytest.raises(InputError, match="one of each hidden layer"):
        rename_neurons(q, SMALL, [np.zeros(4, int), np.arange(3)])


def test_one_hidden_layer_uses_both_sides():
    # rows of the first weight are all alike, so that only the second tells the neurons apart
    shapes = {"0.weight": (3, 2), "2.weight": (2, 3)}
    reference = np.array([1.0] * 6 + [1.0, 2.0, 3.0, 4.0, 0.0, -4.0])
    renamed = rename_neurons(reference, shapes, [np.array([2, 0, 1])])
    assert (align(renamed, reference, shapes, starts=1).positions == reference).all()


@pytest.mark.parametrize("shape", [(0, 4), (0, 1, 4), (2, 0, 4)])
def test_no_frame_cannot_be_aligned(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="at least one frame"):
        align(np.zeros(shape), np.zeros(4), {"0.weight": (2, 1), "2.weight": (1, 2)})
