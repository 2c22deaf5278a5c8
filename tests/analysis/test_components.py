"""Principal components against numpy's SVD, of few frames and of many, and the cosines of a random walk."""

import numpy as np
import pytest
from conftest import statistics_scale

from nnsim.analysis import principal_components
from nnsim.analysis.motion import blocks, components
from nnsim.errors import InputError


@pytest.mark.parametrize(("frames", "size"), [(12, 40), (60, 9), (20, 40)])
def test_the_same_as_a_singular_value_decomposition(frames, size, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 8 * 2 * size * 5)
    monkeypatch.setattr(blocks, "BATCH_BYTES", 8 * 2 * frames * 7)
    q = np.random.default_rng(0).standard_normal((frames, 2, size)) * np.linspace(1, 3, size) + 5
    x = q.reshape(-1, size) - q.reshape(-1, size).mean(axis=0)
    _, singular, directions = np.linalg.svd(x, full_matrices=False)
    found = principal_components(q, components=5)
    assert np.allclose(found.variance, singular[:5] ** 2 / (2 * frames - 1))
    assert np.allclose(found.explained, singular[:5] ** 2 / (singular**2).sum())
    assert np.allclose(np.abs(np.sum(found.components * directions[:5], axis=1)), 1)
    assert np.allclose(found.components @ found.components.T, np.eye(5), atol=1e-10)
    assert np.allclose(found.projections.reshape(-1, 5), x @ found.components.T)
    assert np.allclose(found.project(q), found.projections)
    largest = np.abs(found.components).argmax(axis=1)
    assert (found.components[np.arange(5), largest] > 0).all()


def test_large_matrices_by_lanczos(monkeypatch):
    q = np.random.default_rng(1).standard_normal((80, 1, 300)).cumsum(axis=0)
    whole = principal_components(q, components=4)
    monkeypatch.setattr(components, "LARGE", 10)
    lanczos = principal_components(q, components=4)
    assert np.allclose(lanczos.variance, whole.variance, rtol=1e-9)
    assert np.allclose(lanczos.components, whole.components, atol=1e-7)


def test_a_few_directions_are_found_and_no_more():
    # three directions only: further components would be arbitrary
    rng = np.random.default_rng(2)
    directions = np.linalg.qr(rng.standard_normal((50, 3)))[0].T
    q = (rng.standard_normal((30, 1, 3)) * [3.0, 2.0, 1.0]) @ directions
    found = principal_components(q, components=10)
    assert found.components.shape == (3, 50)
    assert found.explained.sum() == pytest.approx(1)
    assert np.allclose((found.components @ directions.T) @ (directions @ found.components.T), np.eye(3))


def test_a_random_walk_shows_cosines_and_independent_frames_do_not():
    # a walk in many dimensions: explained_k = 6 / (pi k)^2 and projections that are cosines (arXiv 1806.08805, eq. 8);
    # 300 frames of 4000 parameters, whose noise in the fractions is about 1/sqrt(4000) = 1.6 %
    rng = np.random.default_rng(3)
    walk = principal_components(rng.standard_normal((300, 1, 4000)).cumsum(axis=0), components=4)
    k = np.arange(1, 5)
    assert np.allclose(walk.explained, 6 / (np.pi * k) ** 2, rtol=5 * 0.016)
    assert (walk.cosine_content > 0.98).all()
    white = principal_components(rng.standard_normal((1000, 2, 20)), components=4)
    assert (white.cosine_content < 0.03).all()  # each is chi^2_1 / 1000


def test_variances_of_a_known_covariance():
    # eigenvalues 9 and 4 above 1, in 20 dimensions; 5000 (20000) independent frames, sqrt(2/N) relative error each
    frames = int(20_000 * statistics_scale())
    scale = np.ones(20)
    scale[3], scale[11] = 3.0, 2.0
    found = principal_components(np.random.default_rng(4).standard_normal((frames, 1, 20)) * scale, components=2)
    assert np.allclose(found.variance, [9, 4], rtol=5 * np.sqrt(2 / frames))
    assert found.components[0].argmax() == 3
    assert found.components[1].argmax() == 11


def test_bad_input_is_refused_by_name(monkeypatch):
    q = np.random.default_rng(5).standard_normal((10, 2, 6))
    with pytest.raises(InputError, match="components = 0"):
        principal_components(q, components=0)
    with pytest.raises(InputError, match="1 frame has no variance"):
        principal_components(q[:1, :1])
    with pytest.raises(InputError, match="all frames are the same"):
        principal_components(np.ones((5, 1, 3)))
    with pytest.raises(InputError, match="all frames are the same"):  # also where their mean is rounded
        principal_components(np.full((10, 2, 5), 0.1))
    with pytest.raises(InputError, match="must end with 6 parameters"):
        principal_components(q).project(q[..., :3])
    monkeypatch.setattr(components, "MOST", 5)
    with pytest.raises(InputError, match="20 frames of 6 parameters are both more than 5"):
        principal_components(q)
