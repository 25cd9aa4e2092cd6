"""Choices that act where the network meets its data and its training."""

from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version

import polars
import pytest
import torch

from src import fit, models
from src.callbacks import probing
from src.data import feed
from src.data.dataset import DataError
from src.data.digits import digits
from src.data.loader import Batches
from src.data.transforms import Normaliser
from src.models.clock import Clock
from src.models.evaluation import evaluate, without_noise
from src.models.network import Classifier
from src.runs.folder import RunFolder
from src.runs.needs import needs
from src.training import train

TINY = (
    *("data=digits", "scale=smoke", "logger=none", "model.depth=11", "model.width=0.04"),
    *("data.batch_size=16", "log_every=1", "eval_every=3", "noise.passes=1", "accelerator=cpu"),
    *("threads=1", "keep_checkpoints=true", "probes.every=1", "probes.fixed_batches=1"),
)


@pytest.fixture
def run(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(feed, "TRAIN_EVAL_IMAGES", 32)

    def made(name, *overrides, ended=None):
        chosen = settings(*TINY, *overrides)
        folder = RunFolder(tmp_path / name)
        folder.path.mkdir(exist_ok=True)
        assert train(chosen, needs(chosen), folder, name, {}, ended) == "completed"
        return folder

    return made


def saved(folder):
    return torch.load(folder.checkpoints()[0])["state_dict"]


@pytest.mark.parametrize(("model", "gain"), [("vgg", 1.0), ("vgg_bn", 1.0), ("vgg", 2.0)])
def test_unit_variance_is_that_of_the_first_batch(run, settings, tmp_path, model, gain):
    options = (f"model={model}", "init=unit_variance", "max_steps=1", "optim.lr=1e-30")
    options += (f"init.gain={gain}",)
    state = saved(run("run", *options))
    chosen = settings(*TINY, *options)
    network = models.build(chosen, 10)
    network.load_state_dict(state)
    dataset = digits()
    normaliser = Normaliser(dataset.mean, dataset.std, True, False, torch.device("cpu"))
    batches = Batches(
        dataset.train_images, dataset.train_labels, 16, steps=1, seed=0, normaliser=normaliser
    )
    x, _ = batches.batch(0)
    for name, module in network.network.named_children():
        if name.startswith("norm"):
            continue
        if name.startswith(("conv", "linear")):
            module.weight.data.div_(gain)
        x = module(x)
        if name.startswith(("conv", "linear")):
            assert x.var(correction=0).item() == pytest.approx(1, rel=1e-4), name


def test_unit_variance_is_set_at_the_start_alone(run, monkeypatch):
    scaled = []
    monkeypatch.setattr(fit, "scale_to_unit_variance", lambda *args: scaled.append(args))
    options = ("model=vgg", "init=unit_variance", "max_steps=4", "checkpoint_every=2")
    killed_and_resumed(run, monkeypatch, *options)
    assert len(scaled) == 1


def killed(run, monkeypatch, *options):
    """Leave a run that was killed after its third step, with the checkpoint of the second."""
    real = probing.Probing.on_train_batch_end

    def dies(self, trainer, *arguments):
        real(self, trainer, *arguments)
        if trainer.global_step == 3:
            raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(probing.Probing, "on_train_batch_end", dies)
        with pytest.raises(RuntimeError, match="killed"):
            run("killed", *options)


def killed_and_resumed(run, monkeypatch, *options):
    killed(run, monkeypatch, *options)
    return run("killed", *options)


@pytest.mark.parametrize(
    "choice",
    ["model.statistics=running", "model.statistics=detached", "noise=fixed", "precision=64-true"],
)
def test_a_resumed_run_ends_as_one_never_killed(run, monkeypatch, choice):
    options = ("model=vgg_noisy", choice, "max_steps=4", "checkpoint_every=2", "optim.lr=0.01")
    whole, resumed = run("whole", *options), killed_and_resumed(run, monkeypatch, *options)
    ours, theirs = saved(whole), saved(resumed)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_noise_and_dropout_are_drawn_anew_at_each_step(run, monkeypatch):
    drawn = set()
    real = Clock.key

    def hear(self, purpose, layer):
        drawn.add((key := real(self, purpose, layer))[1:3])
        return key

    monkeypatch.setattr(Clock, "key", hear)
    run("run", "model=vgg_noisy", "model.dropout=0.5", "max_steps=3")
    training = {(purpose, step) for purpose, step in drawn if not purpose.endswith("_eval")}
    assert training == {(purpose, step) for purpose in ("noise", "dropout") for step in range(3)}


def test_mixed_precision_is_that_of_training_and_of_evaluation(run, monkeypatch):
    seen = set()
    real = Classifier.loss

    def hear(self, output, target):
        seen.add((self.training, output.dtype))
        return real(self, output, target)

    monkeypatch.setattr(Classifier, "loss", hear)
    run("run", "model=vgg", "max_steps=1", "precision=bf16-mixed")
    assert seen == {(True, torch.bfloat16), (False, torch.bfloat16)}


@pytest.mark.parametrize("lost", ["norms", "ics"])
def test_a_run_whose_table_was_lost_begins_anew(run, monkeypatch, caplog, lost):
    options = ("model=vgg", "probes=ics", "probes.every=1", "log_every=1", "max_steps=4")
    whole = run("whole", *options)
    killed(run, monkeypatch, *options, "checkpoint_every=2")
    table = whole.path.with_name("killed") / f"{lost}.parquet"
    table.unlink()
    again = run("killed", *options, "checkpoint_every=2")
    assert f"{table} is damaged or gone: the run begins anew" in caplog.text
    assert polars.read_parquet(again.path / table.name).equals(
        polars.read_parquet(whole.path / table.name)
    )


@pytest.mark.parametrize(("probe", "kept"), [("ics", True), ("landscape", False)])
def test_time_spent_on_what_is_trained_again_is_not_counted(
    run, tmp_path, monkeypatch, probe, kept
):
    options = ("model=vgg", "max_steps=4", "checkpoint_every=2")
    killed(run, monkeypatch, *options, "probes=ics")
    RunFolder(tmp_path / "killed").update_status(seconds=1e6)
    assert (run("killed", *options, f"probes={probe}").status()["seconds"] > 1e6) == kept


def test_a_run_whose_records_are_to_come_at_other_steps_begins_anew(run, monkeypatch):
    options = ("model=vgg", "max_steps=4", "checkpoint_every=2", "log_every=1")
    killed(run, monkeypatch, *options, "eval_every=3")
    again = run("killed", *options, "eval_every=1")
    rows = polars.read_parquet(again.path / "metrics.parquet")
    assert rows.filter(name="val/loss")["step"].to_list() == [1, 2, 3, 4]


def test_a_run_that_goes_on_elsewhere_says_so(run, monkeypatch, caplog):
    options = ("model=vgg", "max_steps=4", "checkpoint_every=2")
    stayed = killed_and_resumed(run, monkeypatch, *options)
    assert stayed.status()["moved"] is None and "elsewhere" not in caplog.text
    stayed.path.rename(stayed.path.with_name("stayed"))
    killed(run, monkeypatch, *options)
    monkeypatch.setattr(fit, "versions", lambda: {"torch": "2.99"})
    here = torch.backends.cpu.get_cpu_capability()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "NONE")
    moved = run("killed", *options, "threads=2").status()["moved"]
    changed = (f"instructions: {here}, then NONE", "threads: 1, then 2")
    assert moved == "; ".join([*changed, f"torch: {version('torch')}, then 2.99"])
    assert f"killed goes on elsewhere ({moved}): no longer to the last bit" in caplog.text


