"""The report's figures, in the order of the papers."""

from src.analysis.figures import (
    landscape,
    maps,
    moments,
    ridgelines,
    shift,
    sigmoid,
    step_sizes,
    training,
)
from src.analysis.figures.figure import Drawn, Figure, Source, drawn

__all__ = ["FIGURES", "Drawn", "Figure", "Source", "drawn"]

_FAMILIES = (training, ridgelines, shift, landscape, moments, step_sizes, sigmoid, maps)
_ORDER = (
    "fig1_training",
    "fig1_activations",
    "fig2_noise",
    "fig2_activations",
    "fig3_ics_vgg",
    "fig3_ics_dln",
    "fig4_landscape",
    "fig5_lp_vgg",
    "fig5_lp_dln",
    "fig6_lp_distributions",
    "fig8_moments",
    "fig10_landscape_dln",
    "fig11_step_sizes_vgg",
    "fig11_step_sizes_dln",
    "fig12_landscape_lp",
    "fig13_landscape_lp_dln",
    "ioffe_fig1",
    "lr_sensitivity",
    "init_sensitivity",
    "noise_sensitivity",
)
_BY_NAME = {figure.name: figure for family in _FAMILIES for figure in family.FIGURES}
FIGURES = tuple(_BY_NAME[name] for name in _ORDER)
