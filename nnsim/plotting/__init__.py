"""Pictures of landscapes, trajectories, sweeps and the convergence of runs.

Every function draws into the axes it is given, or makes a figure of its own that no window and no global state knows
of, and returns the axes; `save` writes the figure. This is the only package that imports matplotlib.
"""

from nnsim.plotting.comparison import plot_advantages
from nnsim.plotting.convergence import plot_convergence
from nnsim.plotting.evolution import plot_evolution
from nnsim.plotting.growth import plot_growth
from nnsim.plotting.landscapes import plot_landscape
from nnsim.plotting.layers import plot_layers
from nnsim.plotting.maps import plot_sweep
from nnsim.plotting.movie import make_movie
from nnsim.plotting.paths import plot_paths
from nnsim.plotting.profile import plot_profile
from nnsim.plotting.series import plot_histogram, plot_parameters, plot_timeseries
from nnsim.plotting.slices import plot_slices
from nnsim.plotting.spectrum import plot_spectrum
from nnsim.plotting.style import COLORS, STYLE, STYLES, WIDTH, readable, save, use_style
from nnsim.plotting.tempering import plot_tempering
from nnsim.plotting.two_sided import plot_two_sided

__all__ = [
    "COLORS",
    "STYLE",
    "STYLES",
    "WIDTH",
    "make_movie",
    "plot_advantages",
    "plot_convergence",
    "plot_evolution",
    "plot_growth",
    "plot_histogram",
    "plot_landscape",
    "plot_layers",
    "plot_parameters",
    "plot_paths",
    "plot_profile",
    "plot_slices",
    "plot_spectrum",
    "plot_sweep",
    "plot_tempering",
    "plot_timeseries",
    "plot_two_sided",
    "readable",
    "save",
    "use_style",
]
