import dataclasses
import re

import pytest
from omegaconf import DictConfig, OmegaConf

from src import models
from src.catalogue import DATA_SETS, INITS, SUITED, VARIANTS
from src.compose import SettingsError, settings_of
from src.ranges import allowed, fields
from src.settings import Settings


def keys(kind: type) -> list[str]:
    """Every leaf of the settings, as a path."""
    found = []
    for name, field in fields(kind).items():
        nested = dataclasses.is_dataclass(field.type)
        found += [f"{name}.{key}" for key in keys(field.type)] if nested else [name]
    return found


def leaves(config: DictConfig) -> list[str]:
    found = []
    for name, value in config.items():
        nested = isinstance(value, DictConfig)
        found += [f"{name}.{leaf}" for leaf in leaves(value)] if nested else [name]
    return found


OUT_OF_RANGE = [
    ("model.name=vgg_x", "one of " + ", ".join(VARIANTS)),
    ("model.depth=12", "one of 11, 13, 16, 19"),
    ("model.width=0", "a number above 0, up to 8"),
    ("model.width=-1", "a number above 0, up to 8"),
    ("model.width=8.1", "a number above 0, up to 8"),
    ("model.width=.nan", "a number above 0, up to 8"),
    ("model.head=256", "one of linear, 512, 4096"),
    ("model.activation=relu6", "one of relu, sigmoid, tanh, leaky_relu, elu, gelu, silu"),
    ("model.dropout=1", "a number from 0, below 1"),
    ("model.dropout=-0.1", "a number from 0, below 1"),
    ("model.layers=0", "a whole number of at least 1"),
    ("model.dimension=0", "a whole number of at least 1"),
    ("model.loss=mse", "one of half_sum, sum, mean"),
    ("model.hidden_layers=0", "a whole number of at least 1"),
    ("model.units=0", "a whole number of at least 1"),
    ("model.batch_norm=fused", "one of torch, scratch"),
    ("model.eps=-1e-5", "a number of at least 0"),
    ("model.momentum=0", "a number above 0, up to 1"),
    ("model.momentum=1.1", "a number above 0, up to 1"),
    ("model.statistics=moving", "one of batch, detached, running"),
    ("model.linf_of=samples", "one of batch, sample"),
    ("model.groups=0", "a whole number of at least 1"),
    ("noise.n_mu=-0.5", "a number of at least 0"),
    ("noise.n_mu=.inf", "a number of at least 0"),
    ("noise.n_sigma=0.9", "a number of at least 1"),
    ("noise.r_mu=-1", "a number of at least 0"),
    ("noise.r_sigma=-1", "a number of at least 0"),
    ("noise.r_sigma_is=stdev", "one of std, variance"),
    ("noise.placement=before", "one of after_affine, before_affine"),
    ("noise.per=pixel", "one of position, sample"),
    ("noise.strength=-1", "a number of at least 0"),
    ("noise.redraw=once", "one of step, never"),
    ("noise.evaluation=on", "one of on_as_trained, off"),
    ("noise.passes=0", "a whole number of at least 1"),
    ("init.name=glorot", "one of " + ", ".join(INITS)),
    ("init.std=0", "a number above 0"),
    ("init.gain=0", "a number above 0"),
    ("data.name=imagenet", "one of cifar10, digits, mnist, fashion_mnist, linear"),
    ("data.points=1", "a whole number of at least 2"),
    ("data.batch_size=1", "a whole number of at least 2"),
    ("optim.lr=-1", "a number above 0"),
    ("optim.lr=0", "a number above 0"),
    ("optim.lr=.inf", "a number above 0"),
    ("optim.lr=.nan", "a number above 0"),
    ("optim.momentum=1", "a number from 0, below 1"),
    ("optim.weight_decay=-1e-4", "a number of at least 0"),
    ("probes.which=[shift]", "a list of ics, landscape, activations, curvature, theory"),
    ("probes.every=0", "a whole number of at least 1"),
    ("runs_dir=' '", "the name of a folder"),
    ("sweep=..", "null or a name of letters, digits, dots, - and _, a dot or - not first"),
    ("threads=100000", "null or a whole number from 1 to 1024"),
    ("max_steps=2000000000", "a whole number of at least 1, up to a thousand million"),
    ("probes.layers=[0]", "a list of whole numbers above 0"),
    ("probes.units=-1", "a whole number of at least 0"),
    ("probes.batch=test", "one of training, fixed"),
    ("probes.fixed_batches=0", "a whole number of at least 1"),
    ("probes.precision=bfloat16", "one of float32, float64"),
    ("probes.objective=test", "one of data, penalised"),
    ("probes.update=adam", "one of optimiser, gradient"),
    ("probes.step_sizes=[0]", "a list of numbers above 0"),
    ("probes.step_sizes_are=log", "one of multiples, absolute"),
    ("probes.metrics=[l2]", "a list of euclidean, relative"),
    ("probes.directions=[newton]", "a list of gradient, random"),
    ("logger.name=tensorboard", "one of wandb, none"),
    ("logger.mode=disabled", "one of auto, online, offline"),
    ("seed=-1", "a whole number of at least 0 and below 2**63"),
    (f"seed={2**63}", "a whole number of at least 0 and below 2**63"),
    ("precision=16-mixed", "one of 32-true, 64-true, bf16-mixed"),
    ("max_steps=0", "a whole number of at least 1, up to a thousand million"),
    ("log_every=0", "a whole number of at least 1"),
    ("eval_every=0", "a whole number of at least 1"),
    ("checkpoint_every=0", "a whole number of at least 1"),
    ("accelerator=tpu", "one of auto, cpu, gpu"),
    ("threads=0", "null or a whole number from 1 to 1024"),
    ("sweep=../mine", "null or a name of letters, digits, dots, - and _, a dot or - not first"),
]
# Which model has a setting that the default one has not.
OWNER = {
    **dict.fromkeys(("model.layers", "model.dimension", "model.loss", "data.points"), "model=dln"),
    **dict.fromkeys(("model.hidden_layers", "model.units"), "model=mlp"),
}


