"""The inner loop of Monte Carlo on a dense network, compiled.

A move changes one parameter, so only its neuron, what that neuron feeds, and the layers above are evaluated again. The
values of all neurons at all points (train, then test) are kept in `pre` and `act`, before and after activation. Each
neuron has two rows there, r and r + R: one holds its present value, the other serves the trial, and accepting a move
swaps their roles. `at` [R] names the row of the present value and `now` [R] that of the trial, which for a neuron that
the trial leaves alone is the same. `act` has two rows more: ones, the input of the biases, and the change of a neuron.
"""

from __future__ import annotations

import math

import numpy as np

from nnsim.grid import compiled as grid_native
from nnsim.grid import density
from nnsim.jit import FAST, IN_ORDER, compiled, is_finite
from nnsim.platforms.formulas import NUMBER, combine
from nnsim.random import philox

RELU, TANH, SILU, SIGMOID = range(4)
CROSS_ENTROPY, MSE, WEIGHTED_CROSS_ENTROPY, BCE, WEIGHTED_BCE = range(5)
LOSS, LN_LOSS, ACCURACY, SMOOTHED, LOGIT_SMOOTHED = range(5)
FIXED, MIXED, TUNED = range(3)
TIE = (
    1e-9  # outputs that differ by less are equal: on a lattice they often are, and sums in another order are not quite
)
REFRESH = 256  # accepted moves until all neurons are computed anew, so that rounding errors do not add up
BATCH = 64  # moves whose random numbers are computed together, which takes the compiler a few at once

# Without reference counts, which took three quarters of the time; so nothing can be allocated here.
_INLINE, _PLAIN, _ENTRY = compiled(FAST, inline=True), compiled(IN_ORDER), compiled(IN_ORDER, python=True)

# Rows are named by an array and a number: a view of a row would be reference-counted, which costs more than the row.
# Each loop over points is simple enough for the compiler to take many points at once, and does as much as it can.


@_INLINE
def _exp(x):  # type: ignore[no-untyped-def]
    """exp(x) for x <= 0, to 1e-11 relative, in arithmetic alone, so that the compiler can take many points at once."""
    t = max(x, -700.0) / 4096
    e = 1 + t * (1 + t / 2 * (1 + t / 3 * (1 + t / 4 * (1 + t / 5 * (1 + t / 6 * (1 + t / 7 * (1 + t / 8)))))))
    for _ in range(12):
        e *= e
    return e


@_INLINE
def _activate(kind, pre, act, row):  # type: ignore[no-untyped-def]
    """act[row] = activation of pre[row]."""
    points = pre.shape[1]
    if kind == RELU:
        for p in range(points):
            act[row, p] = max(pre[row, p], 0.0)
    elif kind == TANH:
        for p in range(points):
            e = _exp(-2 * abs(pre[row, p]))
            act[row, p] = math.copysign((1 - e) / (1 + e), pre[row, p])
    else:
        for p in range(points):
            e = _exp(-abs(pre[row, p]))
            act[row, p] = (1.0 if pre[row, p] >= 0 else e) / (1 + e)
        if kind == SILU:
            for p in range(points):
                act[row, p] *= pre[row, p]


@_INLINE
def _shift(kind, hidden, pre, act, old, new, weight, source):  # type: ignore[no-untyped-def]
    """The neuron in row `old`, if its input gains `weight` times the row `source` of act, into row `new`."""
    points = pre.shape[1]
    if hidden and kind == RELU:
        for p in range(points):
            x = pre[old, p] + weight * act[source, p]
            pre[new, p] = x
            act[new, p] = max(x, 0.0)
        return
    for p in range(points):
        pre[new, p] = pre[old, p] + weight * act[source, p]
    if hidden:
        _activate(kind, pre, act, new)


