"""The built-in systems: data to the bit, standardisation, parameter counts of the papers, boxes."""

import hashlib
import math
import os
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from command_line import python
from torch import nn

from nnsim.errors import InputError
from nnsim.systems import NeuralNetwork, auto_mpg, convolutional_mnist, dense_mnist, digits
from nnsim.systems.datasets import HOUSE_PRICES_FILE, house_prices_frame
from nnsim.systems.house_prices import house_prices, prepare
from nnsim.systems.modules import ChannelNorm, hidden_sizes, mlp, mnist_cnn, mnist_pooled_cnn, resnet10
from nnsim.systems.spiral import annulus_points, spiral_classification, spiral_points, spiral_regression


def count(module):
    return sum(p.numel() for p in module.parameters())


def sha256(tensor):
    return hashlib.sha256(tensor.numpy().tobytes()).hexdigest()


# ---------------------------------------------------------------- spirals

# Of the bytes of X_train, y_train, X_test, y_test in the reference file spiral_wlmc.npz.
REFERENCE = [
    ("torch.float32", "4d86e69e1172961c093691b409058ffc2a503620588e0202284ca440138059c2"),
    ("torch.int64", "895adb76249cdfafe1417b57a8d64375ea8ab639055cf82b85994752c955ebdf"),
    ("torch.float32", "7d4b795b06bcdf645e94e004cb3ec66420f563070ef41dffaf676b5e3c715bfb"),
    ("torch.int64", "895adb76249cdfafe1417b57a8d64375ea8ab639055cf82b85994752c955ebdf"),
]


def test_spiral_points_reproduce_the_reference_bit_for_bit():
    train = spiral_points(0, 20, kind="random", noise=0.1)
    test = spiral_points(1, 20, kind="even", noise=0.1)
    assert [(str(t.dtype), sha256(t)) for t in (*train, *test)] == REFERENCE


def test_spiral_classification_holds_the_reference_data():
    system = spiral_classification()
    inputs = [*system.data("train"), *system.data("test")]
    assert [sha256(t) for t in inputs] == [digest for _, digest in REFERENCE]


def test_spiral_points_without_noise_lie_on_the_spirals():
    x, labels = spiral_points(0, 5, classes=3, kind="even", noise=0.0)
    assert labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    r = x.double().norm(dim=1)
    assert torch.allclose(r, torch.tensor([1.0, 1.8, 2.6, 3.4, 4.2] * 3, dtype=torch.float64), atol=1e-6)
    angle = torch.atan2(x[:, 1], x[:, 0]).double() - 2 * r - 2 * math.pi * labels / 3
    assert torch.allclose(torch.cos(angle), torch.ones(15, dtype=torch.float64), atol=1e-6)


def test_the_noise_has_the_asked_deviation_on_both_coordinates():
    n, noise = 20_000, 0.3
    noisy, _ = spiral_points(5, n, 1, "even", noise)
    exact, _ = spiral_points(5, n, 1, "even", 0.0)
    deviation = (noisy - exact).double().std(dim=0)
    # The standard error of a deviation is noise / sqrt(2 n).
    assert torch.allclose(
        deviation, torch.full((2,), noise, dtype=torch.float64), rtol=0, atol=5 * noise / math.sqrt(2 * n)
    )


def test_random_radii_are_uniform():
    n = 20_000
    r = spiral_points(6, n, 1, "random", 0.0)[0].double().norm(dim=1)
    assert r.min() >= 1 - 1e-6
    assert r.max() <= 5 + 1e-6
    assert float(r.mean()) == pytest.approx(3.0, abs=5 * 4 / math.sqrt(12 * n))


def test_seeds_and_generators():
    assert torch.equal(spiral_points(3)[0], spiral_points(np.random.default_rng(3))[0])
    assert not torch.equal(spiral_points(3)[0], spiral_points(4)[0])
    generator = np.random.default_rng(3)
    assert not torch.equal(spiral_points(generator)[0], spiral_points(generator)[0])
    assert not torch.equal(annulus_points(3, 10)[0], annulus_points(4, 10)[0])


