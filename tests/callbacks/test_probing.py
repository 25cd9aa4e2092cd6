"""Probes in real trainings of tiny networks."""

import random

import numpy
import polars
import pytest
import pytorch_lightning
import torch
import wandb
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import LightningEnvironment

from src import models, tracking
from src.callbacks import probing
from src.catalogue import VARIANTS
from src.data import feed
from src.data.digits import digits
from src.data.linear import linear
from src.data.loader import Batches
from src.data.transforms import Normaliser
from src.runs.folder import RunFolder
from src.runs.needs import needs
from src.training import train

TINY = (
    *("scale=smoke", "logger=none", "max_steps=3", "log_every=1", "eval_every=100"),
    *("noise.passes=1", "keep_checkpoints=true", "accelerator=cpu", "threads=1"),
    *("probes.every=1", "probes.fixed_batches=1", "probes.units=2", "optim.momentum=0.5"),
)
NETWORKS = {
    "vgg": (
        *("data=digits", "data.batch_size=16"),
        *("model.depth=11", "model.width=0.04", "model.head=linear"),
    ),
    "dln": ("data=linear", "data.points=50", "model.layers=4"),
    "mlp": ("data=digits", "data.batch_size=16", "model.units=20"),
}
FEW_IMAGES = 32


@pytest.fixture
def run(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(feed, "TRAIN_EVAL_IMAGES", FEW_IMAGES)

    def made(name, *overrides):
        model = next((o[6:] for o in overrides if o.startswith("model=")), "vgg_bn")
        chosen = settings(*TINY, *NETWORKS[VARIANTS[model].family], *overrides)
        folder = RunFolder(tmp_path / name)
        folder.path.mkdir(exist_ok=True)
        torch.manual_seed(3)
        assert train(chosen, needs(chosen), folder, name, {}) == "completed"
        return folder

    return made


def table(folder, name):
    return polars.read_parquet(folder.path / f"{name}.parquet")


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if torch.is_tensor(one) else one == other


def trained(folder):
    saved = torch.load(folder.checkpoints()[0])
    return {key: saved[key] for key in ("state_dict", "optimizer_states", "global_step")}


def assert_untouched(run, model, *probes):
    steps = [given for given in probes if given.startswith("max_steps")]
    with pytest.MonkeyPatch.context() as patch:
        built, build = [], models.build
        patch.setattr(models, "build", lambda *given: built.append(build(*given)) or built[-1])
        streams = []
        for name, asked in (("plain", ["probes=none", *steps]), ("probed", probes)):
            random.seed(5)
            numpy.random.seed(5)
            folder = run(name, f"model={model}", *asked)
            state = numpy.random.get_state()
            streams.append((torch.get_rng_state(), random.getstate(), state[1].tolist(), state[2]))
    plain, probed = RunFolder(folder.path.with_name("plain")), folder
    assert same(*streams) and same(trained(plain), trained(probed))
    one, other = ({n: p.grad for n, p in m.named_parameters()} for m in built)
    assert same(one, other)
    for name in ("metrics", "norms"):
        assert table(plain, name).equals(table(probed, name), null_equal=True)
    return probed


@pytest.mark.parametrize("model", VARIANTS)
def test_training_is_untouched(run, model):
    steps, every = (50, 7) if model in ("vgg", "vgg_bn", "vgg_noisy", "vgg_plain_noisy") else (2, 1)
    given = (f"max_steps={steps}", f"probes.every={every}")
    probed = assert_untouched(run, model, "probes=all", *given)
    assert probed.status()["probe_failures"] == {}
    probed_at = range(0, steps, every)
    pairs = {step + next_ for step in probed_at for next_ in (0, 1)} - {steps}
    at = {name: set(probed_at) for name in ("ics", "landscape", "curvature")}
    for name, expected in (at | {"activations": pairs}).items():
        assert set(table(probed, name)["step"]) == expected


def test_also_where_a_point_overflows(run):
    probes = ("probes=landscape", "probes.step_sizes=[1e30]", "max_steps=2")
    probed = assert_untouched(run, "vgg_noisy", *probes)
    rows = table(probed, "landscape")
    assert not rows["loss"].is_finite().all() and rows["loss_at_zero"].is_finite().all()


def test_also_where_a_probe_raises(run, monkeypatch):
    real = probing.MEASURES["ics"]

    def broken(view, settings):
        if view.step == 1:
            raise ValueError("by a test")
        return real(view, settings)

    monkeypatch.setattr(probing, "MEASURES", {**probing.MEASURES, "ics": broken})
    probed = assert_untouched(run, "vgg_bn", "probes=paper")
    assert probed.status()["probe_failures"] == {"ics": "failed at step 1: by a test"}
    assert (probed.path / "train.log").read_text().count("ValueError: by a test") == 1
    assert table(probed, "ics")["step"].unique().to_list() == [0]
    assert set(table(probed, "landscape")["step"]) == {0, 1, 2}


def test_loggers_get_the_values_of_each_layer_and_the_histograms(run, monkeypatch):
    seen = []

    class Listener(Logger):
        name, version = "listener", 0

        def log_metrics(self, metrics, step=None):
            seen.append((step, metrics))

        def log_hyperparams(self, params):
            raise AssertionError("there are none")

    monkeypatch.setattr(tracking, "start", lambda *_: Listener())
    folder = run("run", "probes=paper", "max_steps=1")
    told = {name: value for step, metrics in seen if step == 0 for name, value in metrics.items()}
    for row in table(folder, "ics").iter_rows(named=True):
        assert told[f"ics/{row['layer']}/{row['name']}/l2"] == row["l2"]
    whole = table(folder, "activations").filter(polars.col("unit").is_null())
    assert len(whole) > 20
    for row in whole.iter_rows(named=True):
        about = f"activations/{row['layer']}/{row['name']}/{row['site']}"
        assert told[f"{about}/mean"] == row["mean"]
        assert told[f"{about}/histogram"] == (row["edges"], row["counts"])
        shown = tracking._shown(told[f"{about}/histogram"])
        assert isinstance(shown, wandb.Histogram) and shown.histogram == row["counts"]


def test_two_failures_are_both_told(run, monkeypatch):
    def broken(view, settings):
        raise ValueError("by a test")

    monkeypatch.setattr(probing, "MEASURES", dict.fromkeys(probing.MEASURES, broken))
    told = run("run", "probes=paper").status()["probe_failures"]
    assert list(told) == ["ics", "landscape", "activations"]


def test_a_gradient_that_is_not_the_optimiser_s_is_noticed(run, monkeypatch):
    real = probing.Probing._view

    def tampered(*arguments):
        view = real(*arguments)
        view.gradient = {name: 1.1 * g for name, g in view.gradient.items()}
        return view

    monkeypatch.setattr(probing.Probing, "_view", tampered)
    told = run("run", "probes=ics").status()["probe_failures"]
    assert "not the gradient that the optimiser was given" in told["ics"]


def test_steps_are_multiples_of_the_cadence_and_the_last_activations_in_pairs(run):
    folder = run("run", "probes=paper", "probes.every=3", "max_steps=6")
    assert table(folder, "ics")["step"].unique().sort().to_list() == [0, 3, 5]
    assert table(folder, "activations")["step"].unique().sort().to_list() == [0, 1, 3, 4, 5]
    assert not table(folder, "ics").select("step", "layer").is_duplicated().any()


@pytest.mark.parametrize("model", ["vgg_bn", "dln_noisy", "mlp_bn"])
def test_a_killed_and_resumed_run_has_the_rows_of_one_never_killed(run, monkeypatch, model):
    probes = ("probes=paper", "probes.every=2", "max_steps=5", "checkpoint_every=2")
    probes = (f"model={model}", *probes)
    whole = run("whole", *probes)
    real = probing.Probing.on_train_batch_end

    def killed(self, trainer, *arguments):
        real(self, trainer, *arguments)
        if trainer.global_step == 4:
            raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(probing.Probing, "on_train_batch_end", killed)
        with pytest.raises(RuntimeError, match="killed"):
            run("killed", *probes)
    resumed = run("killed", *probes)
    for name in ("ics", "landscape", "activations", "norms", "metrics"):
        assert table(whole, name).equals(table(resumed, name), null_equal=True)
    assert same(trained(whole), trained(resumed))


def test_base_point_and_direction_are_those_of_the_step(run, monkeypatch):
    seen = []
    real = probing.MEASURES["landscape"]

    def listen(view, settings):
        with torch.no_grad():  # where the optimiser went; statistics that move are put back
            kept = {name: b.clone() for name, b in view.network.named_buffers()}
            loss = view.loss_fn(view.network(view.batch[0]), view.batch[1])
            for name, buffer in view.network.named_buffers():
                buffer.copy_(kept[name])
        seen.append((view.step, loss.item()))
        return real(view, settings)

    monkeypatch.setattr(probing, "MEASURES", {"landscape": listen})
    plain = ("optim.momentum=0", "probes.step_sizes=[1.0]", "probes.metrics=[euclidean]")
    folder = run("run", "probes=landscape", *plain)
    rows = table(folder, "landscape")
    assert rows["eta"].to_list() == [0.1] * 3 and rows["step"].to_list() == [0, 1, 2]
    # The step itself leads from theta_t to theta_t+1: one LR along the gradient of the batch.
    assert rows["loss"].to_list() == pytest.approx([loss for _, loss in seen], rel=1e-4)
    losses = table(folder, "metrics").filter(name="train/loss")["value"].to_list()
    assert rows["loss_at_zero"].to_list() == pytest.approx(losses, rel=1e-6)


def test_step_sizes_are_multiples_of_the_learning_rate_or_absolute(run):
    sizes = ("probes=landscape", "probes.step_sizes=[0.3]", "optim.lr=0.2", "max_steps=1")
    for kind, eta in (("multiples", 0.06), ("absolute", 0.3)):
        folder = run(kind, *sizes, f"probes.step_sizes_are={kind}")
        rows = table(folder, "landscape").filter(metric="euclidean")
        assert rows["eta"].to_list() == pytest.approx([eta])


def test_the_penalty_is_measured_where_it_is_asked_for(run):
    decay = ("probes=paper", "optim.weight_decay=0.01", "max_steps=1")
    plain = run("plain", *decay)
    penalised = run("penalised", *decay, "probes.objective=penalised")
    assert plain.status()["probe_failures"] == penalised.status()["probe_failures"] == {}
    one, other = table(plain, "landscape"), table(penalised, "landscape")
    gap = 0.005 * one["weight_norm"] ** 2
    assert (other["loss_at_zero"] - one["loss_at_zero"]).to_list() == pytest.approx(
        gap.to_list(), rel=1e-4
    )
    one, other = table(plain, "ics"), table(penalised, "ics")
    assert one["l2"].to_list() == pytest.approx(other["l2"].to_list(), rel=1e-3, abs=1e-6)
    assert one["grad_norm"].to_list() != other["grad_norm"].to_list()


def test_with_gradient_accumulation_a_step_is_seen_once(settings, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        probing, "MEASURES", {"ics": lambda view, _: seen.append((view.step, view.batch[1])) or []}
    )
    chosen = settings(*TINY, "model=vgg", "probes=ics")
    dataset = digits()
    normaliser = Normaliser(dataset.mean, dataset.std)
    batches = Batches(
        dataset.train_images, dataset.train_labels, 16, steps=6, seed=0, normaliser=normaliser
    )
    callback = probing.Probing(RunFolder(tmp_path), {"ics": chosen.probes}, lambda count: [])
    trainer = pytorch_lightning.Trainer(
        max_steps=3,
        accumulate_grad_batches=2,
        callbacks=[callback],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        plugins=[LightningEnvironment()],
    )
    trainer.fit(models.build(chosen, 10), batches)
    assert [step for step, _ in seen] == [0, 1, 2]
    assert all(torch.equal(seen[i][1], batches.batch(2 * i + 1)[1]) for i in range(3))


def test_rows_agree_with_what_training_saw(run):
    folder = run("run", "model=vgg_noisy", "probes=paper", "probes.step_sizes=[0.5]")
    ics = table(folder, "ics")
    first = ics.filter(polars.col("layer") == 1)
    assert (first["l2"] == 0).all() and (ics.filter(polars.col("layer") > 1)["l2"] > 0).all()
    both = ics.join(table(folder, "norms"), on=["step", "layer", "name"], suffix="_seen")
    assert len(both) == len(ics)
    for column in ("grad_norm", "weight_norm"):
        torch.testing.assert_close(
            both[column].to_torch(), both[f"{column}_seen"].to_torch(), rtol=1e-3, atol=1e-6
        )
    loss = table(folder, "metrics").filter(polars.col("name") == "train/loss")
    rows = table(folder, "landscape").filter(polars.col("metric") == "euclidean").join(loss, "step")
    assert len(rows) == 3 and rows["eta"].unique().to_list() == [0.05]
    torch.testing.assert_close(
        rows["loss_at_zero"].to_torch(), rows["value"].to_torch(), rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed"])
def test_the_deep_linear_network_has_losses_and_no_accuracy(run, precision):
    steps = ("max_steps=4", "log_every=2", "eval_every=3", "optim.lr=1e-4")
    folder = run("run", "model=dln_bn", "probes=all", f"precision={precision}", *steps)
    assert folder.status()["probe_failures"] == {} and folder.status()["data"] == "linear"
    metrics = table(folder, "metrics")
    rows = {name: metrics.filter(polars.col("name") == name) for name in metrics["name"].unique()}
    assert {name: found["step"].to_list() for name, found in rows.items()} == {
        "train/loss": [0, 2, 3],
        "train_eval/loss": [3, 4],
    }
    assert metrics["value"].is_finite().all()
    # At step 0 the landscape's point of origin is the loss that training saw.
    zero = table(folder, "landscape").filter(polars.col("step") == 0)["loss_at_zero"]
    rough = 0.1 if precision == "bf16-mixed" else 1e-5
    assert zero.to_list() == pytest.approx([rows["train/loss"]["value"][0]] * len(zero), rel=rough)
    sizes = table(folder, "landscape").filter(metric="euclidean", step=0)["eta"].to_list()
    assert sizes == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3, 3e-3])


