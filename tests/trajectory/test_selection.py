"""Selections of parameters in words, against indices worked out by hand and against torch's own modules."""

import numpy as np
import pytest
from torch import nn

from nnsim import InputError
from nnsim.trajectory.selection import labels, select

DENSE = {"0.weight": (3, 2), "0.bias": (3,), "2.weight": (3, 3), "2.bias": (3,), "4.weight": (2, 3), "4.bias": (2,)}
# 0..5, 6..8; 9..17, 18..20; 21..26, 27..28
CONV = {"conv.weight": (2, 3, 2, 2), "conv.bias": (2,), "norm.weight": (2,), "norm.bias": (2,), "head.weight": (4, 8)}
# 0..23, 24..25, 26..27, 28..29, 30..61


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", range(29)),
        ("layer 0", range(9)),
        ("layer 1", range(9, 21)),
        ("layer -1", range(21, 29)),
        ("layer 0 to 1", range(21)),
        ("layer 0 2", [*range(9), *range(21, 29)]),
        ("layer -2 to -1", range(9, 29)),
        ("weight", [*range(6), *range(9, 18), *range(21, 27)]),
        ("bias", [6, 7, 8, 18, 19, 20, 27, 28]),
        ("layer 1 and weight", range(9, 18)),
        ("layer 1 and not weight", range(18, 21)),
        ("not layer 0 to 1", range(21, 29)),
        ("layer 0 and neuron 1", [2, 3, 7]),
        ("layer 1 and neuron 0 to 1", [*range(9, 15), 18, 19]),
        ("layer 1 and neuron 0 2", [9, 10, 11, 15, 16, 17, 18, 20]),
        ("neuron 2", [4, 5, 8, 15, 16, 17, 20]),  # the last layer has only neurons 0 and 1
        ("neuron -1", [4, 5, 8, 15, 16, 17, 20, 24, 25, 26, 28]),
        ("input 2", [11, 14, 17, 23, 26]),  # the first layer has only inputs 0 and 1; a bias has none
        ("layer 0 and input 0", [0, 2, 4]),
        ("layer 0 and neuron 1 and input 1", [3]),
        ("name 0.weight", range(6)),
        ("0.weight", range(6)),
        ("'0.weight'", range(6)),
        ("name *.bias", [6, 7, 8, 18, 19, 20, 27, 28]),
        ("[02].bias", [6, 7, 8, 18, 19, 20]),
        ("?.bias and not 2.*", [6, 7, 8, 27, 28]),
        ("index 0 to 3", range(4)),
        ("index 5 28", [5, 28]),
        # 'and' before 'or', 'not' before both
        ("layer 0 or layer 1 and bias", [*range(9), 18, 19, 20]),
        ("(layer 0 or layer 1) and bias", [6, 7, 8, 18, 19, 20]),
        ("not layer 0 and bias", [18, 19, 20, 27, 28]),
        ("not (layer 0 and bias)", [*range(6), *range(9, 29)]),
        ("not not layer 0", range(9)),
        ("((index 3))or(index 1)", [1, 3]),
        ("none or index 2", [2]),
    ],
)
def test_dense(text, expected):
    found = select(DENSE, text)
    assert found.dtype == np.int64
    assert found.tolist() == list(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("layer 0 and neuron 1", [*range(12, 24), 25]),  # a filter and its bias
        ("layer 0 and input 2", [8, 9, 10, 11, 20, 21, 22, 23]),  # of each filter, the plane of one channel
        ("layer 1", range(26, 30)),
        ("norm.* and neuron 0", [26, 28]),
        ("head.weight and neuron 3", range(54, 62)),
        ("conv.weight and neuron 0 and input 0", range(4)),
    ],
)
def test_convolution(text, expected):
    assert select(CONV, text).tolist() == list(expected)


def test_against_a_torch_module():
    """Every row of every layer of a real network, found by marking it in the module itself."""
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 2))
    parameters = {name: tuple(p.shape) for name, p in module.named_parameters()}
    for layer, own in enumerate([module[0], module[3], module[5]]):
        for neuron in range(own.weight.shape[0]):
            for p in module.parameters():
                p.data.zero_()
            own.weight.data[neuron] = own.bias.data[neuron] = 1
            flat = np.concatenate([p.detach().numpy().ravel() for p in module.parameters()])
            assert select(parameters, f"layer {layer} and neuron {neuron}").tolist() == np.flatnonzero(flat).tolist()


def test_other_names():
    module = nn.LSTM(2, 3)
    parameters = {name: tuple(p.shape) for name, p in module.named_parameters()}
    assert [label.split("[")[0] for label in labels(parameters, select(parameters, "bias"))[::12]] == [
        "bias_ih_l0",
        "bias_hh_l0",
    ]
    assert select({"scale": (), "a.parametrizations.weight.original0": (2,)}, "weight").tolist() == [1, 2]
    assert select({"scale": (), "a.parametrizations.weight.original0": (2,)}, "layer 1").tolist() == [1, 2]
    assert select({"scale": (), "empty": (0, 3), "w": (2,)}, "scale or w").tolist() == [0, 1, 2]


def test_labels():
    assert labels(DENSE, [0, 3, 8, 28]) == ["0.weight[0, 0]", "0.weight[1, 1]", "0.bias[2]", "4.bias[1]"]
    assert labels({"scale": (), "empty": (0, 3), "w": (2,)}, [0, 2]) == ["scale", "w[1]"]
    assert labels(CONV, [23]) == ["conv.weight[1, 2, 1, 1]"]
    with pytest.raises(InputError, match="index 29 is beyond the 29 parameters"):
        labels(DENSE, [29])


@pytest.mark.parametrize(
    ("text", "word", "message"),
    [
        ("layer 1 and wieght", "wieght", "neither a word of selections"),
        ("layer 3", "3", "is no layer of this network, which has 0 to 2"),
        ("layer -4", "-4", "is no layer"),
        ("neuron 3", "3", "0 to 2"),
        ("index 0 to 29", "29", "0 to 28"),
        ("layer one", "one", "the number of a layer is needed"),
        ("index and bias", "and", "the number of an index is needed"),
        ("layer 2 to 1", "1", "is below 2"),
        ("layer 0 layer 1", "layer", "was not expected here"),
        ("(layer 0 and bias", "(", "is never closed"),
        ("layer 0)", ")", "was not expected"),
        ("layer 0 and", None, "the end stands where a selection is needed"),
        ("", None, "a selection is needed"),
        ("name", None, "the name of a parameter is needed"),
        ("or bias", "or", "a selection is needed"),
    ],
)
def test_a_wrong_word_is_pointed_at(text, word, message):
    with pytest.raises(InputError, match=message) as caught:
        select(DENSE, text)
    shown, caret = str(caught.value).split("\n")[1:]
    assert shown == f"  {text}"
    if word is not None:
        assert shown[caret.index("^") : caret.rindex("^") + 1] == word
    else:
        assert caret.index("^") > len(shown.rstrip())


def test_nothing_selected_and_no_text():
    with pytest.raises(InputError, match="selects no parameter"):
        select(DENSE, "layer 0 and layer 1")
    with pytest.raises(InputError, match="in words"):
        select(DENSE, 3)
