"""The files in ``sweeps/``: grids of valid cells at every scale, and what their headers say."""

import functools
import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from hydra_plugins.grid_sweeper import points
from src.analysis.claims import rules
from src.compose import NO_GRIDS, screened
from src.dashboard import GROUPED_BY
from src.grid import Cell
from src.runs.identity import run_name

ROOT = Path(__file__).resolve().parents[1]
SWEEPS = [path.stem for path in sorted((ROOT / "sweeps").glob("*.yaml"))]
OF_SCALE = {
    *("scale", "max_steps", "log_every", "eval_every", "checkpoint_every", "model.width", "seed"),
}


@functools.cache
def composed(sweep: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", [f"+sweeps={sweep}", *overrides], return_hydra_config=True)


def cells(sweep: str, *arguments: str) -> list[list[str]]:
    """The overrides of each cell."""
    given = composed(sweep).hydra.sweeper
    return points(given.params, given.grids or [{}], arguments, OverridesParser.create())


def header(sweep: str) -> dict[str, str]:
    """The parts of the comment at the top: what it is, and what it says of Claims, Paper, ..."""
    lines = (ROOT / "sweeps" / f"{sweep}.yaml").read_text().splitlines()
    comments = [line for line in lines if line.startswith("# ")][1:]
    found: dict[str, str] = {}
    for line in comments:
        part = re.fullmatch(r"# (?:(Claims|Paper|Cost|Seeds|Command|Besides): )?(.*)", line)
        if part[1] or not found:
            last = part[1] or "What"
            found[last] = part[2]
        else:
            found[last] += part[2]
    return found


def test_the_sweeps_are_those_of_the_argument():
    figures = {"fig1_training", "fig2_noise", "fig3_ics_vgg", "fig3_ics_dln", "fig4_landscape"}
    figures |= {"fig5_lp_vgg", "fig5_lp_dln", "fig8_moments", "fig10_landscape_dln", "ioffe_mlp"}
    others = {"lr_sensitivity", "init_sensitivity", "noise_sensitivity", "saturating", "controls"}
    assert set(SWEEPS) == figures | others | {
        "regularisation",
        "batch_size",
        "confounds",
        "equal_loss",
        "fixed_batch",
        "own_initialisation",
    }


def test_headers_name_the_claims_that_are_judged_on_their_runs():
    named = {sweep: set(re.split(r",\s+", header(sweep)["Claims"])) - {"none"} for sweep in SWEEPS}
    judged = {name: {c.id for c in rules().claims.values() if c.sweep == name} for name in SWEEPS}
    assert named == judged and set().union(*named.values()) == set(rules().claims)


@pytest.mark.parametrize("sweep", SWEEPS)
class TestEverySweep:
    @pytest.mark.parametrize("scale", ["smoke", "small", "paper"])
    def test_cells_are_valid(self, settings, sweep, scale):
        for point in cells(sweep):
            chosen = settings(*point, f"scale={scale}")
            assert chosen.scale == scale
            given = dict(override.split("=") for override in point)
            assert chosen.model.name == given["model"]

    def test_cells_are_the_runs_its_cost_counts(self, settings, sweep):
        names = {run_name(settings(*point, "scale=small")) for point in cells(sweep)}
        assert header(sweep)["Cost"].startswith(f"{len(names)} runs a seed")
        assert len(names) == len(cells(sweep))

    def test_the_scale_s_keys_and_the_seed_are_left_alone(self, sweep):
        config = composed(sweep)
        plain = composed("fig1_training")
        for point in cells(sweep):
            assert not {override.partition("=")[0] for override in point} & OF_SCALE
        assert config.sweep == sweep
        for key in OF_SCALE - {"model.width"}:
            assert config[key] == plain[key]

    def test_the_command_line_wins(self, sweep):
        assert composed(sweep, "probes=none").probes.which == []
        given = cells(sweep, "model=vgg", "optim.lr=0.2", "seed=0,1")
        assert all({"model=vgg", "optim.lr=0.2"} <= set(point) for point in given)
        assert {override for point in given for override in point} >= {"seed=0", "seed=1"}
        assert len(given) == len({tuple(point) for point in given})

    def test_the_dashboard_makes_one_curve_of_seeds_alone(self, settings, sweep):
        def value(chosen, key):
            return functools.reduce(lambda at, n: getattr(at, n, None), key.split("."), chosen)

        chosen = [settings(*point, "scale=small") for point in cells(sweep)]
        groups = {tuple(value(each, key) for key in GROUPED_BY) for each in chosen}
        assert len(groups) == len(chosen)

    def test_a_cell_alone_is_that_cell(self, settings, sweep):
        alone, parser = composed(sweep, NO_GRIDS).hydra.sweeper, OverridesParser.create()
        for point in cells(sweep):
            cell = Cell((f"+sweeps={sweep}", *point), settings())
            assert cell.alone == [*cell.overrides, NO_GRIDS] and screened(cell.alone) == []
            assert points(alone.params, alone.grids or [{}], point, parser) == [point]

    def test_header_says_what_to_expect(self, sweep):
        parts = header(sweep)
        always = ["What", "Claims", "Paper", "Cost", "Command"]
        assert [part for part in parts if part not in ("Seeds", "Besides")] == always
        for command in (parts["Command"], parts.get("Besides", parts["Command"])):
            assert command.startswith(f"python -m src.train +sweeps={sweep} ")
        assert "smoke" in parts["Cost"] or "not measured" in parts["Cost"]


class TestProbes:
    """Each sweep asks for what its figures and claims are made of."""

    @pytest.mark.parametrize(
        "probe, sweeps",
        [
            ("ics", ["fig3_ics_vgg", "fig3_ics_dln", "equal_loss", "own_initialisation"]),
            ("landscape", ["fig4_landscape", "fig5_lp_vgg", "fig10_landscape_dln", "confounds"]),
            ("landscape", ["equal_loss", "own_initialisation", "controls"]),
            ("activations", ["fig1_training", "fig2_noise", "fig5_lp_vgg", "fig8_moments"]),
            ("activations", ["fixed_batch"]),
            ("theory", ["fig4_landscape"]),
        ],
    )
    def test_are_asked_for(self, probe, sweeps):
        for sweep in sweeps:
            assert probe in composed(sweep).probes.which, sweep

    def test_sharpness_is_measured_at_one_rate_of_each_network(self):
        asked = [cell for cell in cells("lr_sensitivity", "seed=0") if "probes=curvature" in cell]
        models = ["model=vgg", "model=vgg_bn", "model=vgg_noisy"]
        assert [model for model in models for cell in asked if model in cell] == models
        assert {word for cell in asked for word in cell if "lr=" in word} == {"optim.lr=0.001"}

    def test_are_asked_for_in_one_way_by_sweeps_that_share_runs(self):
        vgg = ["fig1_training", "fig2_noise", "fig3_ics_vgg", "fig5_lp_vgg", "fig8_moments"]
        dln = ["fig3_ics_dln", "fig5_lp_dln", "fig10_landscape_dln"]
        for sharing in (vgg, dln):
            assert len({str(composed(sweep).probes) for sweep in sharing}) == 1


def test_several_grids_are_one_after_the_other_and_repeat_no_cell():
    params, grids = {"a": "1,2"}, [{"b": "3"}, {"b": "3,4", "a": "1"}]
    parser = OverridesParser.create()
    assert points(params, grids, [], parser) == [["a=1", "b=3"], ["a=2", "b=3"], ["a=1", "b=4"]]
    given = points(params, grids, ["b=5", "c=6"], parser)
    assert given == [["a=1", "b=5", "c=6"], ["a=2", "b=5", "c=6"]]
