import pytest
import torch

from tests.callbacks.trained import table


def test_norms_are_those_of_gradient_update_and_weights(run):
    options = ("optim.momentum=0", "optim.lr=0.01", "max_steps=1")
    folder = run("run", "probes=ics", *options)
    norms, ics = table(folder, "norms"), table(folder, "ics")
    updates = (0.01 * norms["grad_norm"]).to_torch()
    torch.testing.assert_close(norms["update_norm"].to_torch(), updates, rtol=1e-3, atol=1e-7)
    both = norms.join(ics, on=["step", "name"])
    assert len(both) == len(ics) and both["layer"].equals(both["layer_right"])
    for column in ("grad_norm", "weight_norm"):
        assert both[column].to_list() == pytest.approx(both[f"{column}_right"].to_list(), rel=1e-5)
