"""When a network is probed, in real trainings of tiny networks."""

from contextlib import contextmanager

import polars
import pytest
import pytorch_lightning
import torch
import wandb
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import LightningEnvironment

from src import models, tracking
from src.callbacks import probing
from src.data.digits import digits
from src.data.loader import Batches
from src.data.transforms import Normaliser
from src.runs.folder import RunFolder
from tests.callbacks.trained import TINY, same, table, trained


def test_steps_are_multiples_of_the_cadence_and_the_last_activations_in_pairs(run):
    folder = run("run", "probes=paper", "probes.every=3", "max_steps=6")
    assert table(folder, "ics")["step"].unique().sort().to_list() == [0, 3, 5]
    assert table(folder, "activations")["step"].unique().sort().to_list() == [0, 1, 3, 4, 5]
    assert not table(folder, "ics").select("step", "layer").is_duplicated().any()


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


@contextmanager
def killed_after(step):
    real = probing.Probing.on_train_batch_end

    def killed(self, trainer, *arguments):
        real(self, trainer, *arguments)
        if trainer.global_step == step:
            raise RuntimeError("killed")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(probing.Probing, "on_train_batch_end", killed)
        yield


@pytest.mark.parametrize("model", ["vgg_bn", "dln_noisy", "mlp_bn"])
def test_a_killed_and_resumed_run_has_the_rows_of_one_never_killed(run, monkeypatch, model):
    probes = ("probes=paper", "probes.every=2", "max_steps=5", "checkpoint_every=2")
    probes = (f"model={model}", *probes)
    whole = run("whole", *probes)
    with killed_after(4):
        run("killed", *probes)
    trained_again, real = [], probing.Probing.on_train_batch_end

    def seen(self, trainer, *arguments):
        trained_again.append(trainer.global_step)
        real(self, trainer, *arguments)

    monkeypatch.setattr(probing.Probing, "on_train_batch_end", seen)
    resumed = run("killed", *probes)
    assert trained_again == [3, 4, 5]
    for name in ("ics", "landscape", "activations", "norms", "metrics"):
        assert table(whole, name).equals(table(resumed, name), null_equal=True)
    assert same(trained(whole), trained(resumed))


def test_a_run_begun_with_other_probes_begins_anew(run, tmp_path):
    with killed_after(3):
        run("run", "probes=none", "checkpoint_every=2")
    assert RunFolder(tmp_path / "run").checkpoints()
    folder = run("run", "probes=ics")
    assert set(table(folder, "ics")["step"]) == {0, 1, 2}


def broken(view, settings):
    raise ValueError("by a test")


def test_a_probe_that_failed_is_left_out_of_a_run_that_is_resumed(run, monkeypatch):
    options = ("probes=ics", "probes.every=1", "max_steps=5", "checkpoint_every=2")
    with monkeypatch.context() as patch, killed_after(3):
        patch.setattr(probing, "MEASURES", probing.MEASURES | {"ics": broken})
        run("run", *options)
    folder = run("run", *options)
    assert folder.status()["probe_failures"] == {"ics": "failed at step 0: by a test"}
    assert table(folder, "ics").is_empty()


def test_every_failure_is_told(run, monkeypatch):
    monkeypatch.setattr(probing, "MEASURES", dict.fromkeys(probing.MEASURES, broken))
    told = run("run", "probes=paper").status()["probe_failures"]
    assert list(told) == ["ics", "landscape", "activations"]


@pytest.mark.parametrize("everywhere", [True, False])
def test_a_gradient_that_is_not_the_optimiser_s_is_noticed(run, monkeypatch, everywhere):
    """By two per cent, be it in the layer of the smallest gradient alone."""
    real = probing.Probing._view

    def tampered(*arguments):
        view = real(*arguments)
        weights = {n: float(g.norm()) for n, g in view.gradient.items() if g.dim() > 1}
        least = min(weights, key=weights.__getitem__)
        view.gradient = {
            n: 1.02 * g if everywhere or n == least else g for n, g in view.gradient.items()
        }
        return view

    monkeypatch.setattr(probing.Probing, "_view", tampered)
    told = run("run", "probes=ics").status()["probe_failures"]
    assert "not the gradient that the optimiser was given" in told["ics"]


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
