"""The inner loop of Monte Carlo on a dense network, compiled.

A move changes one parameter, so only its neuron, what that neuron feeds, and the layers above are evaluated again. The
values of all neurons at all points are kept for the present parameters (`act`, `pre`) and for the trial (`new_act`,
`new_pre`): rows are neurons (the inputs first, then layer by layer), columns are points (train, then test).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from nnsim import grid_native

RELU, TANH, SILU, SIGMOID, LINEAR = range(5)
CROSS_ENTROPY, MSE = range(2)
LOSS, LN_LOSS, ACCURACY, SMOOTHED, LOGIT_SMOOTHED = range(5)
FIXED, MIXED, TUNED = range(3)
REFRESH = 256  # accepted moves until all neurons are computed anew, so that rounding errors do not add up

_FAST = {"contract", "reassoc", "nsz", "arcp"}  # as a BLAS would; NaN and infinity keep their meaning


# Rows are named by an array and a number: a view of a row would be reference-counted, which costs more than the row.


@njit(cache=True, nogil=True, fastmath=_FAST, forceinline=True)
def _activate(kind, pre, act, row):  # type: ignore[no-untyped-def]
    """act[row] = activation of pre[row]."""
    points = pre.shape[1]
    if kind == RELU:
        for p in range(points):
            act[row, p] = max(pre[row, p], 0.0)
    elif kind == TANH:
        for p in range(points):
            act[row, p] = math.tanh(pre[row, p])
    elif kind == SILU:
        for p in range(points):
            act[row, p] = pre[row, p] / (1 + math.exp(-pre[row, p]))
    elif kind == SIGMOID:
        for p in range(points):
            act[row, p] = 1 / (1 + math.exp(-pre[row, p]))
    else:
        for p in range(points):
            act[row, p] = pre[row, p]


@njit(cache=True, nogil=True, fastmath=_FAST, forceinline=True)
def _neuron(q, weight, bias, act, below, count, pre, row):  # type: ignore[no-untyped-def]
    """pre[row] = bias + weights times the `count` rows of act from `below` on; four at a time, to save traffic."""
    points = pre.shape[1]
    b = q[bias]
    for p in range(points):
        pre[row, p] = b
    fours = count - count % 4
    for i in range(0, fours, 4):
        w0, w1, w2, w3 = q[weight + i], q[weight + i + 1], q[weight + i + 2], q[weight + i + 3]
        r = below + i
        for p in range(points):
            pre[row, p] += w0 * act[r, p] + w1 * act[r + 1, p] + w2 * act[r + 2, p] + w3 * act[r + 3, p]
    for i in range(fours, count):
        w, r = q[weight + i], below + i
        for p in range(points):
            pre[row, p] += w * act[r, p]


@njit(cache=True, nogil=True, fastmath=_FAST, forceinline=True)
def forward(q, first, sizes, rows, weights, biases, kind, pre, act):  # type: ignore[no-untyped-def]
    """All layers from `first` on: fill `pre` and `act` from the activations of the layer before."""
    last = sizes.size - 2
    for layer in range(first, last + 1):
        count = sizes[layer]
        for j in range(sizes[layer + 1]):
            row = rows[layer + 1] + j
            _neuron(q, weights[layer] + j * count, biases[layer] + j, act, rows[layer], count, pre, row)
            _activate(LINEAR if layer == last else kind, pre, act, row)


@njit(cache=True, nogil=True, fastmath=_FAST, forceinline=True)
def _try(q, layer, j, source, shift, sizes, rows, weights, biases, kind, pre, act, new_pre, new_act):  # type: ignore[no-untyped-def]
    """Trial values after the input `source` (-1: the bias) of neuron j of a layer gained `shift` in weight.

    `q` holds the trial parameters already. Above the neuron's own layer every row of `new_act` is filled; in it, only
    the neuron's.
    """
    last, points = sizes.size - 2, pre.shape[1]
    row = rows[layer + 1] + j
    if source < 0:
        for p in range(points):
            new_pre[row, p] = pre[row, p] + shift
    else:
        x = rows[layer] + source
        for p in range(points):
            new_pre[row, p] = pre[row, p] + shift * act[x, p]
    _activate(LINEAR if layer == last else kind, new_pre, new_act, row)
    if layer == last:
        return
    above = layer + 1
    for k in range(sizes[above + 1]):
        w = q[weights[above] + k * sizes[above] + j]
        target = rows[above + 1] + k
        for p in range(points):
            new_pre[target, p] = pre[target, p] + w * (new_act[row, p] - act[row, p])
        _activate(LINEAR if above == last else kind, new_pre, new_act, target)
    forward(q, above + 1, sizes, rows, weights, biases, kind, new_pre, new_act)


@njit(cache=True, nogil=True, forceinline=True)
def _copy(source, target, first, last):  # type: ignore[no-untyped-def]
    """Rows first ... last - 1."""
    for row in range(first, last):
        for p in range(source.shape[1]):
            target[row, p] = source[row, p]


@njit(cache=True, nogil=True, fastmath=_FAST, forceinline=True)
def _exp(x):  # type: ignore[no-untyped-def]
    """exp(x) for x <= 0, to 1e-11 relative, in arithmetic alone, so that the compiler can take four points at once."""
    t = max(x, -700.0) / 4096
    e = 1 + t * (1 + t / 2 * (1 + t / 3 * (1 + t / 4 * (1 + t / 5 * (1 + t / 6 * (1 + t / 7 * (1 + t / 8)))))))
    for _ in range(12):
        e *= e
    return e


@njit(cache=True, nogil=True, fastmath=_FAST, forceinline=True)
def _two_class_loss(act, first, labels, begin, end, work):  # type: ignore[no-untyped-def]
    """Mean of max(d, 0) + ln(1 + exp(-|d|)), d the other output minus that of the right class; see `split_loss`."""
    total, product = 0.0, 0.0
    for p in range(begin, end):
        d = (1.0 - 2.0 * labels[p]) * (act[first + 1, p] - act[first, p])
        total += max(d, 0.0)
        work[1, p] = _exp(-abs(d))
    for p in range(begin, end):
        product += work[1, p] * (1 + product)
        if product > 1e250:
            total += math.log1p(product)
            product = 0.0
    return (total + math.log1p(product)) / (end - begin)


@njit(cache=True, nogil=True, fastmath=_FAST, forceinline=True)
def split_loss(kind, act, first, targets, labels, begin, end, work):  # type: ignore[no-untyped-def]
    """Mean loss of the points begin ... end - 1; the outputs are the rows of `act` from `first` on.

    `targets` [N, C] are values, `labels` [N] classes, `work` [3, N] is scratch.
    """
    classes = act.shape[0] - first
    total = 0.0
    if kind == MSE:
        for c in range(classes):
            for p in range(begin, end):
                total += (act[first + c, p] - targets[p, c]) ** 2
        return total / ((end - begin) * classes)
    # -ln softmax = (highest - own) + ln(sum of exp(output - highest)). The logarithms of a split are one logarithm of a
    # product, of which 1 is left out so that small losses keep their digits.
    if classes == 2:
        return _two_class_loss(act, first, labels, begin, end, work)
    for p in range(begin, end):
        work[0, p] = act[first, p]
        work[1, p] = -1.0  # one of the terms is exp(0)
    for c in range(1, classes):
        for p in range(begin, end):
            work[0, p] = max(work[0, p], act[first + c, p])
    for c in range(classes):
        for p in range(begin, end):
            work[1, p] += _exp(act[first + c, p] - work[0, p])
    product = 0.0
    for p in range(begin, end):
        total += work[0, p] - act[first + labels[p], p]
        product += work[1, p] * (1 + product)
        if product > 1e250:
            total += math.log1p(product)
            product = 0.0
    return (total + math.log1p(product)) / (end - begin)


@njit(cache=True, nogil=True, fastmath=_FAST, forceinline=True)
def _margins(act, first, labels, begin, end, work):  # type: ignore[no-untyped-def]
    """work[2] = output of the right class minus the highest other."""
    classes = act.shape[0] - first
    if classes == 2:
        for p in range(begin, end):
            work[2, p] = (2.0 * labels[p] - 1.0) * (act[first + 1, p] - act[first, p])
        return
    for p in range(begin, end):
        other = -np.inf
        for c in range(classes):
            if c != labels[p]:
                other = max(other, act[first + c, p])
        work[2, p] = act[first + labels[p], p] - other


@njit(cache=True, nogil=True, fastmath=_FAST, forceinline=True)
def _accuracy(kind, slope, act, first, labels, begin, end, work):  # type: ignore[no-untyped-def]
    """Accuracy of a split, exact or smoothed."""
    _margins(act, first, labels, begin, end, work)
    total = 0.0
    if kind == ACCURACY:
        for p in range(begin, end):
            total += 1.0 if work[2, p] > 0 else 0.0
    else:
        for p in range(begin, end):
            e = _exp(-abs(slope * work[2, p]))
            total += (1.0 if work[2, p] > 0 else e) / (1 + e)
    return total / (end - begin)


@njit(cache=True, nogil=True, forceinline=True)
def evaluate_cvs(act, first, problem, cvs, s, work):  # type: ignore[no-untyped-def]
    """Fill `s` [1, k] with the CVs, and return the train loss; `cvs` [k, 4] holds kind, split, slope and scale."""
    targets, labels, train, loss_kind, epsilon, tiny = problem
    train_loss = split_loss(loss_kind, act, first, targets, labels, 0, train, work)
    test_loss = -1.0
    for d in range(cvs.shape[0]):
        kind, slope, scale = np.int64(cvs[d, 0]), cvs[d, 2], cvs[d, 3]
        begin, end, loss = 0, train, train_loss
        if cvs[d, 1] == 1:
            begin, end = train, act.shape[1]
        if kind <= LN_LOSS:
            if cvs[d, 1] == 1:
                if test_loss < 0:
                    test_loss = split_loss(loss_kind, act, first, targets, labels, begin, end, work)
                loss = test_loss
            s[0, d] = loss if kind == LOSS else math.log(max(loss, tiny))
        else:
            mean = _accuracy(kind, slope, act, first, labels, begin, end, work)
            if kind == LOGIT_SMOOTHED:
                mean = epsilon + (1 - 2 * epsilon) * mean
                mean = math.log(mean / (1 - mean))
            s[0, d] = scale * mean
    return train_loss


@njit(cache=True, nogil=True, forceinline=True)
def _bin(s, lower, upper, inverse, bins, wraps, strides):  # type: ignore[no-untyped-def]
    """Index of the bin of s [1, k] in the flattened grid; -1 outside."""
    flat = np.int64(0)
    for d in range(s.shape[1]):
        x = s[0, d]
        if not (lower[d] <= x <= upper[d] or (wraps[d] and np.isfinite(x))):
            return np.int64(-1)
        j = np.int64(np.floor((x - lower[d]) * inverse[d]))
        flat += strides[d] * (j % bins[d] if wraps[d] else min(max(j, 0), bins[d] - 1))
    return flat


@njit(cache=True, nogil=True)
def advance(moves, move, generator, q, network, neurons, problem, cvs, stepping, energy_terms, bias, counters):  # type: ignore[no-untyped-def]
    """`moves` moves of one walker, with a deposit after each; returns its energy, and changes everything in place.

    The tuples are made by `nnsim.platforms.native`, which says what is in them.
    """
    sizes, rows, weights, biases, kind, owner, source = network
    pre, act, new_pre, new_act = neurons
    step_kind, low, high, target_acceptance, warmup, largest, lattice, limits = stepping
    kT, loss_factor, prior = energy_terms
    present, spline, potential, visits, height, grid, nodes, strides, indices, kernel, widths = bias
    s, new_s, step_size, accepted, outside, since_refresh = counters
    last_row = rows[sizes.size - 1]
    work = np.empty((3, act.shape[1]))
    value, gradient = np.empty(1), np.empty((1, max(s.shape[1], 1)))
    lower, upper, inverse, bins, wraps = grid
    forward(q, 0, sizes, rows, weights, biases, kind, pre, act)
    _copy(act, new_act, 0, act.shape[0])
    loss = evaluate_cvs(act, last_row, problem, cvs, s, work)
    square = 0.0
    for i in range(q.size):
        square += q[i] * q[i]
    energy = loss_factor * loss + prior * square
    one_bin = widths[0] * widths[1] * widths[2] == 1
    here = _bin(s, lower, upper, inverse, bins, wraps, strides) if present else 0
    for m in range(moves):
        chosen = np.int64(generator.random() * q.size)
        old = q[chosen]
        if lattice.size:
            place = np.searchsorted(lattice, old)
            other = 1 + np.int64(generator.random() * (lattice.size - 1))
            new = lattice[(place + other) % lattice.size]
        else:
            size = low
            if step_kind == MIXED:
                size = math.exp(low + (high - low) * generator.random())
            elif step_kind == TUNED:
                size = step_size[0]
            new = old + size * (2 * generator.random() - 1)
        drawn = generator.random()
        taken = False
        if lattice.size or (limits[0, chosen] <= new <= limits[1, chosen]):
            q[chosen] = new
            layer = 0
            while owner[chosen] >= rows[layer + 2]:
                layer += 1
            j = owner[chosen] - rows[layer + 1]
            _try(q, layer, j, source[chosen], new - old, sizes, rows, weights, biases, kind, pre, act, new_pre, new_act)
            if layer == sizes.size - 2:  # the other outputs are as before
                _copy(act, new_act, last_row, owner[chosen])
                _copy(act, new_act, owner[chosen] + 1, act.shape[0])
            new_loss = evaluate_cvs(new_act, last_row, problem, cvs, new_s, work)
            new_energy = loss_factor * new_loss + prior * (square + new * new - old * old)
            climb = new_energy - energy
            there = _bin(new_s, lower, upper, inverse, bins, wraps, strides) if present else 0
            if present and there >= 0 and spline:
                grid_native.evaluate(potential, new_s, lower, upper, inverse, bins, wraps, nodes, value, gradient)
                climb += value[0]
                grid_native.evaluate(potential, s, lower, upper, inverse, bins, wraps, nodes, value, gradient)
                climb -= value[0]
            elif present and there >= 0:
                climb += potential[there] - (potential[here] if here >= 0 else potential[there])
            # A NaN is not accepted, and neither is a place outside the grid, at which `there` is -1.
            taken = there >= 0 and drawn < math.exp(-climb / kT)
            if taken:
                square += new * new - old * old
                energy = new_energy
                here = there
                for d in range(s.shape[1]):
                    s[0, d] = new_s[0, d]
                for new_values, values in ((new_pre, pre), (new_act, act)):
                    _copy(new_values, values, owner[chosen], owner[chosen] + 1)
                    _copy(new_values, values, rows[layer + 2], pre.shape[0])
                accepted[0] += 1
                since_refresh[0] += 1
                if since_refresh[0] >= REFRESH:
                    since_refresh[0] = 0
                    forward(q, 0, sizes, rows, weights, biases, kind, pre, act)
            else:
                q[chosen] = old
        if step_kind == TUNED and move + m + 1 <= warmup:
            gain = (1 + (move + m + 1) / 100) ** -0.6
            step_size[0] = min(step_size[0] * math.exp(gain * (taken - target_acceptance)), largest)
        if present and here < 0:
            outside[0] += 1
        elif present and one_bin:
            potential[here] += height
            visits[here] += 1
        elif present:
            grid_native.deposit(
                potential, visits, s, height, lower, upper, inverse, bins, wraps, strides, indices, kernel, widths
            )
    return energy
