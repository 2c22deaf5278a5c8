"""What calls of layers mean as operations; see `nnsim.networks.vocabulary`."""

from __future__ import annotations

from typing import Any

from nnsim.networks.operations import Place
from nnsim.networks.writer import Untraced, Value, Writer


def _each(sizes: Any, dimensions: int) -> tuple[int, ...]:
    """A size for each dimension, from one for all or one for each."""
    return (sizes,) * dimensions if isinstance(sizes, int) else tuple(sizes)


def _windows(dimensions: int, kernel_size: Any, stride: Any, padding: Any) -> dict[str, tuple[int, ...]]:
    """Where the windows of a pooling lie: side by side, if no stride is given."""
    sizes = {"kernel_size": kernel_size, "stride": stride or kernel_size, "padding": padding}
    return {name: _each(size, dimensions) for name, size in sizes.items()}


def linear(w: Writer, input: Any, weight: Any, bias: Any = None) -> Value:
    """W x + b."""
    return w.write("linear", [input], weight=weight, bias=bias)


def convolution(
    dimensions: int,
    w: Writer,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    """Along one, two or three dimensions, with the numbers in the order of torch."""
    if not isinstance(weight, Place):
        raise Untraced("a convolution computes its weights")
    kernel, dilation = weight.shape[2:], _each(dilation, dimensions)
    if padding == "same":  # the odd one after
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        edges = tuple((one // 2, one - one // 2) for one in total)
    else:
        edges = tuple((one, one) for one in _each(0 if padding == "valid" else padding, dimensions))
    settings = {
        "kernel_size": kernel,
        "stride": _each(stride, dimensions),
        "padding": edges,
        "dilation": dilation,
        "groups": groups,
    }
    return w.write("convolution", [input], settings, weight=weight, bias=bias)


def convolution_module(dimensions: int, w: Writer, module: Any, x: Any) -> Value:
    """Of a layer; only zeros around the images are known."""
    if module.padding_mode != "zeros":
        raise Untraced(f"padding_mode = {module.padding_mode!r}")
    rest = module.stride, module.padding, module.dilation, module.groups
    return convolution(dimensions, w, x, w.place(module.weight), w.place(module.bias), *rest)


def embedding_module(w: Writer, module: Any, x: Any) -> Value:
    """Of a layer whose forward leaves its weights as they are."""
    if module.max_norm is not None or module.scale_grad_by_freq:
        raise Untraced("an embedding with max_norm or scale_grad_by_freq")
    return w.write("embedding", [x], {"padding_idx": module.padding_idx}, weight=w.place(module.weight))


def layer_norm(
    w: Writer, input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Value:
    """Over the last dimensions."""
    settings = {"normalized_shape": tuple(normalized_shape), "eps": eps}
    return w.write("layer_norm", [input], settings, weight=weight, bias=bias)


def group_norm(
    w: Writer, input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Value:
    """Over groups of channels."""
    return w.write("group_norm", [input], {"num_groups": num_groups, "eps": eps}, weight=weight, bias=bias)


def batch_norm(w: Writer, m: Any, x: Any) -> Value:
    """At rest: with the means and variances that the layer keeps."""
    if m.training or m.running_mean is None:
        raise Untraced("it makes outputs depend on the rest of the batch; call module.eval() first")
    tensors = {"weight": m.weight, "bias": m.bias, "mean": m.running_mean, "variance": m.running_var}
    return w.write("batch_norm", [x], {"eps": m.eps}, **{name: w.place(one) for name, one in tensors.items()})


def max_pool(
    dimensions: int,
    w: Writer,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Value:
    """The largest number of each window."""
    if return_indices:
        raise Untraced("a pooling that returns indices")
    settings = {
        **_windows(dimensions, kernel_size, stride, padding),
        "dilation": _each(dilation, dimensions),
        "ceil_mode": ceil_mode,
    }
    return w.write("max_pool", [input], settings)


def average_pool(
    dimensions: int,
    w: Writer,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    """The mean of each window."""
    settings = {
        **_windows(dimensions, kernel_size, stride, padding),
        "ceil_mode": ceil_mode,
        "count_include_pad": count_include_pad,
        "divisor_override": divisor_override,
    }
    return w.write("average_pool", [input], settings)


def max_pool_module(dimensions: int, w: Writer, m: Any, x: Any) -> Value:
    """Of a layer."""
    rest = m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode, m.return_indices
    return max_pool(dimensions, w, x, *rest)


def average_pool_module(dimensions: int, w: Writer, m: Any, x: Any) -> Value:
    """Of a layer."""
    rest = m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad
    return average_pool(dimensions, w, x, *rest, getattr(m, "divisor_override", None))


def adaptive_pool_module(kind: str, dimensions: int, w: Writer, m: Any, x: Any) -> Value:
    """Of a layer."""
    if getattr(m, "return_indices", False):
        raise Untraced("a pooling that returns indices")
    return adaptive_pool(kind, dimensions, w, x, m.output_size)


def adaptive_pool(kind: str, dimensions: int, w: Writer, input: Any, output_size: Any) -> Value:
    """Windows of which there are so many; None is as many as there are pixels."""
    sizes = (output_size,) * dimensions if output_size is None else _each(output_size, dimensions)
    if None in sizes:  # as many as there are
        there = w.sizes(input)[-dimensions:]
        sizes = tuple(have if size is None else size for size, have in zip(sizes, there, strict=True))
    return w.write(kind, [input], {"output_size": sizes})


def rest(w: Writer, input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Value:
    """A dropout that drops nothing."""
    if training and p > 0:
        raise Untraced("it makes outputs random; call module.eval() first")
    return w.write("rest", [input])


def softmax(kind: str, w: Writer, input: Any, dim: Any = None, _stacklevel: int = 3, dtype: Any = None) -> Value:
    """Or its logarithm, over one dimension."""
    if dim is None or dtype is not None:
        raise Untraced("a softmax without dim, or to another type")
    return w.write(kind, [input], {"dim": w.dimensions(input, dim)[0]})