class TestRanges:
    @pytest.mark.parametrize("override, rule", OUT_OF_RANGE)
    def test_a_value_outside_is_refused_in_one_line_that_says_what_is_allowed(
        self, settings, override, rule
    ):
        path = override.partition("=")[0]
        with pytest.raises(SettingsError) as error:
            settings(OWNER.get(path, "model=vgg_bn"), override)
        (line,) = error.value.lines
        assert re.fullmatch(rf"{re.escape(path)}=.*: allowed is {re.escape(rule)}", line)
        assert allowed(Settings, path) == rule

    def test_each_rule_has_a_value_that_breaks_it(self):
        ruled = {
            path
            for path in keys(Settings)
            if (rule := allowed(Settings, path)) and rule not in WORDS
        }
        broken = {override.partition("=")[0] for override, _ in OUT_OF_RANGE}
        assert ruled - broken == {"scale"}  # an unknown one is no choice of the group, for Hydra

    @pytest.mark.parametrize(
        "override",
        [
            *("model.width=8", "model.dropout=0.999", "model.eps=0", "model.momentum=1"),
            *("noise.n_mu=0", "noise.n_sigma=1", "data.batch_size=2", "data.batch_size=50000"),
            *(
                "seed=0",
                f"seed={2**63 - 1}",
                "max_steps=1",
                "threads=null",
                "threads=1",
                "sweep=a.b-c",
            ),
        ],
    )
    def test_a_value_at_the_edge_is_taken(self, settings, override):
        settings(override)

    @pytest.mark.parametrize(
        "data, images",
        [("cifar10", 50_000), ("digits", 1_437), ("mnist", 60_000), ("fashion_mnist", 60_000)],
    )
    def test_a_batch_larger_than_the_data_is_refused(self, settings, data, images):
        settings("model=mlp", f"data={data}", f"data.batch_size={images}")
        with pytest.raises(SettingsError) as error:
            settings("model=mlp", f"data={data}", f"data.batch_size={images + 1}")
        assert error.value.lines == [
            f"data.batch_size={images + 1}: {data} has only {images} training images"
        ]

    @pytest.mark.parametrize("data", DATA_SETS)
    @pytest.mark.parametrize("model", ["vgg_bn", "dln", "mlp"])
    def test_a_model_takes_the_data_that_suit_it_and_no_others(self, settings, model, data):
        suited = SUITED[VARIANTS[model].family]
        if data in suited:
            assert settings(f"model={model}", f"data={data}").data.name == data
            return
        with pytest.raises(SettingsError) as error:
            settings(f"model={model}", f"data={data}")
        line = f"data={data}: allowed with model={model} is {' or '.join(suited)}"
        assert error.value.lines == [line]

    def test_it_also_says_so_of_settings_made_by_hand(self, settings):
        chosen = settings("model=dln")
        chosen.data.name = "digits"
        assert chosen.problems() == ["data=digits: allowed with model=dln is linear"]

    @pytest.mark.parametrize(
        "data, batch_size, allowed",
        [("cifar10", 128, 78), ("digits", 128, 11), ("digits", 1000, 1), ("cifar10", 12_000, 1)],
    )
    def test_the_fixed_batches_are_of_equal_size(self, settings, data, batch_size, allowed):
        given = (f"data={data}", f"data.batch_size={batch_size}", "probes=curvature")
        assert settings(*given, f"probes.fixed_batches={allowed}")
        with pytest.raises(SettingsError) as error:
            settings(*given, f"probes.fixed_batches={allowed + 1}")
        told = f"probes.fixed_batches={allowed + 1}: allowed are up to {allowed} of {batch_size}"
        assert str(error.value) == f"{told} images"

    @pytest.mark.parametrize(
        ("model", "other", "setting"),
        [
            ("vgg_bn", "vgg", "model.statistics=detached"),
            ("vgg_plain_noisy", "vgg_bn", "noise.relative=true"),
        ],
    )
    def test_no_curvature_of_what_is_a_constant_to_the_gradient(
        self, settings, model, other, setting
    ):
        """Else it is the derivative of another gradient than that of the loss."""
        assert settings(f"model={other}", setting, "probes=curvature")
        assert settings(f"model={model}", setting, "probes=paper_theory")
        with pytest.raises(SettingsError, match=f"probes=curvature: allowed is no {setting}, "):
            settings(f"model={model}", setting, "probes=all")

    def test_dropout_needs_a_hidden_layer_in_the_head(self, settings):
        assert settings("model.head=linear", "model.dropout=0")
        with pytest.raises(SettingsError, match=r"dropout=0.5: allowed with model.head=linear is"):
            settings("model.head=linear", "model.dropout=0.5")

    def test_a_maximum_of_single_values_is_another_norm(self, settings):
        assert settings("model=dln_linf").model.linf_of == "batch"
        assert settings("model=vgg_linf", "model.linf_of=sample").model.linf_of == "sample"
        with pytest.raises(SettingsError, match="linf_of=sample: allowed is batch; of single"):
            settings("model=dln_linf", "model.linf_of=sample")

    def test_each_bad_value_has_its_line(self, settings):
        with pytest.raises(SettingsError) as error:
            settings("optim.lr=-1", "model.width=0", "model.depth=12")
        starts = [line.partition(":")[0] for line in error.value.lines]
        assert starts == ["model.depth=12", "model.width=0.0", "optim.lr=-1.0"]