def test_annulus_points_are_uniform_in_area_with_the_exact_values():
    n = 20_000
    x, y = annulus_points(0, n)
    assert (x.shape, y.shape, x.dtype, y.dtype) == ((n, 2), (n, 1), torch.float32, torch.float32)
    x = x.double()
    squared = x.square().sum(1)
    # r^2 is uniform between 1 and 25, and the directions are isotropic.
    assert float(squared.mean()) == pytest.approx(13.0, abs=5 * 24 / math.sqrt(12 * n))
    assert bool((x.mean(0).abs() < 5 * math.sqrt(13 / 2 / n)).all())
    angle, r = torch.atan2(x[:, 1], x[:, 0]), squared.sqrt()
    assert torch.allclose(y[:, 0].double(), torch.sin(angle - 2 * r), atol=1e-5)
    noisy = annulus_points(0, n, noise=0.2)
    assert torch.equal(noisy[0].double(), x)
    assert float((noisy[1] - y).double().std()) == pytest.approx(0.2, abs=5 * 0.2 / math.sqrt(2 * n))


def test_spiral_regression_halves_and_box():
    system = spiral_regression(points=101, seed=2)
    (x_train, y_train), (x_test, y_test) = system.data("train"), system.data("test")
    assert (len(x_train), len(x_test)) == (50, 51)
    x, y = annulus_points(2, 101)
    assert torch.equal(torch.cat([x_train, x_test]), x)
    assert torch.equal(torch.cat([y_train, y_test]), y.to(y_train.dtype))
    sizes = [60, 30, 900, 30, 30, 1]
    # scale / sqrt(fan-out) for weights, scale / sqrt(numel) for biases
    fans = [30, 30, 30, 30, 1, 1]
    expected = torch.cat(
        [torch.full((n,), 3 / math.sqrt(f), dtype=torch.float64) for n, f in zip(sizes, fans, strict=True)]
    )
    assert torch.allclose(system.box.upper, expected)
    assert torch.equal(system.box.lower, -system.box.upper)


def test_spiral_classification_box_and_start():
    system = spiral_classification(hidden=(9, 4))
    assert (float(system.box.lower), float(system.box.upper), system.box.kind) == (-2 / 3, 2 / 3, "reflecting")
    positions = system.initial_positions(50, torch.Generator().manual_seed(0))
    assert bool(system.box.contains(positions).all())
    # uniform in the box: variance limit^2 / 3
    assert float(positions.var()) == pytest.approx((2 / 3) ** 2 / 3, rel=0.1)


def test_spiral_classification_with_own_data():
    x, y = torch.zeros(3, 2), torch.tensor([0, 1, 2])
    system = spiral_classification(train=(x, y), classes=3)
    assert system.splits == ("train",)
    both = spiral_classification(train=(x, y), test=(x + 1, y), classes=3)
    assert torch.equal(both.data("test")[0], x + 1)
    only_test = spiral_classification(test=(x, y), classes=3)
    assert torch.equal(only_test.data("test")[0], x)
    assert len(only_test.data("train")[0]) == 60


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: spiral_points(0, 0), "points_per_class = 0"),
        (lambda: spiral_points(0, classes=0), "classes = 0"),
        (lambda: spiral_points(0, noise=-0.1), "noise = -0.1"),
        (lambda: spiral_points(0, noise=math.nan), "noise = nan"),
        (lambda: spiral_points(0, kind="odd"), "'odd'"),
        (lambda: spiral_points(-1), "rng = -1"),
        (lambda: spiral_points("zero"), "rng = 'zero'"),
        (lambda: spiral_classification(hidden=()), "hidden = ()"),
        (lambda: spiral_classification(hidden=(6, 0)), "hidden = 0"),
        (lambda: spiral_classification(activation="relo"), "'relo'"),
        (lambda: spiral_regression(points=1), "points = 1"),
        (lambda: mlp((3,)), "sizes = (3,)"),
        (lambda: mlp((3, 1.5)), "sizes[1] = 1.5"),
    ],
)
def test_bad_settings_are_one_line(call, words):
    with pytest.raises(InputError) as raised:
        call()
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