def test_full_batch_descent_is_that_of_a_loop_by_hand(run, settings):
    """Plain gradient descent in float64 on the half-sum of squares, by matrices alone."""
    given = ("model=dln", "precision=64-true", "optim.momentum=0", "max_steps=20", "optim.lr=1e-3")
    folder = run("run", *given)
    x, y = linear(50, 10, seed=0)
    weights = [
        m.weight.detach().double()
        for m in models.build(settings("model=dln", "model.layers=4"), None).network
    ]
    losses = []
    for _ in range(20):
        weights = [w.clone().requires_grad_() for w in weights]
        loss = (torch.linalg.multi_dot([x, *(w.T for w in weights)]) - y).square().sum() / 2
        gradients = torch.autograd.grad(loss, weights)
        losses.append(loss.item())
        weights = [(w - 1e-3 * g).detach() for w, g in zip(weights, gradients, strict=True)]
    rows = table(folder, "metrics").filter(polars.col("name") == "train/loss")
    assert rows["value"].to_list() == pytest.approx(losses, rel=1e-9)
    assert losses[-1] < 0.9 * losses[0]


def test_norms_are_those_of_gradient_update_and_weights(run, settings):
    options = ("optim.momentum=0", "optim.lr=0.01", "max_steps=1")
    folder = run("run", "probes=ics", *options)
    norms, ics = table(folder, "norms"), table(folder, "ics")
    updates = (0.01 * norms["grad_norm"]).to_torch()
    torch.testing.assert_close(norms["update_norm"].to_torch(), updates, rtol=1e-3, atol=1e-7)
    both = norms.join(ics, on=["step", "name"])
    assert len(both) == len(ics) and both["layer"].equals(both["layer_right"])
    for column in ("grad_norm", "weight_norm"):
        assert both[column].to_list() == pytest.approx(both[f"{column}_right"].to_list(), rel=1e-5)


