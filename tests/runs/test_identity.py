import copy
import dataclasses
import re

import pytest

from src.catalogue import VARIANTS
from src.ranges import fields
from src.runs.identity import identity, run_name
from src.settings import Settings

# Every setting is in one of these two, with a value other than its default.
TRAINING = {
    "model.name": "vgg_bn",
    "model.depth": 11,
    "model.width": 0.5,
    "model.head": "4096",
    "model.layers": 24,
    "model.dimension": 9,
    "model.loss": "sum",
    "model.normalise_last": True,
    "model.hidden_layers": 2,
    "model.units": 50,
    "model.activation": "tanh",
    "model.dropout": 0.5,
    "model.affine": False,
    "model.normalise_head": False,
    "model.batch_norm": "scratch",
    "model.eps": 1e-3,
    "model.momentum": 0.2,
    "model.statistics": "running",
    "model.lp_centred": True,
    "model.linf_of": "sample",
    "model.groups": 4,
    "noise.n_mu": 0.25,
    "noise.n_sigma": 1.5,
    "noise.r_mu": 0.2,
    "noise.r_sigma": 0.2,
    "noise.r_sigma_is": "variance",
    "noise.placement": "before_affine",
    "noise.per": "sample",
    "noise.relative": True,
    "noise.strength": 2.0,
    "noise.redraw": "never",
    "noise.evaluation": "off",
    "noise.passes": 1,
    "init.name": "orthogonal",
    "init.gain": 2.0,
    "init.std": 0.1,
    "data.name": "digits",
    "data.batch_size": 64,
    "data.augment": True,
    "data.binarise": True,
    "data.points": 500,
    "data.normalise": False,
    "optim.lr": 0.5,
    "optim.momentum": 0.9,
    "optim.weight_decay": 5e-4,
    "seed": 1,
    "precision": "64-true",
    "max_steps": 10,
}
RECORDING = {
    "probes.which": ["ics"],
    "probes.every": 7,
    "probes.layers": [1],
    "probes.units": 3,
    "probes.batch": "fixed",
    "probes.fixed_batches": 2,
    "probes.precision": "float64",
    "probes.objective": "penalised",
    "probes.update": "gradient",
    "probes.step_sizes": [1.0],
    "probes.step_sizes_are": "absolute",
    "probes.metrics": ["relative"],
    "probes.directions": ["random"],
    "data.root": "/elsewhere",
    "data.cache": "/tmp/cache",
    "data.download": False,
    "logger.name": "none",
    "logger.project": "mine",
    "logger.entity": "us",
    "logger.mode": "offline",
    "logger.tags": ["a"],
    "scale": "paper",
    "sweep": "fig2_noise",
    "log_every": 7,
    "eval_every": 7,
    "checkpoint_every": 7,
    "keep_checkpoints": True,
    "accelerator": "cpu",
    "threads": 1,
    "runs_dir": "/elsewhere",
    "force": True,
}
BATCH, LP, LINF, GROUPS = (
    {f"model.{key}"} for key in ("batch_norm", "lp_centred", "linf_of", "groups")
)
TRACKING = {"model.momentum", "model.statistics"}
# What of a norm's settings has no effect on it, by its kind.
IDLE = {
    None: BATCH | LP | LINF | GROUPS | TRACKING | {"model.affine", "model.eps"},
    "batch": LP | LINF | GROUPS,
    "l1": BATCH | LINF | GROUPS,
    "l2": BATCH | LINF | GROUPS,
    "linf": BATCH | GROUPS,
    "layer": BATCH | LP | LINF | GROUPS | TRACKING,
    "group": BATCH | LP | LINF | TRACKING,
    "instance": BATCH | LP | LINF | GROUPS | TRACKING,
}
NOISE = {path for path in TRAINING if path.startswith("noise.")}
WHERE = {"vgg": {"model.normalise_head"}, "dln": {"model.normalise_last"}, "mlp": set()}


def idle(model: str) -> set[str]:
    """The settings without effect on a model, with an initialisation other than gaussian."""
    family, norm, noise = VARIANTS[model]
    of_noise = ({"noise.per", "noise.passes"} if family == "dln" else set()) if noise else NOISE
    of_noise = of_noise | (set() if norm else {"noise.placement"})
    return IDLE[norm] | of_noise | {"init.std"} | (set() if norm or noise else WHERE[family])


