"""What probes write in real trainings of tiny networks."""

import polars
import pytest
import torch

from src.callbacks import probing
from tests.callbacks.trained import table


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


def test_activations_of_no_unit_by_itself(run):
    rows = table(run("run", "probes=activations", "probes.units=0"), "activations")
    assert rows["unit"].is_null().all() and rows["step"].unique().to_list() == [0, 1, 2]
    assert rows["variance"].is_finite().all()
