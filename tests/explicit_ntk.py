"""The neural tangent kernel the long way, in numpy float64: own backpropagation, plain loops, no automatic gradients.

What nnsim.cv.ntk is checked against. Parameters theta [n] lie in torch's order: each layer's weight, then its bias.
"""

import math
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

CLIP = 1e-14  # of the eigenvalues, PAPERS.md part B

# each with its derivative as a function of the value before the activation
ACTIVATIONS = {
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float)),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "silu": (lambda z: z / (1 + np.exp(-z)), lambda z: (1 + np.exp(-z) * (1 + z)) / (1 + np.exp(-z)) ** 2),
    "identity": (lambda z: z, np.ones_like),
}


def normalised_exponentials(z):
    weights = np.exp(z - z.real.max(-1, keepdims=True))  # of the real part: complex steps pass through
    return weights / weights.sum(-1, keepdims=True)


# ---------------------------------------------------------------------- dense networks


def dense_tensors(sizes, theta, bias=True):
    """[(weight [out, in], bias [out] or None), ...] from theta [n]."""
    tensors, start = [], 0
    for fan_in, fan_out in pairwise(sizes):
        weight = theta[start : start + fan_in * fan_out].reshape(fan_out, fan_in)
        start += weight.size
        tensors.append((weight, theta[start : start + fan_out] if bias else None))
        start += fan_out if bias else 0
    assert start == len(theta)
    return tensors


def dense_outputs(sizes, activation, theta, x, softmax=False, bias=True):
    """Outputs [N, O]; theta may be complex."""
    act, h = ACTIVATIONS[activation][0], x
    tensors = dense_tensors(sizes, theta, bias)
    for number, (weight, offset) in enumerate(tensors, 1):
        z = h @ weight.T + (0 if offset is None else offset)
        h = act(z) if number < len(tensors) else z
    return normalised_exponentials(h) if softmax else h


def dense_jacobian(sizes, activation, theta, x, softmax=False, bias=True):
    """d output_a(x_i) / d theta, [N, O, n], by backpropagation."""
    act, slope = ACTIVATIONS[activation]
    tensors = dense_tensors(sizes, theta, bias)
    inputs, before, h = [], [], x
    for weight, offset in tensors:
        inputs.append(h)
        before.append(h @ weight.T + (0 if offset is None else offset))
        h = act(before[-1])
    count, outputs = before[-1].shape
    delta = np.broadcast_to(np.eye(outputs), (count, outputs, outputs))  # d output_a / d z_b of the layer at hand
    if softmax:
        p = normalised_exponentials(before[-1])
        delta = p[:, :, None] * (np.eye(outputs) - p[:, None, :])
    parts = []
    for layer in reversed(range(len(tensors))):
        weight, offset = tensors[layer]
        if offset is not None:
            parts.append(delta)
        parts.append((delta[..., None] * inputs[layer][:, None, None, :]).reshape(count, outputs, -1))
        if layer:
            delta = (delta @ weight) * slope(before[layer - 1])[:, None, :]
    return np.concatenate(parts[::-1], axis=2)


def complex_step_jacobian(outputs, theta):
    """Im outputs(theta + i h e_k) / h, [N, O, n]: no difference is taken, so exact to rounding; analytic functions."""
    h, columns = 1e-30, []
    for k in range(len(theta)):
        shifted = theta.astype(complex)
        shifted[k] += 1j * h
        columns.append(outputs(shifted).imag / h)
    return np.stack(columns, axis=-1)


# ---------------------------------------------------------------------- convolutional networks


@dataclass(frozen=True)
class Conv:
    """A Conv2d, by its settings."""

    channels: tuple[int, int]  # in, out
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    bias: bool = True

    @property
    def weights(self):
        return self.channels[1] * self.channels[0] // self.groups * math.prod(self.kernel)

    def size(self, image):
        """Height and width of the output for an image of (height, width)."""
        return tuple(
            (image[d] + 2 * self.padding[d] - self.dilation[d] * (self.kernel[d] - 1) - 1) // self.stride[d] + 1
            for d in (0, 1)
        )


def taps(conv, image):
    """(output, input, weight): flat indices of every product that the convolution sums, and the output's channel."""
    height, width = image
    rows, columns = conv.size(image)
    per_group, out_per_group = conv.channels[0] // conv.groups, conv.channels[1] // conv.groups
    found = []
    for o, r, c in product(range(conv.channels[1]), range(rows), range(columns)):
        for k, i, j in product(range(per_group), *map(range, conv.kernel)):
            y = r * conv.stride[0] - conv.padding[0] + i * conv.dilation[0]
            x = c * conv.stride[1] - conv.padding[1] + j * conv.dilation[1]
            if 0 <= y < height and 0 <= x < width:
                channel = o // out_per_group * per_group + k
                weight = ((o * per_group + k) * conv.kernel[0] + i) * conv.kernel[1] + j
                found.append(((o * rows + r) * columns + c, (channel * height + y) * width + x, weight))
    return np.array(found).T