def test_an_evaluation_without_noise_has_statistics_without_it(run, settings):
    options = ("model=vgg_noisy", "max_steps=3", "optim.lr=0.01", "noise.evaluation='off'")
    folder = run("run", *options)
    chosen = settings(*TINY, *options)
    fed = feed.feed(chosen, torch.device("cpu"), True, start=lambda: 0)
    model = models.build(chosen, 10).to(memory_format=torch.channels_last)
    model.load_state_dict(saved(folder))
    with without_noise(model, fed.fixed):
        expected = evaluate(model, fed.test)
    assert folder.final_metrics()["val/loss"] == pytest.approx(expected["loss"], rel=1e-5)
    on = run("on", *options[:-1]).final_metrics()["val/loss"]
    assert on != pytest.approx(expected["loss"], rel=1e-3)


@pytest.fixture
def other_data(monkeypatch):
    real = fit.feed

    @contextmanager
    def patched():
        with monkeypatch.context() as patch:
            patch.setattr(fit, "feed", lambda *a, **k: replace(real(*a, **k), variant="others"))
            yield

    return patched


def test_a_run_goes_on_with_the_data_it_was_begun_with(run, monkeypatch, other_data):
    options = ("model=vgg", "max_steps=4", "checkpoint_every=2")
    killed(run, monkeypatch, *options)
    with other_data(), pytest.raises(DataError, match=r"then others\): give it that again"):
        run("killed", *options)
    assert run("killed", *options).status()["data"].startswith("digits")


def test_a_run_made_again_is_the_same_training_only_in_the_same_place(run, other_data):
    options = ("model=vgg", "max_steps=2")
    ended = run("ended", *options).status() | {"started": 1.0}
    assert run("again", *options, ended=ended).status()["started"] == 1.0
    elsewhere = run("elsewhere", *options, "threads=2", ended=ended).status()
    assert elsewhere["started"] > 1e9 and elsewhere["moved"] is None
    with other_data(), pytest.raises(DataError, match=r"begun with other data \(data: digits"):
        run("others", *options, ended=ended)


def test_probes_look_at_the_statistics_held_constant_and_leave_them(run):
    options = ("model=vgg_bn", "model.statistics=running", "max_steps=3", "optim.lr=0.01")
    plain, probed = run("plain", *options), run("probed", *options, "probes=all")
    ours, theirs = saved(plain), saved(probed)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert int(ours["network.norm1.num_batches_tracked"]) == 3
    assert probed.status()["probe_failures"] == {}
    assert polars.read_parquet(probed.path / "theory.parquet").is_empty()
    loss = polars.read_parquet(probed.path / "metrics.parquet").filter(
        polars.col("name") == "train/loss"
    )
    rows = polars.read_parquet(probed.path / "landscape.parquet").join(loss, "step")
    torch.testing.assert_close(
        rows["loss_at_zero"].to_torch(), rows["value"].to_torch(), rtol=1e-5, atol=0
    )


def test_theory_looks_at_batch_norm_without_gamma_too(run):
    probed = run("run", "model=vgg_bn", "model.affine=false", "max_steps=1", "probes=theory")
    assert probed.status()["probe_failures"] == {}
    theory = polars.read_parquet(probed.path / "theory.parquet")
    assert theory["layer"].unique().sort().to_list() == list(range(1, 11))
