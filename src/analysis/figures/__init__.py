"""The report's figures, in the order of the papers."""

from src.analysis.figures import (
    dots,
    equal_loss,
    landscape,
    maps,
    moments,
    ridgelines,
    shift,
    sigmoid,
    smallest_step,
    step_sizes,
    theory,
    training,
)
from src.analysis.figures.figure import Drawn, Figure, Source, drawn

__all__ = ["FIGURES", "Drawn", "Figure", "Source", "drawn"]

_FAMILIES = (
    training,
    shift,
    landscape,
    equal_loss,
    moments,
    step_sizes,
    smallest_step,
    sigmoid,
    theory,
    ridgelines,
    maps,
    dots,
)
_ORDER = (
    "fig1_training",
    "fig1_activations",
    "fig2_noise",
    "fig2_activations",
    "fig3_ics_vgg",
    "fig3_ics_dln",
    "fig3_he",
    "fig3_own",
    "fig3_relative",
    "fig4_landscape",
    "fig4_he",
    "fig4_own",
    "fig4_relative",
    "fig5_lp_vgg",
    "fig5_lp_dln",
    "fig6_lp_distributions",
    "fig8_moments",
    "fixed_batch",
    "fig10_landscape_dln",
    "fig11_step_sizes_vgg",
    "fig11_step_sizes_dln",
    "smallest_step",
    "equal_loss",
    "fig12_landscape_lp",
    "fig13_landscape_lp_dln",
    "ioffe_fig1",
    "lr_sensitivity",
    "init_sensitivity",
    "noise_sensitivity",
    "regularisation",
    "saturating",
    "batch_size",
    "controls",
    "batch_independent_landscape",
    "batch_independent_moments",
    "theory",
)
_BY_NAME = {figure.name: figure for family in _FAMILIES for figure in family.FIGURES}
FIGURES = tuple(_BY_NAME[name] for name in _ORDER)
