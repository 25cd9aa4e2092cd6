"""What there is to choose from: networks, data sets, scales, initialisations, probes."""

from typing import NamedTuple


class Variant(NamedTuple):
    """A network, and what it has between each linear map and its non-linearity.

    Attributes:
        family: ``vgg``, ``dln`` or ``mlp``.
        norm: The kind of normalisation; None: there is none.
        noise: Whether noise follows.
    """

    family: str
    norm: str | None
    noise: bool


VARIANTS = {
    "vgg": Variant("vgg", norm=None, noise=False),
    "vgg_bn": Variant("vgg", norm="batch", noise=False),
    "vgg_noisy": Variant("vgg", norm="batch", noise=True),
    "vgg_plain_noisy": Variant("vgg", norm=None, noise=True),
    "vgg_l1": Variant("vgg", norm="l1", noise=False),
    "vgg_l2": Variant("vgg", norm="l2", noise=False),
    "vgg_linf": Variant("vgg", norm="linf", noise=False),
    "vgg_layer": Variant("vgg", norm="layer", noise=False),
    "vgg_group": Variant("vgg", norm="group", noise=False),
    "vgg_instance": Variant("vgg", norm="instance", noise=False),
    "dln": Variant("dln", norm=None, noise=False),
    "dln_bn": Variant("dln", norm="batch", noise=False),
    "dln_noisy": Variant("dln", norm="batch", noise=True),
    "dln_plain_noisy": Variant("dln", norm=None, noise=True),
    "dln_l1": Variant("dln", norm="l1", noise=False),
    "dln_l2": Variant("dln", norm="l2", noise=False),
    "dln_linf": Variant("dln", norm="linf", noise=False),
    "mlp": Variant("mlp", norm=None, noise=False),
    "mlp_bn": Variant("mlp", norm="batch", noise=False),
}


class ImageSet(NamedTuple):
    """The size of a set of images: how many to train on, and (channels, height, width) of each."""

    training_images: int
    shape: tuple[int, int, int]


IMAGE_SETS = {
    "cifar10": ImageSet(50_000, (3, 32, 32)),
    "digits": ImageSet(1_437, (3, 32, 32)),
    "mnist": ImageSet(60_000, (1, 28, 28)),
    "fashion_mnist": ImageSet(60_000, (1, 28, 28)),
}
TRAIN_EVAL_IMAGES = 10_000  # of the training images, those that are evaluated
DATA_SETS = (*IMAGE_SETS, "linear")
# What each family of networks can learn.
SUITED = {"vgg": ("cifar10", "digits"), "mlp": tuple(IMAGE_SETS), "dln": ("linear",)}
SCALES = ("smoke", "small", "paper")
INITS = (
    *("glorot_normal", "glorot_uniform", "he_normal", "he_uniform"),
    *("orthogonal", "gaussian", "torch", "unit_variance"),
)
# The probes, and the settings each of them heeds besides its cadence.
PROBES = {
    "ics": ("layers", "batch", "precision", "objective", "update"),
    "landscape": (
        *("batch", "precision", "objective", "step_sizes", "step_sizes_are"),
        *("metrics", "directions"),
    ),
    "activations": ("layers", "units", "batch", "precision"),
    "curvature": ("batch", "fixed_batches", "precision", "objective"),
    "theory": ("layers", "units", "batch", "precision"),
}


def unsuited(model: str, data: str) -> list[str]:
    """Return a line if a model cannot learn a data set; a name that does not exist has none."""
    variant = VARIANTS.get(model)
    if variant is None or data in SUITED[variant.family] or data not in DATA_SETS:
        return []
    return [f"data={data}: allowed with model={model} is {' or '.join(SUITED[variant.family])}"]
