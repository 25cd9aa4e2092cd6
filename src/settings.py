"""Every setting of a run, its type and its range.

No torch here: a wrong setting is answered before anything slow is imported.
"""

import dataclasses
import re
from dataclasses import dataclass

from src.catalogue import (
    DATA_SETS,
    IMAGE_SETS,
    INITS,
    PROBES,
    SCALES,
    TRAIN_EVAL_IMAGES,
    VARIANTS,
    Variant,
    unsuited,
)
from src.ranges import above, at_least, fields, list_above, list_of, one_of, outside, ranged, whole

_ACTIVATION = one_of("relu", "sigmoid", "tanh", "leaky_relu", "elu", "gelu", "silu")


@dataclass(kw_only=True)
class ModelSettings:
    """What all networks have: the variant, and how it normalises."""

    name: str = one_of(*VARIANTS)
    affine: bool
    batch_norm: str = one_of("torch", "scratch")
    eps: float = at_least(0)
    momentum: float = ranged(lambda v: 0 < v <= 1, "a number above 0, up to 1")
    statistics: str = one_of("batch", "detached", "running")
    lp_centred: bool
    linf_of: str = one_of("batch", "sample")
    groups: int = whole(1)

    @property
    def layer_count(self) -> int:
        """How many layers there are."""
        raise NotImplementedError


@dataclass(kw_only=True)
class VGGSettings(ModelSettings):
    """VGG."""

    depth: int = one_of(11, 13, 16, 19)
    width: float = ranged(lambda v: 0 < v <= 8, "a number above 0, up to 8")
    head: str = one_of("linear", "512", "4096")
    activation: str = _ACTIVATION
    dropout: float = ranged(lambda v: 0 <= v < 1, "a number from 0, below 1")
    normalise_head: bool

    @property
    def layer_count(self) -> int:
        """How many layers there are: all convolutions, the hidden layers of the head, its last."""
        return self.depth - 3 + (0 if self.head == "linear" else 2) + 1


@dataclass(kw_only=True)
class LinearSettings(ModelSettings):
    """The deep linear network."""

    layers: int = whole(1)
    dimension: int = whole(1)
    loss: str = one_of("half_sum", "sum", "mean")
    normalise_last: bool

    @property
    def layer_count(self) -> int:
        """How many layers there are."""
        return self.layers


@dataclass(kw_only=True)
class MLPSettings(ModelSettings):
    """The fully connected network."""

    hidden_layers: int = whole(1)
    units: int = whole(1)
    activation: str = _ACTIVATION

    @property
    def layer_count(self) -> int:
        """How many layers there are, the last included."""
        return self.hidden_layers + 1


@dataclass(kw_only=True)
class NoiseSettings:
    """Algorithm 1 of Santurkar et al., and the readings it leaves open."""

    n_mu: float = at_least(0)
    n_sigma: float = at_least(1)
    r_mu: float = at_least(0)
    r_sigma: float = at_least(0)
    r_sigma_is: str = one_of("std", "variance")
    placement: str = one_of("after_affine", "before_affine")
    per: str = one_of("position", "sample")
    relative: bool
    strength: float = at_least(0)
    redraw: str = one_of("step", "never")
    evaluation: str = one_of("on_as_trained", "off")
    passes: int = whole(1)


@dataclass(kw_only=True)
class InitSettings:
    """The distribution of the initial weights."""

    name: str = one_of(*INITS)
    gain: float = above(0)
    std: float = above(0)


@dataclass(kw_only=True)
class DataSettings:
    """The data set."""

    name: str = one_of(*DATA_SETS)


@dataclass(kw_only=True)
class ImageSettings(DataSettings):
    """Where images come from and how batches are made of them."""

    root: str
    download: bool
    batch_size: int = whole(2)
    normalise: bool


@dataclass(kw_only=True)
class ColourSettings(ImageSettings):
    """What sets in the form of CIFAR-10 have besides."""

    cache: str | None
    augment: bool


@dataclass(kw_only=True)
class GreySettings(ImageSettings):
    """What sets in the form of MNIST have besides."""

    binarise: bool


@dataclass(kw_only=True)
class PointsSettings(DataSettings):
    """The deep linear network's data, one full batch."""

    points: int = whole(2)


@dataclass(kw_only=True)
class OptimSettings:
    """Stochastic gradient descent at a fixed learning rate."""

    lr: float = above(0)
    momentum: float = ranged(lambda v: 0 <= v < 1, "a number from 0, below 1")
    weight_decay: float = at_least(0)


@dataclass(kw_only=True)
class LoggerSettings:
    """The tracker that mirrors the run folder."""

    name: str = one_of("wandb", "none")
    project: str
    entity: str | None
    mode: str = one_of("auto", "online", "offline")
    tags: list[str]


