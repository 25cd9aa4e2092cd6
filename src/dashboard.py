"""The dashboard at W&B, as code: ``python -m src.dashboard --entity me --dry-run``."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from src.analysis.claims import rules
from src.analysis.figures import FIGURES
from src.terminal import reason

if TYPE_CHECKING:
    import wandb_workspaces.workspaces as ws

STEP = "trainer/global_step"


class Plot(NamedTuple):
    """Curves over the training step, one a group of runs and metric.

    Attributes:
        title: What it shows.
        metrics: A regular expression for the names of what is drawn.
        log: Whether the vertical axis is logarithmic.
    """

    title: str
    metrics: str
    log: bool = False


_ACCURACY = [
    Plot("accuracy on the minibatch", "train/accuracy"),
    Plot("accuracy on the test set", "val/accuracy"),
    Plot("loss on the minibatch", "train/loss", log=True),
]
_SHIFT = [
    Plot("internal covariate shift, l2", "ics/.*/l2", log=True),
    Plot("internal covariate shift, cosine", "ics/.*/cosine"),
]
_RELATIVE_SHIFT = [Plot("internal covariate shift over gradient length", "ics/.*/relative")]
_ALONG = [
    Plot("loss along the gradient", "landscape/euclidean/gradient/.*/loss", log=True),
    Plot("gradient difference", "landscape/euclidean/gradient/.*/grad_diff", log=True),
    Plot("effective beta", "landscape/euclidean/gradient/.*/beta", log=True),
]
_RANDOM = [
    *_ALONG[1:],
    Plot("gradient difference, random direction", "landscape/euclidean/random/.*/grad_diff"),
    Plot("effective beta, random direction", "landscape/euclidean/random/.*/beta", log=True),
]
_RELATIVE = [Plot("effective beta, relative metric", "landscape/relative/.*/beta", log=True)]
_UNITS = [
    Plot("activations, mean", "activations/.*/mean"),
    Plot("activations, variance", "activations/.*/variance", log=True),
    Plot("activations, 15th, 50th and 85th percentile", "activations/.*/q(15|50|85)"),
]
_THEORY = [
    Plot("the two sides of Theorem 4.1", "theory/.*/gradient_(left|right)/value", log=True),
    Plot("their ratio", "theory/.*/gradient_ratio/value", log=True),
]
_CURVATURE = [Plot("largest eigenvalue times rate", "curvature/largest_eigenvalue_times_lr/value")]
_LENGTHS = [
    Plot("gradient length by parameter", "norms/.*/grad_norm", log=True),
    Plot("weight length by parameter", "norms/.*/weight_norm"),
]

# The figures of the report, and what of a run they are made of.
SECTIONS: dict[str, list[Plot]] = {
    "fig1_training": _ACCURACY + _LENGTHS,
    "fig1_he": _ACCURACY,
    "fig1_activations": _UNITS,
    "fig2_noise": _ACCURACY,
    "fig2_activations": _UNITS,
    "fig3_ics_vgg": _SHIFT,
    "fig3_ics_dln": _SHIFT,
    "fig3_he": _SHIFT,
    "fig3_own": _SHIFT + _RELATIVE_SHIFT,
    "fig3_relative": _RELATIVE_SHIFT,
    "fig4_landscape": _ALONG,
    "fig4_he": _ALONG,
    "fig4_own": _ALONG,
    "fig4_confounds": _ALONG,
    "fig4_measures": [_ALONG[1], _LENGTHS[0]],
    "fig4_random": _RANDOM,
    "fig4_relative": _RELATIVE,
    "fig5_lp_vgg": _ACCURACY,
    "fig5_lp_dln": [_ACCURACY[2]],
    "fig6_lp_distributions": _UNITS,
    "fig8_moments": _UNITS[:2],
    "fig8_lags": _UNITS[:2],
    "fixed_batch": _UNITS[:2],
    "fig10_landscape_dln": _ALONG,
    "fig11_step_sizes_vgg": [_ALONG[1]],
    "fig11_step_sizes_dln": [_ALONG[1]],
    "smallest_step": [_ALONG[2]],
    "equal_loss": [*_ALONG, _SHIFT[0]],
    "fig12_landscape_lp": _ALONG,
    "fig13_landscape_lp_dln": _ALONG,
    "ioffe_fig1": [*_ACCURACY[:2], _UNITS[2]],
    "lr_sensitivity": _ACCURACY[:2] + _CURVATURE,
    "init_sensitivity": _ACCURACY[:2],
    "noise_sensitivity": _ACCURACY[:2],
    "regularisation": _ACCURACY[:2],
    "saturating": _ACCURACY[:2],
    "batch_size": _ACCURACY[:2],
    "controls": _ACCURACY[:2],
    "batch_independent_landscape": _ALONG,
    "batch_independent_moments": _UNITS[:2],
    "theory": _THEORY,
}
# Runs that agree in these are one curve, with the range of its seeds.
GROUPED_BY = (
    *("model.name", "optim.lr", "scale", "data.name", "data.batch_size", "optim.weight_decay"),
    *("model.activation", "model.dropout", "model.statistics"),
    *("init.name", "init.std", "init.gain", "noise.strength", "noise.n_mu", "noise.n_sigma"),
    *("noise.r_mu", "noise.r_sigma", "noise.per", "noise.redraw", "noise.relative"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Save the dashboard, or print it; exit code 2 where the extra is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m src.dashboard",
        description="Make a view of a W&B project: a section for each figure of the report, named "
        "with the claims it bears on, its runs grouped by settings so that seeds are one curve.",
        epilog="Runs of several sweeps share a project: choose those of one section by their "
        "group, which is the sweep's name. Needs: pip install -e '.[dashboard]'.",
    )
    parser.add_argument("--entity", required=True, help="at W&B: your name or your team's")
    parser.add_argument("--project", default="batchnorm", help="at W&B; default: batchnorm")
    parser.add_argument("--name", default="BatchNorm", help="the view's; default: BatchNorm")
    parser.add_argument("--dry-run", action="store_true", help="print it as JSON: needs no network")
    chosen = parser.parse_args(arguments)
    try:
        view = workspace(chosen.entity, chosen.project, chosen.name)
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("wandb_workspaces"):
            raise
        told = "wandb-workspaces is missing: pip install -e '.[dashboard]'"
        print(told, file=sys.stderr)
        raise SystemExit(2) from None
    if chosen.dry_run:
        print(json.dumps(dataclasses.asdict(view), indent=1, default=str))
    else:
        try:
            print(view.save().url)
        except Exception as error:
            print(f"the dashboard is not saved: {reason(error)}", file=sys.stderr)
            raise SystemExit(1) from None


def workspace(entity: str, project: str, name: str) -> "ws.Workspace":
    """Return the view, which is nowhere yet."""
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    claims = {
        figure.name: [claim.id for claim in rules().claims.values() if claim.figure == figure.name]
        for figure in FIGURES
    }

    def section(name: str, title: str) -> ws.Section:
        panels: list[Any] = [
            wr.LinePlot(
                title=plot.title,
                x=STEP,
                metric_regex=f"^{plot.metrics}$",
                log_y=plot.log,
                groupby_aggfunc="median",
                groupby_rangefunc="minmax",
            )
            for plot in SECTIONS[name]
        ]
        judged = f" ({', '.join(claims[name])})" if claims[name] else ""
        return ws.Section(name=f"{name}: {title}{judged}", panels=panels)

    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[section(figure.name, figure.title) for figure in FIGURES],
        settings=ws.WorkspaceSettings(x_axis=STEP, max_runs=50),
        runset_settings=ws.RunsetSettings(groupby=[ws.Config(key) for key in GROUPED_BY]),
    )


if __name__ == "__main__":
    main()