def conv_jacobian(convs, outputs, activation, theta, x):
    """J [N, O, n] of convolutions, each with an activation, then flatten and a linear layer with bias.

    x is [N, channels, height, width]; `outputs` is O.
    """
    act, slope = ACTIVATIONS[activation]
    image, h, start, record = x.shape[2:], x.reshape(len(x), -1), 0, []
    for conv in convs:
        out, into, index = taps(conv, image)
        image = conv.size(image)
        weight = theta[start : start + conv.weights]
        start += conv.weights
        z = np.zeros((len(x), conv.channels[1] * math.prod(image)))
        for o, i, w in zip(out, into, index, strict=True):
            z[:, o] += weight[w] * h[:, i]
        if conv.bias:
            z += np.repeat(theta[start : start + conv.channels[1]], math.prod(image))
            start += conv.channels[1]
        record.append((h, z, weight, (out, into, index), math.prod(image)))
        h = act(z)
    last = theta[start : start + outputs * h.shape[1]].reshape(outputs, -1)
    assert start + last.size + outputs == len(theta)
    one = np.broadcast_to(np.eye(outputs), (len(x), outputs, outputs))
    parts = [one, (one[..., None] * h[:, None, None, :]).reshape(len(x), outputs, -1)]  # from the last to the first
    delta = np.broadcast_to(last, (len(x), *last.shape))
    for conv, (h, z, weight, places, pixels) in zip(reversed(convs), reversed(record), strict=True):
        delta = delta * slope(z)[:, None, :]
        if conv.bias:
            parts.append(delta.reshape(len(x), outputs, -1, pixels).sum(-1))
        gradient, before = np.zeros((len(x), outputs, conv.weights)), np.zeros((len(x), outputs, h.shape[1]))
        for o, i, w in zip(*places, strict=True):
            gradient[:, :, w] += delta[:, :, o] * h[:, None, i]
            before[:, :, i] += delta[:, :, o] * weight[w]
        parts.append(gradient)
        delta = before
    return np.concatenate(parts[::-1], axis=2)


# ---------------------------------------------------------------------- kernels and their entropy


def mean_kernel(jacobian):
    """K_ij = 1/O sum_a J_ia . J_ja, [N, N]."""
    outputs = jacobian.shape[1]
    return sum(jacobian[:, a] @ jacobian[:, a].T for a in range(outputs)) / outputs


def all_kernel(jacobian):
    """K_(ia)(jb) = J_ia . J_jb, [N O, N O], the outputs of one point beside each other."""
    points, outputs, _ = jacobian.shape
    kernel = np.empty((points * outputs, points * outputs))
    for i, a, j, b in product(range(points), range(outputs), range(points), range(outputs)):
        kernel[i * outputs + a, j * outputs + b] = jacobian[i, a] @ jacobian[j, b]
    return kernel


KERNELS = {"mean": mean_kernel, "all": all_kernel}


def eigenvalues(jacobian, outputs="mean"):
    """Of the kernel, descending: squared singular values of the Jacobian, exact zeros where the rank is at its end."""
    points, count, n = jacobian.shape
    if outputs == "mean":
        rows, size = jacobian.reshape(points, count * n) / math.sqrt(count), points
    else:
        rows, size = jacobian.reshape(points * count, n), points * count
    singular = np.linalg.svd(rows, compute_uv=False)
    return np.concatenate([singular**2, np.zeros(size - len(singular))])


def entropy_of(values):
    """-sum p ln p of eigenvalues clipped at 1e-14 and divided by their sum."""
    clipped = np.maximum(values, CLIP)
    p = clipped / clipped.sum()
    return float(-(p * np.log(p)).sum())


def entropy(jacobian, outputs="mean"):
    """Entropy of the kernel of J [N, O, n], in nats."""
    return entropy_of(eigenvalues(jacobian, outputs))


def central_differences(function, theta, step=2e-5):
    """Gradient [n] by differences of fourth order: errors step^4 and rounding / step."""
    return differences_together(lambda shifted: np.array([function(one) for one in shifted]), theta, step)


def differences_together(function, theta, step=2e-5):
    """The same of a function from many positions [P, n] to their values [P]."""
    shifts = step * np.eye(len(theta))
    values = [np.asarray(function(theta + factor * shifts)) for factor in (-2, -1, 1, 2)]
    return (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