@_INLINE
def _neuron(q, weight, bias, act, now, below, count, pre, row):  # type: ignore[no-untyped-def]
    """pre[row] = bias (-1: none) + weights times `count` neurons from `below` on; four at a time, to save traffic."""
    points = pre.shape[1]
    b = q[bias] if bias >= 0 else 0.0
    for p in range(points):
        pre[row, p] = b
    i = 0
    while i + 4 <= count:
        w0, w1, w2, w3 = q[weight + i], q[weight + i + 1], q[weight + i + 2], q[weight + i + 3]
        r0, r1, r2, r3 = now[below + i], now[below + i + 1], now[below + i + 2], now[below + i + 3]
        for p in range(points):
            pre[row, p] += w0 * act[r0, p] + w1 * act[r1, p] + w2 * act[r2, p] + w3 * act[r3, p]
        i += 4
    if i + 2 <= count:
        w0, w1 = q[weight + i], q[weight + i + 1]
        r0, r1 = now[below + i], now[below + i + 1]
        for p in range(points):
            pre[row, p] += w0 * act[r0, p] + w1 * act[r1, p]
        i += 2
    if i < count:
        w0, r0 = q[weight + i], now[below + i]
        for p in range(points):
            pre[row, p] += w0 * act[r0, p]


@_INLINE
def forward(q, first, network, pre, act, at, now):  # type: ignore[no-untyped-def]
    """All layers from `first` on, of the trial: fill its rows from those of the layer before."""
    sizes, rows, weights, biases, kind = network[:5]
    last, neurons = sizes.size - 2, now.size
    for layer in range(first, last + 1):
        count = sizes[layer]
        for j in range(sizes[layer + 1]):
            r = rows[layer + 1] + j
            now[r] = 2 * r + neurons - at[r]
            bias = biases[layer] + j if biases[layer] >= 0 else -1
            _neuron(q, weights[layer] + j * count, bias, act, now, rows[layer], count, pre, now[r])
            if layer < last:
                _activate(kind, pre, act, now[r])


@_INLINE
def _change(act, old, new, change):  # type: ignore[no-untyped-def]
    """act[change] = act[new] - act[old], and whether any of it differs from 0."""
    total = 0.0
    for p in range(act.shape[1]):
        d = act[new, p] - act[old, p]
        act[change, p] = d
        total += abs(d)
    return total != 0.0  # also of NaN


@_INLINE
def _try(q, layer, r, source, shift, network, pre, act, at, now):  # type: ignore[no-untyped-def]
    """Trial values after the input `source` (-1: the bias) of neuron r, in a layer, gained `shift` in weight.

    `q` holds the trial parameters already. Returns whether the outputs may have changed: behind a ReLU that is shut at
    all points, nothing does.
    """
    sizes, rows, weights, _, kind = network[:5]
    last, neurons = sizes.size - 2, now.size
    now[r] = 2 * r + neurons - at[r]
    _shift(kind, layer < last, pre, act, at[r], now[r], shift, 2 * neurons if source < 0 else at[rows[layer] + source])
    if layer == last:
        return True
    if not _change(act, at[r], now[r], 2 * neurons + 1):
        return False
    above, j = layer + 1, r - rows[layer + 1]
    for k in range(sizes[above + 1]):
        target = rows[above + 1] + k
        now[target] = 2 * target + neurons - at[target]
        w = q[weights[above] + k * sizes[above] + j]
        _shift(kind, above < last, pre, act, at[target], now[target], w, 2 * neurons + 1)
    forward(q, above + 1, network, pre, act, at, now)
    return True


@_INLINE
def _log_product(work, begin, end):  # type: ignore[no-untyped-def]
    """Sum of ln(1 + e) over e = work[1, begin ... end - 1], each at least 0, as one logarithm of a product."""
    total = 0.0
    for first in range(begin, end, np.uint64(64)):
        product, sum1, sum2, sum3 = 1.0, 0.0, 0.0, 0.0
        for p in range(first, min(first + np.uint64(64), end)):
            e = work[1, p]
            product *= 1 + e
            sum1 += e
            sum2 += e * e
            sum3 += e * e * e
        # of small e the product keeps no digits, but then three terms of the series are enough
        total += sum1 - sum2 / 2 + sum3 / 3 if sum1 < 1e-4 else math.log(product)
    return total


