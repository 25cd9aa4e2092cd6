import polars
import pytest
import torch

from src import models
from src.data.linear import linear
from tests.callbacks.trained import table


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