WORDS = {"true or false", "text", "text or null", "a list of words"}


class TestAllowed:
    @pytest.mark.parametrize("path", keys(Settings))
    def test_every_setting_can_say_what_it_allows(self, path):
        assert allowed(Settings, path)

    @pytest.mark.parametrize("path", ["", "optim", "lr", "optim.lrr", "optim.lr.x", "hydra.mode"])
    def test_nothing_else_can(self, path):
        assert allowed(Settings, path) is None


class TestConfiguration:
    def test_hold_the_settings_and_no_others(self, composed):
        models = [composed(model) for model in ("model=vgg", "model=dln", "model=mlp")]
        assert {leaf for config in models for leaf in leaves(config)} == set(keys(Settings))

    def test_every_choice_of_every_group_builds_a_network(self, settings, root):
        files = [path for path in (root / "conf").glob("*/*.yaml") if path.stem[0] != "_"]
        assert len(files) > 15
        groups: dict[str, list[str]] = {}
        for path in files:
            groups.setdefault(path.parent.name, []).append(path.stem)
        assert set(groups.pop("data")) == set(DATA_SETS)
        assert set(groups.pop("reading")) == {"none", "fig4a"}  # the latter of VGG alone
        for turn in range(max(map(len, groups.values()))):
            turns = {group: choices[turn % len(choices)] for group, choices in groups.items()}
            family = VARIANTS[turns["model"]].family
            turns["data"] = SUITED[family][turn % len(SUITED[family])]
            narrow = ["model.width=0.0625"] if family == "vgg" else []
            chosen = settings(*(f"{g}={c}" for g, c in turns.items()), *narrow)
            classes = None if family == "dln" else 10
            assert models.build(chosen, classes).settings is chosen
            for group in ("model", "init", "data", "logger"):
                assert getattr(chosen, group).name == turns[group]
            assert chosen.scale == turns["scale"]

    def test_a_reading_sets_its_keys_and_the_command_line_beats_it(self, settings):
        chosen = settings("reading=fig4a", "model=vgg", "model.head=linear")
        assert (chosen.optim.weight_decay, chosen.probes.objective) == (4e-4, "penalised")
        assert chosen.model.head == "linear" and settings("reading=fig4a").model.head == "4096"

    @pytest.mark.parametrize(
        "scale, width, vgg, dln, mlp",
        [
            ("smoke", 1 / 16, 20, 20, 20),
            ("small", 0.25, 3_000, 2_000, 5_000),
            ("paper", 1, 15_000, 10_000, 50_000),
        ],
    )
    def test_scale_sets_width_and_steps(self, settings, scale, width, vgg, dln, mlp):
        chosen = settings(f"scale={scale}")
        assert (chosen.model.width, chosen.max_steps) == (width, vgg)
        assert settings(f"scale={scale}", "model=dln_noisy").max_steps == dln
        assert settings(f"scale={scale}", "model=mlp_bn").max_steps == mlp

    def test_a_family_brings_its_defaults(self, settings):
        dln, mlp, vgg = (settings(f"model={m}", "probes=paper") for m in ("dln", "mlp", "vgg"))
        assert [s.data.name for s in (vgg, dln, mlp)] == ["cifar10", "linear", "mnist"]
        assert [s.optim.lr for s in (vgg, dln, mlp)] == [0.1, 1e-6, 0.1]
        assert [s.probes.every for s in (vgg, dln, mlp)] == [100, 50, 100]
        assert dln.probes.step_sizes == [0.01, 0.1, 1, 10, 30]
        assert vgg.probes.step_sizes == mlp.probes.step_sizes == [0.5, 1, 2, 4]
        assert (vgg.data.batch_size, mlp.data.batch_size, dln.data.points) == (128, 60, 1_000)

    def test_and_the_command_line_wins(self, composed):
        given = ("optim.lr=3", "max_steps=7", "probes.every=9", "probes.step_sizes=[2]")
        chosen = settings_of(composed("model=dln", "scale=paper", *given))
        assert (chosen.optim.lr, chosen.max_steps, chosen.probes.every) == (3, 7, 9)
        assert chosen.probes.step_sizes == [2] and chosen.eval_every == 1_000
        assert settings_of(composed("model=mlp", "data=digits")).data.name == "digits"
        assert settings_of(composed("model=vgg", "model.width=2")).model.width == 2

    def test_defaults_are_the_paper_s(self, settings):
        chosen = settings("scale=paper")
        assert dataclasses.astuple(chosen.optim) == (0.1, 0, 0)
        assert (chosen.data.batch_size, chosen.data.augment) == (128, False)
        assert chosen.init == type(chosen.init)(name="glorot_normal", gain=1, std=0.01)
        assert (chosen.model.depth, chosen.model.head) == (16, "512")
        noise = chosen.noise
        assert (noise.n_mu, noise.n_sigma, noise.r_mu, noise.r_sigma) == (0.5, 1.25, 0.1, 0.1)
        assert (noise.strength, noise.redraw, noise.relative) == (1, "step", False)
        assert chosen.model.statistics == "batch"

    def test_settings_are_plain_values(self, settings):
        chosen = settings("model.head=512", "optim.lr=1", "logger.tags=[a,b]")
        assert (chosen.model.head, chosen.optim.lr, chosen.logger.tags) == ("512", 1.0, ["a", "b"])
        assert type(chosen.optim.lr) is float and type(chosen.logger.tags) is list


def test_settings_of_an_incomplete_configuration_are_refused(composed):
    config = OmegaConf.masked_copy(composed(), ["model", "seed"])
    with pytest.raises(Exception, match=r"[Mm]issing mandatory"):
        settings_of(config)