@_INLINE
def _summed_loss(pre, now, first, answers, begin, end, work):  # type: ignore[no-untyped-def]
    """Sum of the losses of the points begin ... end - 1; the outputs are the neurons from `first` on.

    `answers` are kind, values [N, C], labels [N], signs [N] and shares [N, C] of a `LossTable`; `work` [3, N] is
    scratch.
    """
    kind, values, labels, signs, shares = answers
    classes = now.size - first
    total = 0.0
    if kind == MSE:
        for c in range(classes):
            row = now[first + c]
            for p in range(begin, end):
                total += (pre[row, p] - values[p, c]) ** 2
        return total
    if kind in (BCE, WEIGHTED_BCE):
        # -y ln s(x) - (1 - y) ln s(-x) = max(x, 0) - y x + ln(1 + exp(-|x|))
        for c in range(classes):
            row = now[first + c]
            for p in range(begin, end):
                x = pre[row, p]
                work[0, p] = max(x, 0.0) - values[p, c] * x
                work[1, p] = _exp(-abs(x))
            if kind == BCE:
                for p in range(begin, end):
                    total += work[0, p]
                total += _log_product(work, begin, end)
            else:
                for p in range(begin, end):
                    total += shares[p, c] * (work[0, p] + math.log1p(work[1, p]))
        return total
    # -ln softmax = (highest - own) + ln(1 + the sum of exp(output - highest) over the others)
    row = now[first]
    if classes == 2 and kind == CROSS_ENTROPY:
        other = now[first + 1]
        for p in range(begin, end):
            d = signs[p] * (pre[other, p] - pre[row, p])
            total += max(d, 0.0)
            work[1, p] = _exp(-abs(d))
        return total + _log_product(work, begin, end)
    for p in range(begin, end):
        work[0, p] = pre[row, p]
        work[1, p] = -1.0  # one of the terms is exp(0)
    for c in range(1, classes):
        row = now[first + c]
        for p in range(begin, end):
            work[0, p] = max(work[0, p], pre[row, p])
    for c in range(classes):
        row = now[first + c]
        for p in range(begin, end):
            work[1, p] += _exp(pre[row, p] - work[0, p])
    if kind == WEIGHTED_CROSS_ENTROPY:
        for p in range(begin, end):
            work[1, p] = math.log1p(work[1, p])
        for c in range(classes):
            row = now[first + c]
            for p in range(begin, end):
                total += shares[p, c] * (work[0, p] - pre[row, p] + work[1, p])
        return total
    for p in range(begin, end):
        total += work[0, p] - pre[now[first + labels[p]], p]
    return total + _log_product(work, begin, end)


@_INLINE
def _margins(pre, now, first, answers, begin, end, work):  # type: ignore[no-untyped-def]
    """work[2] = output of the right class minus the highest other; -inf, which is never right, for ignored points."""
    kind, _, labels, signs, _ = answers
    classes = now.size - first
    if classes == 2 and kind == CROSS_ENTROPY:
        row, other = now[first], now[first + 1]
        for p in range(begin, end):
            work[2, p] = signs[p] * (pre[row, p] - pre[other, p])
        return
    for p in range(begin, end):
        highest = -np.inf
        if labels[p] < 0:
            work[2, p] = -np.inf
            continue
        for c in range(classes):
            if c != labels[p]:
                highest = max(highest, pre[now[first + c], p])
        work[2, p] = pre[now[first + labels[p]], p] - highest