def paths(kind: type) -> set[str]:
    found = set()
    for name, field in fields(kind).items():
        nested = dataclasses.is_dataclass(field.type)
        found |= {f"{name}.{p}" for p in paths(field.type)} if nested else {name}
    return found


def changed(settings: Settings, path: str, value: object) -> Settings:
    other = copy.deepcopy(settings)
    *groups, name = path.split(".")
    owner = getattr(other, groups[0]) if groups else other
    if path == "probes.precision" and owner.precision == value:
        value = "float32"  # the deep linear network's own is float64
    assert getattr(owner, name) != value
    setattr(owner, name, value)
    return other


def test_every_setting_is_known_to_change_the_training_or_not_to():
    assert paths(Settings) == TRAINING.keys() | RECORDING.keys()
    assert not TRAINING.keys() & RECORDING.keys()


def own(settings: Settings, values: dict[str, object]) -> dict[str, object]:
    """Those of some values whose settings this model and its data have."""

    def has(path: str) -> bool:
        group, _, name = path.rpartition(".")
        return hasattr(getattr(settings, group) if group else settings, name)

    return {path: value for path, value in values.items() if has(path)}


def without_effect(settings: Settings, values: dict[str, object]) -> set[str]:
    """The settings that can take these values while the run's name stays."""
    name = run_name(settings)
    return {p for p, value in values.items() if run_name(changed(settings, p, value)) == name}


@pytest.mark.parametrize("model", VARIANTS)
def test_what_only_records_leaves_the_name(settings, model):
    default = settings(f"model={model}")
    values = own(default, RECORDING)
    assert without_effect(default, values) == values.keys()


@pytest.mark.parametrize("model", VARIANTS)
def test_what_changes_the_training_changes_the_name(settings, model):
    default = settings(f"model={model}")
    other = {"model.name": "vgg_l1" if model == "vgg_bn" else "vgg_bn"}
    found = without_effect(default, own(default, TRAINING) | other)
    assert found == idle(model)


def test_the_deviation_of_the_weights_matters_to_gaussians(settings):
    small, large = (settings("init=gaussian", f"init.std={std}") for std in (0.01, 0.1))
    assert run_name(small) != run_name(large)


@pytest.mark.parametrize(
    "idle, where",
    [
        ("noise.placement=before_affine", ("model=vgg_noisy", "model.affine=false")),
        ("noise.placement=before_affine", ("model=dln_noisy", "model.affine=false")),
        ("model.normalise_head=false", ("model=vgg_bn", "model.head=linear")),
    ],
)
def test_what_has_no_effect_beside_another_setting_leaves_the_name(settings, idle, where):
    assert run_name(settings(*where)) == run_name(settings(*where, idle))
    assert run_name(settings(where[0])) != run_name(settings(where[0], idle))


def test_variants_are_different_runs(settings):
    digits = {run_name(settings(f"model={model}")).split("-")[1] for model in VARIANTS}
    assert len(digits) == len(VARIANTS)


@pytest.mark.parametrize("model", VARIANTS)
def test_a_name_is_the_model_and_eight_hex_digits(settings, model):
    assert re.fullmatch(rf"{model}-[0-9a-f]{{8}}", run_name(settings(f"model={model}")))


def test_numbers_are_the_same_however_they_are_written(settings):
    ways = ("optim.lr=1", "optim.lr=1.0", "optim.lr=1e0")
    assert len({run_name(settings(way)) for way in ways}) == 1


def test_identity_leaves_the_settings_as_they_are(settings):
    chosen = settings("model=vgg")
    before = copy.deepcopy(chosen)
    identity(chosen)
    assert chosen == before


@pytest.mark.parametrize(
    "overrides, name",
    [
        (("model=vgg", "scale=small"), "vgg-2a83e26d"),
        (("model=vgg_noisy", "scale=paper", "optim.lr=0.5", "seed=3"), "vgg_noisy-a43b79e1"),
        (("model=vgg_bn", "scale=smoke", "data=digits"), "vgg_bn-9b4d1dd2"),
    ],
)
def test_names_stay_what_they_were(settings, overrides, name):
    """A change here orphans every run folder of before."""
    assert run_name(settings(*overrides)) == name
