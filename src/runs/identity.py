"""A run's identity: a hash of every setting that changes the training, or what is evaluated."""

import dataclasses
import hashlib
import json
from typing import Any

from src.catalogue import Variant
from src.settings import NoiseSettings, Settings, VGGSettings

# What only changes where, how often or with what the run is recorded.
_RECORDING = {
    *("probes", "logger", "scale", "sweep", "log_every", "eval_every", "checkpoint_every"),
    *("keep_checkpoints", "accelerator", "threads", "runs_dir", "force"),
}
_ALL = {"batch", "l1", "l2", "linf", "layer", "group", "instance"}
_TRACKING = {"batch", "l1", "l2", "linf"}
# The kinds of norm that each of these has an effect on.
_OF_NORMS = {
    **{"affine": _ALL, "eps": _ALL, "momentum": _TRACKING, "statistics": _TRACKING},
    **{"batch_norm": {"batch"}, "lp_centred": {"l1", "l2", "linf"}, "linf_of": {"linf"}},
    "groups": {"group"},
}
# Settings younger than the first runs, with what those did: their names stay.
_SINCE = {
    ("model", "statistics"): "batch",
    ("noise", "relative"): False,
    ("noise", "strength"): 1.0,
    ("noise", "redraw"): "step",
}
_PLACES = {"root", "cache", "download"}
_WHERE = {"model.normalise_head", "model.normalise_last"}


def identity(settings: Settings) -> dict[str, Any]:
    """Return the settings that change training or evaluation, those without effect left out.

    A plain network has no noise and no norm, so cells that differ in those alone are one run.
    """
    kept = {k: v for k, v in dataclasses.asdict(settings).items() if k not in _RECORDING}
    kept["data"] = {k: v for k, v in kept["data"].items() if k not in _PLACES}
    idle = without_effect(settings.variant)
    for group in ("model", "noise"):
        kept[group] = {k: v for k, v in kept[group].items() if f"{group}.{k}" not in idle}
    if not kept["noise"]:
        del kept["noise"]
    if settings.init.name != "gaussian":
        del kept["init"]["std"]
    model = settings.model
    if "placement" in kept.get("noise", {}) and not (settings.variant.norm and model.affine):
        kept["noise"]["placement"] = "after_affine"  # there is no affine map to be before
    if isinstance(model, VGGSettings) and model.head == "linear":  # it has no hidden layer
        kept["model"] |= dict.fromkeys({"normalise_head"} & kept["model"].keys(), True)
    for (group, key), before in _SINCE.items():
        if kept.get(group, {}).get(key) == before:
            del kept[group][key]
    return kept


def without_effect(variant: Variant) -> set[str]:
    """Return the keys of the settings that change nothing in a variant, whatever they are."""
    idle = {f"model.{key}" for key, kinds in _OF_NORMS.items() if variant.norm not in kinds}
    if not variant.noise:
        idle |= {f"noise.{field.name}" for field in dataclasses.fields(NoiseSettings)}
    elif variant.family == "dln":  # it has neither pixels nor a test set
        idle |= {"noise.per", "noise.passes"}
    return idle if variant.norm or variant.noise else idle | _WHERE


def run_name(settings: Settings) -> str:
    """Return ``<model>-<8 hex digits>``, the run's folder and its id at W&B."""
    text = json.dumps(identity(settings), sort_keys=True)
    return f"{settings.model.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