@_INLINE
def _right(kind, slope, begin, end, work):  # type: ignore[no-untyped-def]
    """How many points are right, exact or smoothed, from the margins in work[2]."""
    total = 0.0
    if kind == ACCURACY:
        for p in range(begin, end):
            total += 1.0 if work[2, p] > TIE else 0.0
    else:
        for p in range(begin, end):
            e = _exp(-abs(slope * work[2, p]))
            total += (1.0 if work[2, p] > 0 else e) / (1 + e)
    return total


@_INLINE
def _all_right(kind, slope, pre, now, first, answers, begin, end, work):  # type: ignore[no-untyped-def]
    """How many answers of a split are right: one for each point, or with the binary cross-entropy for each output."""
    if answers[0] not in (BCE, WEIGHTED_BCE):
        _margins(pre, now, first, answers, begin, end, work)
        return _right(kind, slope, begin, end, work)
    total = 0.0
    for c in range(now.size - first):
        row = now[first + c]
        for p in range(begin, end):
            work[2, p] = (2 * answers[1][p, c] - 1) * pre[row, p]
        total += _right(kind, slope, begin, end, work)
    return total


@_INLINE
def evaluate_cvs(pre, now, first, problem, cvs, s, work):  # type: ignore[no-untyped-def]
    """Fill `s` [1, k + R] with the CVs, and the rows that they are made of; return the train loss.

    `cvs` are these rows, [R, 6] (kind, split, slope, scale or number, and the rows before that are combined), and the
    row of each CV, [k].
    """
    rows, shown = cvs
    base = shown.size
    answers, train, norms, counted, epsilon, tiny = problem
    zero, every = np.uint64(0), np.uint64(pre.shape[1])  # unsigned: an index that might be negative is a slow one
    train_loss = _summed_loss(pre, now, first, answers, zero, train, work) / norms[0]
    test_loss = -1.0
    for d in range(rows.shape[0]):
        kind, slope, scale = np.int64(rows[d, 0]), rows[d, 2], rows[d, 3]
        begin, end, loss, count = zero, train, train_loss, counted[0]
        if rows[d, 1] == 1:
            begin, end, count = train, every, counted[1]
        if kind == NUMBER:
            s[0, base + d] = scale
        elif kind > NUMBER:
            left, right = s[0, base + np.int64(rows[d, 4])], s[0, base + np.int64(rows[d, 5])]
            s[0, base + d] = combine(kind, left, right)
        elif kind <= LN_LOSS:
            if rows[d, 1] == 1:
                if test_loss < 0:
                    test_loss = _summed_loss(pre, now, first, answers, begin, end, work) / norms[1]
                loss = test_loss
            s[0, base + d] = loss if kind == LOSS else math.log(max(loss, tiny))
        else:
            mean = _all_right(kind, slope, pre, now, first, answers, begin, end, work) / count
            if kind == LOGIT_SMOOTHED:
                mean = epsilon + (1 - 2 * epsilon) * mean
                mean = math.log(mean / (1 - mean))
            s[0, base + d] = scale * mean
    for d in range(base):
        s[0, d] = s[0, base + shown[d]]
    return train_loss


@_INLINE
def _bin(s, lower, upper, inverse, bins, wraps, strides):  # type: ignore[no-untyped-def]
    """Index of the bin of the first CVs of s [1, k] in the flattened grid; -1 outside."""
    flat = np.int64(0)
    for d in range(lower.size):
        x = s[0, d]
        if not (lower[d] <= x <= upper[d] or (wraps[d] and is_finite(x))):
            return np.int64(-1)
        j = np.int64(np.floor((x - lower[d]) * inverse[d]))
        flat += strides[d] * (j % bins[d] if wraps[d] else min(max(j, 0), bins[d] - 1))
    return flat


@_INLINE
def _take(source, target, row, above):  # type: ignore[no-untyped-def]
    """target = source of one neuron and all from `above` on: acceptance of a trial, or its rejection."""
    target[row] = source[row]
    for r in range(above, target.size):
        target[r] = source[r]