@pytest.mark.parametrize(
    "override",
    ["probes.update=gradient", "probes.batch=fixed", "probes.precision=float64"],
)
def test_choices_are_heeded(run, override):
    plain = table(run("plain", "probes=ics"), "ics")
    folder = run("chosen", "probes=ics", override, "probes.layers=[2,3]")
    chosen = table(folder, "ics")
    assert folder.status()["probe_failures"] == {}
    assert chosen["layer"].unique().sort().to_list() == [2, 3]
    old = plain.filter(polars.col("layer").is_in([2, 3]))
    assert chosen["l2"].to_list() != old["l2"].to_list()
    if override == "probes.precision=float64":
        torch.testing.assert_close(
            chosen["grad_norm"].to_torch(), old["grad_norm"].to_torch(), rtol=1e-3, atol=0
        )


def test_probes_of_a_bf16_run_compute_in_float32(run, monkeypatch):
    seen = []
    measure = probing.MEASURES["ics"]
    monkeypatch.setattr(
        probing, "MEASURES", {"ics": lambda view, s: seen.append(view) or measure(view, s)}
    )
    folder = run("run", "probes=ics", "precision=bf16-mixed", "max_steps=1")
    assert folder.status()["probe_failures"] == {}
    assert {p.dtype for p in seen[0].before.values()} == {torch.float32}


def test_a_run_begun_with_other_probes_begins_anew(run, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(probing.Probing, "write", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run("run", "probes=none", "checkpoint_every=2")
    folder = run("run", "probes=ics")
    assert set(table(folder, "ics")["step"]) == {0, 1, 2}


def test_activations_of_no_unit_by_itself(run):
    rows = table(run("run", "probes=activations", "probes.units=0"), "activations")
    assert rows["unit"].is_null().all() and rows["step"].unique().to_list() == [0, 1, 2]
    assert rows["variance"].is_finite().all()