# ---------------------------------------------------------------- networks


def test_parameter_counts_of_the_papers():
    assert spiral_classification().size == 116
    assert count(mlp((768, 50, 1), "silu")) == 38501
    assert count(mnist_cnn()) == 362
    assert count(resnet10()) == 43604
    for width in (30, 100, 300, 1000):
        assert spiral_regression((width, width)).size == width * width + 5 * width + 1
    assert spiral_regression((1000, 1000)).size > 1e6


def test_mlp_layers():
    module = mlp([2, 5, 3], torch.nn.Tanh)
    assert [type(layer).__name__ for layer in module] == ["Linear", "Tanh", "Linear"]
    assert [type(layer).__name__ for layer in mlp((768, 50, 1), "silu")] == ["Linear", "SiLU", "Linear"]
    assert hidden_sizes("test", 7) == (7,)


def test_convolutional_networks_give_logits():
    generator = torch.Generator().manual_seed(0)
    assert mnist_cnn()(torch.rand(3, 1, 28, 28, generator=generator)).shape == (3, 10)
    images = torch.rand(3, 3, 32, 32, generator=generator)
    network = resnet10()
    assert network(images).shape == (3, 2)
    # No image depends on the others of its batch.
    assert torch.allclose(network(images)[1], network(images[1:2])[0], atol=1e-6)


def test_channel_norm_normalises_the_channels_of_each_pixel():
    images = torch.randn(2, 6, 4, 5, generator=torch.Generator().manual_seed(0))
    normed = ChannelNorm(6)(images)
    assert torch.allclose(normed.mean(1), torch.zeros(2, 4, 5), atol=1e-6)
    assert torch.allclose(normed.var(1, unbiased=False), torch.ones(2, 4, 5), atol=1e-3)


# ---------------------------------------------------------------- house prices