@_PLAIN
def _whole(q, network, neurons, problem, cvs, s, work):  # type: ignore[no-untyped-def]
    """Evaluate the whole network at the present parameters: fills `s`, and returns the train loss and |q|^2."""
    pre, act, at, now = neurons
    forward(q, 0, network, pre, act, at, now)
    _take(now, at, 0, 0)
    square = 0.0
    for i in range(q.size):
        square += q[i] * q[i]
    return evaluate_cvs(pre, now, network[1][network[0].size - 1], problem, cvs, s, work), square


@_INLINE
def _spline(potential, s, grid, nodes, scratch):  # type: ignore[no-untyped-def]
    """The bias on a spline grid at the first CVs of s [1, k]."""
    lower, upper, inverse, bins, wraps = grid
    _, value, gradient, floats, places = scratch
    grid_native.evaluate(potential, s, lower, upper, inverse, bins, wraps, nodes, value, gradient, floats, places)
    return value[0]


@_INLINE
def _restraint(s, spring):  # type: ignore[no-untyped-def]
    """Energy of a harmonic restraint at s [1, k], to the nearest image of the centre where there is a period."""
    stiffness, center, period = spring
    energy = 0.0
    for d in range(stiffness.size):
        difference = s[0, d] - center[d]
        if period[d] > 0:
            difference -= period[d] * np.round(difference / period[d])
        energy += 0.5 * stiffness[d] * difference * difference
    return energy


@_INLINE
def _density(s, kernels):  # type: ignore[no-untyped-def]
    """The logarithm of a density of kernels at the first CVs of s [1, k]."""
    rows, periods, numbers, slope = kernels
    return density.potential(rows, 0, rows.shape[0], s[0], periods, numbers, slope)


@_INLINE
def _wall_energy(s, walls):  # type: ignore[no-untyped-def]
    """Energy of all walls at s [1, k]; `walls` [B, 5] holds column, lower, upper, strength and whether quadratic."""
    energy = 0.0
    for b in range(walls.shape[0]):
        x = s[0, np.int64(walls[b, 0])]
        beyond = abs(x - min(max(x, walls[b, 1]), walls[b, 2]))
        energy += walls[b, 3] * (0.5 * beyond * beyond if walls[b, 4] else beyond)
    return energy


