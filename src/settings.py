"""Every setting of a run, its type and its range.

No torch here: a wrong setting is answered before anything slow is imported.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple


class Variant(NamedTuple):
    """What a model variant adds after each convolution and hidden linear map."""

    norm: bool
    noise: bool


VARIANTS = {
    "vgg": Variant(norm=False, noise=False),
    "vgg_bn": Variant(norm=True, noise=False),
    "vgg_noisy": Variant(norm=True, noise=True),
    "vgg_plain_noisy": Variant(norm=False, noise=True),
}


INITS = (
    *("glorot_normal", "glorot_uniform", "he_normal", "he_uniform"),
    *("orthogonal", "gaussian", "torch", "unit_variance"),
)
PROBES = ("ics", "landscape", "activations", "curvature", "theory")
TRAINING_IMAGES = {"cifar10": 50_000, "digits": 1_437}


class Rule(NamedTuple):
    """A predicate on a value and the words that say what it allows."""

    holds: Callable[[Any], bool]
    allowed: str


def _field(rule: Rule) -> Any:
    return dataclasses.field(metadata={"rule": rule})


def _at_least(low: float) -> Any:
    return _field(Rule(lambda v: math.isfinite(v) and v >= low, f"a number of at least {low}"))


def _above(low: float) -> Any:
    return _field(Rule(lambda v: math.isfinite(v) and v > low, f"a number above {low}"))


def _whole(low: int) -> Any:
    return _field(Rule(lambda v: v >= low, f"a whole number of at least {low}"))


def _one_of(*values: object) -> Any:
    return _field(Rule(lambda v: v in values, "one of " + ", ".join(map(str, values))))


def _list_of(*values: object) -> Any:
    allowed = "a list of " + ", ".join(map(str, values))
    return _field(Rule(lambda given: all(v in values for v in given), allowed))


def _list_above(low: float) -> Any:
    allowed = f"a list of numbers above {low}"
    return _field(Rule(lambda given: all(math.isfinite(v) and v > low for v in given), allowed))


_FILE_NAME = Rule(
    lambda v: v is None or re.fullmatch(r"[\w.-]+", v) is not None,
    "null or a name of letters, digits, dots, - and _",
)
_WORDS = {
    bool: "true or false",
    str: "text",
    str | None: "text or null",
    list[str]: "a list of words",
}


@dataclass(kw_only=True)
class ModelSettings:
    """The network."""

    name: str = _one_of(*VARIANTS)
    depth: int = _one_of(11, 13, 16, 19)
    width: float = _field(Rule(lambda v: 0 < v <= 8, "a number above 0, up to 8"))
    head: str = _one_of("linear", "512", "4096")
    activation: str = _one_of("relu", "sigmoid", "tanh", "leaky_relu", "elu", "gelu", "silu")
    dropout: float = _field(Rule(lambda v: 0 <= v < 1, "a number from 0, below 1"))
    affine: bool
    normalise_head: bool
    batch_norm: str = _one_of("torch", "scratch")
    eps: float = _at_least(0)
    momentum: float = _field(Rule(lambda v: 0 < v <= 1, "a number above 0, up to 1"))
    statistics: str = _one_of("batch", "running")
    lp_centred: bool
    linf_of: str = _one_of("batch", "sample")
    groups: int = _whole(1)


@dataclass(kw_only=True)
class NoiseSettings:
    """Algorithm 1 of Santurkar et al., and the readings it leaves open."""

    n_mu: float = _at_least(0)
    n_sigma: float = _at_least(1)
    r_mu: float = _at_least(0)
    r_sigma: float = _at_least(0)
    r_sigma_is: str = _one_of("std", "variance")
    placement: str = _one_of("after_affine", "before_affine")
    per: str = _one_of("position", "sample")
    relative: bool
    strength: float = _at_least(0)
    redraw: str = _one_of("step", "never")
    evaluation: str = _one_of("on_as_trained", "off")
    passes: int = _whole(1)


@dataclass(kw_only=True)
class InitSettings:
    """The distribution of the initial weights."""

    name: str = _one_of(*INITS)
    gain: float = _above(0)
    std: float = _above(0)


@dataclass(kw_only=True)
class DataSettings:
    """The data set and how batches are made of it."""

    name: str = _one_of(*TRAINING_IMAGES)
    root: str
    cache: str | None
    download: bool
    batch_size: int = _whole(2)
    augment: bool
    normalise: bool


@dataclass(kw_only=True)
class OptimSettings:
    """Stochastic gradient descent at a fixed learning rate."""

    lr: float = _above(0)
    momentum: float = _field(Rule(lambda v: 0 <= v < 1, "a number from 0, below 1"))
    weight_decay: float = _at_least(0)


@dataclass(kw_only=True)
class LoggerSettings:
    """The tracker that mirrors the run folder."""

    name: str = _one_of("wandb", "none")
    project: str
    entity: str | None
    mode: str = _one_of("auto", "online", "offline")
    tags: list[str]


@dataclass(kw_only=True)
class ProbesSettings:
    """What is measured while a network trains, how often and how."""

    which: list[str] = _list_of(*PROBES)
    every: int = _whole(1)
    layers: list[int] = _list_above(0)
    units: int = _whole(0)
    batch: str = _one_of("training", "fixed")
    fixed_batches: int = _whole(1)
    precision: str = _one_of("float32", "float64")
    update: str = _one_of("optimiser", "gradient")
    step_sizes: list[float] = _list_above(0)
    step_sizes_are: str = _one_of("multiples", "absolute")
    metrics: list[str] = _list_of("euclidean", "relative")
    directions: list[str] = _list_of("gradient", "random")


@dataclass(kw_only=True)
class Settings:
    """One run."""

    model: ModelSettings
    noise: NoiseSettings
    init: InitSettings
    data: DataSettings
    optim: OptimSettings
    probes: ProbesSettings
    logger: LoggerSettings
    scale: str = _one_of("smoke", "small", "paper")
    sweep: str | None = _field(_FILE_NAME)
    seed: int = _whole(0)
    precision: str = _one_of("32-true", "64-true", "bf16-mixed")
    max_steps: int = _whole(1)
    log_every: int = _whole(1)
    eval_every: int = _whole(1)
    checkpoint_every: int = _whole(1)
    keep_checkpoints: bool
    accelerator: str = _one_of("auto", "cpu", "gpu")
    threads: int | None = _field(
        Rule(lambda v: v is None or v >= 1, "null or a whole number of at least 1")
    )
    runs_dir: str
    force: bool

    @property
    def variant(self) -> Variant:
        """What the chosen model adds to the plain network."""
        return VARIANTS[self.model.name]

    def problems(self) -> list[str]:
        """Return one line for each value out of its range; none where all is well."""
        found = list(_problems(self, ""))
        images = TRAINING_IMAGES.get(self.data.name, self.data.batch_size)
        if self.data.batch_size > images:
            batch = f"data.batch_size={self.data.batch_size}"
            found.append(f"{batch}: {self.data.name} has only {images} training images")
        return found


def allowed(path: str) -> str | None:
    """Say what the setting of a path such as ``optim.lr`` may be; None where there is none."""
    kind: Any = Settings
    rule = None
    for name in path.split("."):
        field = getattr(kind, "__dataclass_fields__", {}).get(name)
        if field is None:
            return None
        kind, rule = field.type, field.metadata.get("rule")
    return rule.allowed if rule else _WORDS.get(kind)


def _problems(settings: Any, prefix: str) -> Iterator[str]:
    for field in dataclasses.fields(settings):
        value, path = getattr(settings, field.name), prefix + field.name
        rule = field.metadata.get("rule")
        if dataclasses.is_dataclass(value):
            yield from _problems(value, path + ".")
        elif rule and not rule.holds(value):
            yield f"{path}={value}: allowed is {rule.allowed}"