@dataclass(kw_only=True)
class ProbesSettings:
    """What is measured while a network trains, how often and how."""

    which: list[str] = list_of(*PROBES)
    every: int = whole(1)
    layers: list[int] = list_above(0, "whole numbers")
    units: int = whole(0)
    batch: str = one_of("training", "fixed")
    fixed_batches: int = whole(1)
    precision: str = one_of("float32", "float64")
    objective: str = one_of("data", "penalised")
    update: str = one_of("optimiser", "gradient")
    step_sizes: list[float] = list_above(0)
    step_sizes_are: str = one_of("multiples", "absolute")
    metrics: list[str] = list_of("euclidean", "relative")
    directions: list[str] = list_of("gradient", "random")

    def gaps(self) -> list[str]:
        """Return a line for each setting that leaves a probe nothing to measure."""
        empty = {
            "landscape": {k: getattr(self, k) for k in ("step_sizes", "metrics", "directions")},
            "theory": {"units": self.units},
        }
        return [
            f"probes.{key}={value}: the probe {probe} needs at least one"
            for probe, settings in empty.items()
            if probe in self.which
            for key, value in settings.items()
            if not value
        ]


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
    scale: str = one_of(*SCALES)
    sweep: str | None = ranged(
        lambda v: v is None or re.fullmatch(r"\w[\w.-]*", v) is not None,
        "null or a name of letters, digits, dots, - and _, a dot or - not first",
    )
    seed: int = ranged(lambda v: 0 <= v < 2**63, "a whole number of at least 0 and below 2**63")
    precision: str = one_of("32-true", "64-true", "bf16-mixed")
    max_steps: int = ranged(
        lambda v: 1 <= v <= 10**9, "a whole number of at least 1, up to a thousand million"
    )
    log_every: int = whole(1)
    eval_every: int = whole(1)
    checkpoint_every: int = whole(1)
    keep_checkpoints: bool
    accelerator: str = one_of("auto", "cpu", "gpu")
    threads: int | None = ranged(
        lambda v: v is None or 1 <= v <= 1024, "null or a whole number from 1 to 1024"
    )
    runs_dir: str = ranged(lambda v: v.strip() != "", "the name of a folder")
    force: bool

    @property
    def variant(self) -> Variant:
        """What the chosen model adds to the plain network."""
        return VARIANTS[self.model.name]

    def problems(self) -> list[str]:
        """Return one line for each value out of its range; none where all is well."""
        data = self.data
        found = [*outside(self), *unsuited(self.model.name, data.name)]
        if isinstance(data, ImageSettings) and data.name in IMAGE_SETS:
            images = IMAGE_SETS[data.name].training_images
            if data.batch_size > images:
                batch = f"data.batch_size={data.batch_size}"
                found.append(f"{batch}: {data.name} has only {images} training images")
            batches = max(1, min(TRAIN_EVAL_IMAGES, images) // max(data.batch_size, 1))
            if "curvature" in self.probes.which and self.probes.fixed_batches > batches:
                asked = f"probes.fixed_batches={self.probes.fixed_batches}"
                found.append(f"{asked}: allowed are up to {batches} of {data.batch_size} images")
        model = self.model
        if isinstance(model, VGGSettings) and model.head == "linear" and model.dropout:
            dropout = f"model.dropout={model.dropout}"
            found.append(f"{dropout}: allowed with model.head=linear is 0, it has no hidden layer")
        if model.name == "dln_linf" and model.linf_of == "sample":
            found.append("model.linf_of=sample: allowed is batch; of single values it is dln_l1")
        if "curvature" in self.probes.which:
            found += [
                f"probes=curvature: allowed is no {setting}, whose gradient is not that of the loss"
                for setting in self._constants()
            ]
        found += self.probes.gaps()
        if not found and max(self.probes.layers, default=1) > self.model.layer_count:
            layers = f"probes.layers={self.probes.layers}"
            found.append(f"{layers}: allowed are the layers 1 to {self.model.layer_count}")
        return found

    def _constants(self) -> list[str]:
        """Return what makes a part of the network a constant to its gradient that is none."""
        detached = getattr(self.model, "statistics", None) == "detached"
        there = {
            "model.statistics=detached": self.variant.norm == "batch" and detached,
            "noise.relative=true": self.variant.noise and self.noise.relative,
        }
        return [setting for setting, holds in there.items() if holds]


def keys() -> list[str]:
    """Return every key there is, as ``optim.lr``, those of all networks and data sets."""
    found = []
    for field in dataclasses.fields(Settings):
        inside = fields(field.type) if dataclasses.is_dataclass(field.type) else {}
        found += [field.name, *(f"{field.name}.{name}" for name in inside)]
    return found


def kinds(model: str, data: str) -> tuple[type[ModelSettings], type[DataSettings]]:
    """Return which settings a model and a data set have; names that do not exist get VGG's."""
    families = {"vgg": VGGSettings, "dln": LinearSettings, "mlp": MLPSettings}
    sets = {"mnist": GreySettings, "fashion_mnist": GreySettings, "linear": PointsSettings}
    variant = VARIANTS.get(model, VARIANTS["vgg"])
    return families[variant.family], sets.get(data, ColourSettings)