@_ENTRY
def advance(  # type: ignore[no-untyped-def]
    moves,
    move,
    random,
    q,
    network,
    neurons,
    problem,
    cvs,
    stepping,
    step_size,
    energy_terms,
    spring,
    kernels,
    walls,
    bias,
    values,
    scratch,
):
    """`moves` moves of one walker, with a deposit after each, after `move` moves before.

    Everything is changed in place; the tuples are made by `nnsim.platforms.native_arrays`. Returns the energy, how many
    moves were accepted and how many counted outside the grid.
    """
    sizes, rows, _, _, _, owner, source = network
    pre, act, at, now = neurons
    step_kind, low, high, target_acceptance, warmup, smallest, largest, lattice, limits, periodic = stepping
    key, stream, words = random
    kT, loss_factor, prior, slope, ramp = energy_terms
    present, potential, visits, height, spline, grid, nodes, strides, indices, kernel, widths = bias
    s, new_s, work = values[0], values[1], scratch[0]
    outputs = rows[sizes.size - 1]  # the first of them
    accepted = outside = 0
    lower, upper, inverse, bins, wraps = grid
    loss, _ = _whole(q, network, neurons, problem, cvs, s, work)
    one_bin = widths[0] * widths[1] * widths[2] == 1
    here = _bin(s, lower, upper, inverse, bins, wraps, strides) if present else 0
    choices = q.size + (1 if lattice.size else 0)  # on a lattice it may also leave all as they are
    for m in range(moves):
        # One block of random numbers for each move: the parameter, how far, the step size, and the acceptance. Their 32
        # bits change no probability by more than 2^-32.
        i = m % BATCH
        if i == 0:
            philox.encrypt_steps(stream, move + m + 1, key, words, min(BATCH, moves - m))
        chosen = philox.below(words[0, i], choices)
        taken = chosen == q.size and here >= 0
        if chosen == q.size:
            accepted += taken
            old = new = 0.0
        elif lattice.size:
            old = q[chosen]
            place = np.searchsorted(lattice, old)
            new = lattice[(place + 1 + philox.below(words[1, i], lattice.size - 1)) % lattice.size]
        else:
            old = q[chosen]
            size = low
            if step_kind == MIXED:
                size = math.exp(low + (high - low) * philox.unit(words[2, i]))
            elif step_kind == TUNED:
                size = step_size[0]
            new = old + size * (2 * philox.unit(words[1, i]) - 1)
            if periodic and not limits[0, chosen] <= new <= limits[1, chosen]:
                new = limits[0, chosen] + (new - limits[0, chosen]) % (limits[1, chosen] - limits[0, chosen])
        if chosen < q.size and (lattice.size or limits[0, chosen] <= new <= limits[1, chosen]):
            q[chosen] = new
            new = q[chosen]  # rounded, if the positions are float32
            row, layer = owner[chosen], 0
            while row >= rows[layer + 2]:
                layer += 1
            new_loss, there = loss, here
            changed = _try(q, layer, row, source[chosen], new - old, network, pre, act, at, now)
            if changed:
                new_loss = evaluate_cvs(pre, now, outputs, problem, cvs, new_s, work)
                there = _bin(new_s, lower, upper, inverse, bins, wraps, strides) if present else 0
            # U, and a slope in the loss that grows linearly until the move `ramp`; both without what stays the same
            factor = loss_factor + slope * min(1.0, (move + m + 1) / ramp)
            climb = factor * (new_loss - loss) + prior * (new * new - old * old)
            if not changed:
                pass  # the CVs are the same, whatever the bias
            elif spring[0].size:
                climb += _restraint(new_s, spring) - _restraint(s, spring)
            elif kernels[1].size:
                climb += _density(new_s, kernels) - _density(s, kernels)
            elif present and there >= 0 and spline:
                climb += _spline(potential, new_s, grid, nodes, scratch) - _spline(potential, s, grid, nodes, scratch)
            elif present and there >= 0:
                climb += potential[there] - (potential[here] if here >= 0 else potential[there])
            if changed and walls.shape[0]:
                climb += _wall_energy(new_s, walls) - _wall_energy(s, walls)
            # A NaN is not accepted, and neither is a place outside the grid, at which `there` is -1.
            taken = there >= 0 and philox.unit(words[3, i]) < math.exp(-climb / kT)
            if taken:
                loss, here = new_loss, there
                if changed:
                    for d in range(s.shape[1]):
                        s[0, d] = new_s[0, d]
                _take(now, at, row, rows[layer + 2])
                accepted += 1
                if accepted % REFRESH == 0:
                    forward(q, 0, network, pre, act, at, now)
                    _take(now, at, 0, 0)
            else:
                q[chosen] = old
                _take(at, now, row, rows[layer + 2])
        if step_kind == TUNED and move + m + 1 <= warmup:
            gain = (1 + (move + m + 1) / 100) ** -0.6
            grown = step_size[0] * math.exp(gain * (taken - target_acceptance))
            step_size[0] = min(max(grown, smallest), largest)
        if present and here < 0:
            outside += 1
        elif present and one_bin:
            potential[here] += height
            visits[here] += 1
        elif present:
            grid_native.deposit(
                potential, visits, s, height, lower, upper, inverse, bins, wraps, strides, indices, kernel, widths, 0, 1
            )
    # What is told does not depend on how the neurons came to their values, and so not on where the run is cut.
    loss, square = _whole(q, network, neurons, problem, cvs, s, work)
    return loss_factor * loss + prior * square, accepted, outside