@pytest.fixture(scope="module")
def houses():
    """The real table; without its file these tests fail, because skipping them would hide it."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("NNSIM_DATA", beside)).absolute()
    if not (folder / HOUSE_PRICES_FILE).is_file():
        pytest.fail(f"no {HOUSE_PRICES_FILE} in {folder}; set NNSIM_DATA to the folder that holds it")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NNSIM_DATA", str(folder))
        yield house_prices_frame()


def test_house_prices_has_6661_parameters(houses):
    system = house_prices()
    assert system.size == 6661
    assert system.parameters["0.weight"] == (20, 331)
    assert float(system.box.upper[0]) == pytest.approx(3 / math.sqrt(20))
    assert house_prices(hidden=(5, 4)).size == 331 * 5 + 5 + 5 * 4 + 4 + 5


def test_features_of_the_real_table(houses):
    (x_train, y_train), (x_test, y_test), names = prepare(houses, seed=0)
    assert x_train.shape == x_test.shape == (730, 331)
    assert y_train.shape == y_test.shape == (730, 1)
    assert len(set(names)) == 331
    assert all(bool(torch.isfinite(t).all()) for t in (x_train, y_train, x_test, y_test))
    assert "Id" not in names
    assert not any("SalePrice" in name for name in names)
    # The same numbers by another route: pandas' own one-hot encoding with a column for missing values.
    order = np.random.default_rng(0).permutation(1460)
    encoded = pd.get_dummies(houses.drop(columns=["Id", "SalePrice"]), dummy_na=True)
    assert encoded.shape == (1460, 331)
    numeric = houses.drop(columns=["Id", "SalePrice"]).select_dtypes("number")
    assert names[:36] == list(numeric.columns)
    assert np.array_equal(encoded.to_numpy(dtype=np.float32)[order[:730], 36:], x_train[:, 36:].numpy())
    train = numeric.iloc[order[:730]]
    by_pandas = ((numeric - train.mean()) / train.std(ddof=0)).fillna(0.0).iloc[order[730:]]
    assert np.allclose(by_pandas.to_numpy(), x_test[:, :36].numpy(), atol=1e-5)
    log_price = np.log(houses["SalePrice"].to_numpy())
    train_price = log_price[order[:730]]
    assert np.allclose(
        (log_price[order[730:]] - train_price.mean()) / train_price.std(), y_test[:, 0].numpy(), atol=1e-5
    )


def test_standardisation_has_mean_zero_and_variance_one_on_the_train_half_only(houses):
    (x_train, y_train), (x_test, y_test), names = prepare(houses, seed=1)
    column = names.index("GrLivArea")  # nothing is missing there
    for values in (x_train[:, column], y_train[:, 0]):
        assert float(values.double().mean()) == pytest.approx(0.0, abs=1e-6)
        assert float(values.double().var(unbiased=False)) == pytest.approx(1.0, abs=1e-5)
    assert abs(float(x_test[:, column].mean())) > 1e-3
    assert abs(float(y_test.mean())) > 1e-3


def test_none_of_the_veneer_is_a_category_of_its_own(houses):
    (x_train, _), (x_test, _), names = prepare(houses, seed=0)
    x = torch.cat([x_train, x_test])
    assert int(x[:, names.index("MasVnrType=None")].sum()) == 864
    assert int(x[:, names.index("MasVnrType=missing")].sum()) == 8


def test_another_seed_is_another_split_of_the_same_width(houses):
    first, second = prepare(houses, seed=0), prepare(houses, seed=1)
    assert first[2] == second[2]
    assert not torch.equal(first[0][0], second[0][0])
    again = prepare(houses, seed=0)
    assert torch.equal(first[0][0], again[0][0])
    assert torch.equal(first[1][1], again[1][1])


def small_table():
    return pd.DataFrame(
        {
            "Id": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            "Area": [10.0, math.nan, 30.0, 40.0, 50.0, 60.0],
            "Constant": [0.1] * 6,
            "Empty": [math.nan] * 6,
            "Kind": ["b", "a", math.nan, "b", "None", "a"],
            "SalePrice": [1e5, 2e5, 3e5, 4e5, 5e5, 6e5],
        }
    )


def test_prepare_of_a_small_table_by_hand():
    order = np.random.default_rng(7).permutation(6)
    (x_train, y_train), (x_test, y_test), names = prepare(small_table(), seed=7)
    assert names == ["Area", "Constant", "Empty", "Kind=None", "Kind=a", "Kind=b", "Kind=missing"]
    x, y = torch.cat([x_train, x_test]).double(), torch.cat([y_train, y_test])[:, 0].double()
    area = small_table()["Area"].to_numpy()
    known = area[order[:3]][~np.isnan(area[order[:3]])]
    expected = np.nan_to_num((area[order] - known.mean()) / known.std(), nan=0.0)
    assert np.allclose(x[:, 0], expected, atol=1e-6)
    assert bool((x[:, 1:3].abs() < 1e-15).all())
    kinds = [{"None": 3, "a": 4, "b": 5}.get(kind, 6) for kind in small_table()["Kind"].to_numpy()[order]]
    assert x[:, 3:].argmax(1).add(3).tolist() == kinds
    assert bool((x[:, 3:].sum(1) == 1).all())
    price = np.log(small_table()["SalePrice"].to_numpy()[order])
    assert np.allclose(y, (price - price[:3].mean()) / price[:3].std(), atol=1e-6)


def test_the_test_half_does_not_touch_the_statistics():
    table = small_table()
    order = np.random.default_rng(7).permutation(6)
    changed = table.copy()
    changed.loc[order[3:], ["Area", "SalePrice"]] = [1e6, 9e9]
    assert torch.equal(prepare(table, 7)[0][0], prepare(changed, 7)[0][0])
    assert torch.equal(prepare(table, 7)[0][1], prepare(changed, 7)[0][1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop(columns="SalePrice"), "no SalePrice column"),
        (lambda t: t.assign(SalePrice=[1.0, 2.0, math.nan, 0.0, 3.0, 4.0]), "2 values of SalePrice"),
        (lambda t: t.head(1), "1 rows"),
    ],
)
def test_useless_tables_are_refused(change, words):
    with pytest.raises(InputError, match=words):
        prepare(change(small_table()))


def test_a_negative_seed_is_refused():
    with pytest.raises(InputError, match="seed = -1"):
        prepare(small_table(), seed=-1)


# ---------------------------------------------------------------- randomness


def states():
    """Of the global generators of torch, numpy and Python."""
    return torch.random.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()  # noqa: NPY002


def own_values(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


class Drawing(nn.Module):
    """Its outputs are not random, although it draws numbers."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        return self.layer(x) + 0 * torch.rand(1)


