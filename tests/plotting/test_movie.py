"""Films of runs: their frames, and what they show."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import error_of, nnsim
from pictured_runs import FRAMES, NAMES, WALKERS, hill, make_run
from PIL import Image

from nnsim import Trajectory
from nnsim.errors import InputError
from nnsim.plotting import make_movie, movie, use_style
from nnsim.plotting.style import styled
from nnsim.plotting.tables import BiasTables

ffmpeg = pytest.importorskip("imageio_ffmpeg")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Trajectory]:
    """Runs with one, two and three CVs."""
    folder = tmp_path_factory.mktemp("runs")
    return {cvs: make_run(folder / f"run{cvs}.zarr", cvs) for cvs in (1, 2, 3)}


def decoded(path: Path) -> np.ndarray:
    """All frames of an .mp4, [frames, height, width, 3]."""
    reader = ffmpeg.read_frames(str(path))
    width, height = next(reader)["size"]
    frames = [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]
    return np.stack(frames)


@pytest.mark.slow
@pytest.mark.parametrize("cvs", [1, 2])
def test_mp4(cvs: int, runs: dict[int, Trajectory], tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    film = make_movie(
        runs[cvs], tmp_path / "run.mp4", fps=10, seconds=0.8, walkers=2, progress=lambda *now: done.append(now)
    )
    assert (film.frames, film.fps, film.seconds) == (8, 10.0, 0.8)
    assert (film.steps[0], film.steps[-1]) == (10, 10 * FRAMES)  # from the first recorded frame to the last
    assert done == [(number, 8) for number in range(1, 9)]
    frames = decoded(film.path)
    assert frames.shape[0] == 8
    assert frames.shape[2] == 800
    assert frames.shape[1] % 2 == 0
    assert np.abs(frames[0].astype(int) - frames[-1]).mean() > 1  # something happens
    assert frames[:, :8, :8].min() > 245  # the corner is paper
    assert [file.name for file in tmp_path.iterdir()] == ["run.mp4"]  # nothing is left over


@pytest.mark.slow
def test_gif_and_no_more_frames_than_recorded(runs: dict[int, Trajectory], tmp_path: Path) -> None:
    film = make_movie(runs[2], tmp_path / "run.gif", fps=10, seconds=0.5)
    with Image.open(film.path) as picture:
        assert (picture.format, picture.n_frames) == ("GIF", 5)
        assert picture.size[0] == 800
        assert picture.info["duration"] == 100
        assert picture.convert("RGB").getpixel((3, 3)) == (255, 255, 255)
    long = make_movie(runs[2], tmp_path / "run.mp4", fps=50, seconds=20)
    assert long.frames == FRAMES == len(long.steps)


def test_two_cvs_show_the_bias_and_the_walkers(runs: dict[int, Trajectory]) -> None:
    run = runs[2]
    places = np.stack([run[name][:] for name in NAMES[:2]], axis=-1)
    with styled():
        scene = movie._Plane(BiasTables(run), WALKERS)
        scene.show(70, places[:1])
        assert np.ma.count(scene.mesh.get_array()) == 0  # before the first snapshot nothing is known
        scene.show(250, places[20:25])
    values: Any = scene.mesh.get_array()
    expected = np.where(hill(2) > 0, 0.6 * hill(2), np.nan).T
    np.testing.assert_allclose(np.ma.filled(values, np.nan), expected, rtol=1e-12)
    np.testing.assert_array_equal(scene.dots.get_xydata(), places[24])
    np.testing.assert_array_equal(scene.tails[1].get_xydata(), places[20:25, 1])
    assert scene.ax.get_title(loc="left") == "step 250, bias of step 240"


def test_one_cv_fills_to_a_flat_level(runs: dict[int, Trajectory]) -> None:
    places = runs[1][NAMES[0]][:][..., None]
    with styled():
        scene = movie._Valley(BiasTables(runs[1]), WALKERS)
        scene.show(5, places[:1])
        np.testing.assert_array_equal(scene.level, scene.ground)
        scene.show(400, places[-1:])
    s = hill(1)[hill(1) > 0]
    np.testing.assert_allclose(scene.ground[hill(1) > 0], s.max() - s)
    np.testing.assert_allclose(scene.level[hill(1) > 0], s.max() - s.min())  # the highest hill
    dots: Any = scene.dots.get_xydata()
    np.testing.assert_allclose(dots[:, 0], places[-1, :, 0])
    np.testing.assert_allclose(dots[:, 1], s.max() - s.min())


def test_bad_input_is_named(runs: dict[int, Trajectory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("fps", 0), ("seconds", -1), ("walkers", 0)):
        with pytest.raises(InputError, match=f"make_movie: {name} = {value}"):
            make_movie(runs[1], tmp_path / "run.mp4", **{name: value})  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"must end in \.mp4 or \.gif"):
        make_movie(runs[1], tmp_path / "run.avi")
    with pytest.raises(InputError, match=r"the folder of .* does not exist"):
        make_movie(runs[1], tmp_path / "none" / "run.mp4")
    with pytest.raises(InputError, match="a bias of 3 CVs cannot be filmed"):
        make_movie(runs[3], tmp_path / "run.mp4")
    monkeypatch.setattr(movie, "GIF_BYTES", 1_000_000)
    with pytest.raises(InputError, match=r"take \.mp4, or at most 2"):
        make_movie(runs[1], tmp_path / "run.gif")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(
        InputError, match=r"imageio-ffmpeg, which is missing; pip install 'nnsim\[movie\]', or write a "
    ):
        make_movie(runs[1], tmp_path / "run.mp4")
    assert not list(tmp_path.iterdir())


def test_a_film_that_cannot_be_written_leaves_nothing(
    runs: dict[int, Trajectory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(movie._Scene, "show", fail)
    with pytest.raises(InputError, match="No space left on device"):
        make_movie(runs[1], tmp_path / "run.mp4", seconds=0.2)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_command(runs: dict[int, Trajectory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ("movie", runs[2].path, "-o", "film.mp4", "--fps", "10", "--seconds", "0.3", "--walkers", "2")
    assert nnsim(*arguments, "--style", "slides") == (0, "movie: film.mp4, 3 frames, 0.3 s\n", "")
    assert decoded(tmp_path / "film.mp4").shape[0] == 3
    assert nnsim("movie", runs[1].path, "--seconds", "0.1").out == "movie: run1.mp4, 2 frames, 0.1 s\n"
    assert "must end in .mp4 or .gif" in error_of("movie", runs[1].path, "-o", "film.png")


def test_every_style_has_the_same_width_in_pixels(runs: dict[int, Trajectory], tmp_path: Path) -> None:
    with use_style("column"):
        film = make_movie(runs[1], tmp_path / "run.mp4", seconds=0.1)
    assert decoded(film.path).shape[2] == 800