BUILDERS = {
    "spiral_classification": lambda: spiral_classification(hidden=(3,)).module,
    "spiral_regression": lambda: spiral_regression(hidden=(3,)).module,
    "digits": lambda: digits(width=4, depth=1).module,
    "house_prices": lambda: house_prices(hidden=(3,)).module,
    "auto_mpg": lambda: auto_mpg(width=4, depth=1).module,
    "dense_mnist": lambda: dense_mnist(width=3, depth=1, train_points=10, test_points=10).module,
    "convolutional_mnist": lambda: convolutional_mnist(width=2, depth=1, train_points=10, test_points=10).module,
    "mlp": lambda: mlp((2, 3, 2)),
    "mnist_cnn": mnist_cnn,
    "mnist_pooled_cnn": lambda: mnist_pooled_cnn(width=2, depth=1),
    "resnet10": resnet10,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDERS)
def test_building_leaves_the_global_generators_alone_and_takes_nothing_from_them(name):
    torch.manual_seed(1)
    before = states()
    values = own_values(BUILDERS[name]())
    assert states() == before
    torch.manual_seed(2)
    assert torch.equal(own_values(BUILDERS[name]()), values)
    assert len(torch.unique(values)) > 0.5 * len(values)


@pytest.mark.slow
def test_own_values_are_the_same_in_every_process(tmp_path):
    code = (
        "import torch; torch.manual_seed(5); from nnsim.systems import spiral_classification as s\n"
        "print(sum(p.double().sum().item() for p in s(hidden=(3,)).module.parameters()).hex())"
    )
    here = sum(p.double().sum().item() for p in spiral_classification(hidden=(3,)).module.parameters())
    assert python(code, tmp_path).out == here.hex() + "\n"


def test_every_seed_of_a_module_gives_other_values():
    values = [own_values(mlp((2, 3, 2), seed=seed)) for seed in (0, 1, 2**32, 2**64 - 1)]
    assert len(torch.unique(torch.cat(values))) == 4 * len(values[0])
    assert float(values[0].abs().max()) <= 2**-0.5  # torch's default initialisation
    assert not torch.equal(own_values(mnist_cnn(seed=1)), own_values(mnist_cnn()))
    assert not torch.equal(own_values(resnet10(seed=1)), own_values(resnet10()))
    with pytest.raises(InputError, match="mlp: seed = -1 must be a whole number of at least 0"):
        mlp((2, 2), seed=-1)
    with pytest.raises(InputError, match="resnet10: seed = 18446744073709551616 must be below"):
        resnet10(seed=2**64)


@pytest.mark.parametrize("initial", ["module", "reinitialise", "normal", "he_normal"])
def test_a_module_of_ones_own_leaves_them_alone_too(initial):
    """Also one that draws numbers when it is tried, and the start of the walkers."""
    module, x = Drawing(), torch.linspace(-1, 1, 30).view(10, 3)
    before = states()
    system = NeuralNetwork(module, (x, torch.arange(10) % 2), initial=initial)
    system.initial_positions(3, torch.Generator())
    assert states() == before
