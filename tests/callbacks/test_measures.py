"""From a probe's tensors to rows."""

from dataclasses import replace

import polars
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from src import models
from src.callbacks import measures
from src.callbacks.measures import MEASURES, View
from src.data.digits import digits
from src.data.transforms import Normaliser
from src.probes import curvature
from src.probes import landscape as probe
from src.probes.evaluation import penalty
from src.probes.shift import internal_covariate_shift
from src.probes.theory import at_layer
from src.randomness import generator
from src.runs.tables import COLUMNS


class Reads(TorchDispatchMode):
    """Counts the numbers read off tensors one by one: each would make a GPU wait."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        Reads.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.fixture
def view(settings, tmp_path):
    small = ("model.depth=11", "model.width=0.04", "probes.precision=float64")
    chosen = settings("data=digits", "model=vgg_noisy", *small)
    model = models.build(chosen, classes=10).double()
    dataset = digits()
    images = Normaliser(dataset.mean, dataset.std)(dataset.train_images[:16])
    batch = images.double(), dataset.train_labels[:16]
    loss = model.loss(model.network(batch[0]), batch[1])
    loss.backward()
    before = {name: p.detach().clone() for name, p in model.network.named_parameters()}
    gradient = {name: p.grad for name, p in model.network.named_parameters()}
    return View(
        step=0,
        network=model.network,
        loss_fn=model.loss,
        batch=batch,
        before=before,
        after={name: p - 0.1 * gradient[name] for name, p in before.items()},
        loss=loss.detach(),
        gradient=gradient,
        lr=0.1,
        weight_decay=0.0,
        seed=0,
        fixed=lambda: [batch],
        exact=True,
    ), chosen.probes


@pytest.fixture
def table(view):
    """A probe's rows as its table, under some settings and of some other view."""

    def made(name, seen=None, **chosen):
        rows = MEASURES[name](seen or view[0], replace(view[1], **chosen))
        return polars.DataFrame(rows, COLUMNS[name], orient="row")

    return made


def assert_equal(found, expected):
    for name, values in expected.items():
        torch.testing.assert_close(found[name].to_torch(), values, rtol=1e-9, atol=1e-12)


def of(view):
    return view.network, view.loss_fn, view.batch, view.before


class TestRows:
    """Each column holds what its name says, as the probe gives it."""

    @pytest.mark.parametrize("update", ["optimiser", "gradient"])
    def test_shift(self, view, table, update):
        seen, _ = view
        shift = internal_covariate_shift(*of(seen), seen.after)
        if update == "gradient":  # then what the optimiser made of it does not matter
            seen = replace(seen, after={name: p + 1 for name, p in seen.after.items()})
        found = table("ics", seen, update=update)
        columns = ("l2", "cosine", "relative", "grad_norm", "grad_norm_after")
        assert_equal(found, {name: getattr(shift, name) for name in columns})
        assert_equal(
            found, {"weight_norm": torch.stack([seen.before[n].norm() for n in shift.names])}
        )
        assert found["name"].to_list() == shift.names
        assert found["layer"].to_list() == list(range(1, len(shift.names) + 1))
        assert len(set(found["l2"])) == len(found) and shift.l2[1:].min() > 0

    @pytest.mark.parametrize("metric", ["euclidean", "relative"])
    def test_landscape(self, view, table, metric):
        seen, _ = view
        sizes = [0.5 * seen.lr, 4 * seen.lr]
        landscape = probe.landscape(*of(seen), sizes, metric=metric, matched=metric == "relative")
        found = table("landscape", step_sizes=[0.5, 4.0], metrics=[metric])
        columns = ("eta", "loss", "grad_norm_at", "grad_diff", "cosine", "beta")
        assert_equal(found, {name: getattr(landscape, name) for name in columns})
        whole = ("loss_at_zero", "grad_norm", "weight_norm")
        assert_equal(found, {name: getattr(landscape, name).expand(2) for name in whole})
        assert set(found["metric"]) == {metric} and set(found["direction"]) == {"gradient"}

    @pytest.mark.parametrize("metric", ["euclidean", "relative"])
    def test_a_random_direction_is_as_long_as_the_gradient_and_another_at_each_step(
        self, view, table, metric
    ):
        seen, _ = view
        chosen = {"step_sizes": [1.0], "metrics": [metric]}
        others = (replace(seen, step=1), replace(seen, seed=1))
        first, again, *later = (
            table("landscape", at, directions=["random"], **chosen) for at in (seen, seen, *others)
        )
        walked = first["grad_diff"][0] / first["beta"][0]
        assert walked == pytest.approx(first["eta"][0] * first["grad_norm"][0])
        assert first.equals(again)
        losses = [found["loss"][0] for found in (first, *later, table("landscape", **chosen))]
        assert len(set(losses)) == 4

    def test_a_random_direction_is_drawn_alike_in_what_the_metric_measures(self, view, monkeypatch):
        """A step along it moves each parameter by the same, in multiples of its own norm."""
        seen, settings = view
        given = {}
        real = measures.landscape_probe

        def hear(model, loss_fn, batch, params, sizes, direction, metric, **others):
            given[metric] = direction
            return real(model, loss_fn, batch, params, sizes, direction, metric, **others)

        monkeypatch.setattr(measures, "landscape_probe", hear)
        chosen = replace(settings, directions=["random"], metrics=["euclidean", "relative"])
        MEASURES["landscape"](seen, chosen)
        drawn = {n: given["relative"][n] * p.norm() for n, p in seen.before.items()}
        moving = [name for name, p in seen.before.items() if p.norm() > 0]
        ratios = torch.cat([(drawn[n] / given["euclidean"][n]).flatten() for n in moving])
        torch.testing.assert_close(ratios, ratios[:1].expand_as(ratios))
        assert all(given["relative"][n].count_nonzero() == 0 for n in drawn if n not in moving)

    @pytest.mark.parametrize("exact", [True, False])
    def test_the_penalty_is_part_of_the_loss_of_every_probe(self, view, table, exact):
        plain, _ = view
        decay, theta = 0.07, plain.before
        seen = replace(
            plain,
            exact=exact,
            weight_decay=decay,
            loss=plain.loss + penalty(theta, decay),
            gradient={n: g + decay * theta[n] for n, g in plain.gradient.items()},
        )
        landscape = probe.landscape(*of(seen), [0.1], weight_decay=decay)
        for name in ("loss", "loss_at_zero", "grad_norm", "grad_norm_at", "grad_diff"):
            value = table("landscape", seen, step_sizes=[1.0])[name][0]
            assert value == pytest.approx(float(getattr(landscape, name)), rel=1e-4), name
        top = [
            table("curvature", at).filter(quantity="largest_eigenvalue")["value"][0]
            for at in (plain, seen)
        ]
        assert top[1] - top[0] == pytest.approx(decay, rel=0.2)
        along = curvature.along_gradient(*of(seen), decay)
        (found,) = table("curvature", seen).filter(quantity="gradient_curvature")["value"]
        assert found == pytest.approx(float(along.curvature), rel=1e-4)

    def test_activations(self, view, table):
        seen, _ = view
        found, heard = table("activations", units=2), {}
        for name, module in seen.network.named_children():
            module.register_forward_hook(
                lambda _, given, output, name=name: heard.update({name: (given[0], output)})
            )
        seen.network(seen.batch[0])
        for layer in (1, 9):
            linear = "conv" if layer == 1 else "linear"
            sites = {"before_norm": f"{linear}{layer}", "after_norm": f"norm{layer}"}
            entering = heard[f"activation{layer}"][0]
            for site, name in {**sites, "after_noise": f"noise{layer}"}.items():
                values = heard[name][1].detach()
                assert site != "after_noise" or values.equal(entering)
                rows = found.filter(layer=layer, site=site)
                whole, *units = rows.iter_rows(named=True)
                assert whole["unit"] is None and {row["name"] for row in rows.to_dicts()} == {name}
                parts = [values, *(values[:, row["unit"]] for row in units)]
                assert_equal(rows, {"mean": torch.stack([part.mean() for part in parts])})
                variances = torch.stack([part.var(correction=0) for part in parts])
                assert_equal(rows, {"variance": variances})
                for name, share in (("q15", 0.15), ("q50", 0.5), ("q85", 0.85)):
                    for row, part in zip((whole, *units), parts, strict=True):
                        low, high = (
                            float(part.flatten().quantile(share, interpolation=side))
                            for side in ("lower", "higher")
                        )
                        bin_ = (row["edges"][-1] - row["edges"][0]) / 128
                        assert low - bin_ <= row[name] <= high + bin_, name
                assert [sum(counts) for counts in rows["counts"]] == [p.numel() for p in parts]
                assert len(units) == 2 and all(len(row["edges"]) == 129 for row in units)

    def test_activations_are_of_the_same_units_at_every_step_and_not_of_the_last_layer(
        self, view, table
    ):
        seen, _ = view
        now, later, other = (
            table("activations", at, units=2)
            for at in (seen, replace(seen, step=1), replace(seen, seed=1))
        )
        about = ("layer", "site", "unit")
        assert now.select(about).equals(later.select(about))
        assert not now.select(about).equals(other.select(about))
        layers = [name for name in seen.before if name.endswith("weight") and "norm" not in name]
        assert now["layer"].max() == len(layers) - 1

    def test_what_is_not_finite_has_no_histogram(self, view, table):
        seen, _ = view
        images = seen.batch[0].clone()
        images[0] = torch.nan
        found = table("activations", replace(seen, batch=(images, seen.batch[1])))
        assert found["edges"].is_null().all() and found["counts"].is_null().all()
        assert found["mean"].is_nan().all()

    def test_curvature(self, view, table):
        seen, _ = view
        along = curvature.along_gradient(*of(seen))
        stream = generator(seen.seed, "probe", "lanczos", seen.step)
        top = curvature.largest_eigenvalue(
            seen.network, seen.loss_fn, seen.fixed(), seen.before, stream
        )
        found = {row["quantity"]: row for row in table("curvature").to_dicts()}
        expected = {
            "gradient_curvature": along.curvature,
            "gradient_smoothness": along.smoothness,
            "largest_eigenvalue": top.value,
        }
        assert len(found) == 6 and len(set(map(float, expected.values()))) == 3
        for name, value in expected.items():
            assert found[name]["value"] == pytest.approx(float(value))
            assert found[f"{name}_times_lr"]["value"] == pytest.approx(seen.lr * float(value))
        assert found["largest_eigenvalue"]["error"] == pytest.approx(float(top.error))

    def test_theory(self, view, table):
        seen, _ = view
        found = table("theory", layers=[3], units=2)
        first, second = at_layer(*of(seen), "norm3", [0, 1])
        plain = first.plain.sum()
        weights = first.plain / plain
        expected = {
            "gradient_left": first.left.sum(),
            "gradient_right": first.left.sum(),  # an identity, up to epsilon
            "gradient_ratio": first.left.sum() / plain,
            "factor": first.factor.median(),
            "factor_weighted": weights @ first.factor,
            "mean_share": weights @ first.mean,
            "correlation_share": weights @ first.correlation,
            "curvature_left": second.left.sum(),
            "curvature_form": second.form.sum(),
            "curvature_factored_form": (second.factor * second.form).sum(),
            "curvature_correction": second.correction.sum(),
            "preconditions_hold": second.holds.double().mean(),
        }
        rows = {row["quantity"]: row["value"] for row in found.to_dicts()}
        assert rows == {name: pytest.approx(float(v), rel=1e-3) for name, v in expected.items()}
        assert rows["mean_share"] != pytest.approx(rows["correlation_share"], rel=0.1)
        assert rows["factor"] != pytest.approx(rows["factor_weighted"], rel=0.01)

    def test_theory_is_of_no_norm_whose_statistics_are_constants(self, view, table, monkeypatch):
        monkeypatch.setattr(view[0].network.norm3, "detached", True, raising=False)
        assert table("theory", layers=[3], units=2).is_empty()

    def test_theory_leaves_dead_units_out(self, view, table):
        seen, _ = view
        bias = seen.before["norm3.bias"].clone()
        bias[:2] = -50.0
        seen = replace(seen, before=seen.before | {"norm3.bias": bias})
        first, second = at_layer(*of(seen), "norm3", range(4))
        alive = first.plain > 0
        assert alive.tolist()[:3] == [False, False, True]
        weights = first.plain[alive] / first.plain.sum()
        expected = {
            "factor": first.factor[alive].median(),
            "mean_share": weights @ first.mean[alive],
            "correlation_share": weights @ first.correlation[alive],
            "gradient_right": first.left.sum(),
            "preconditions_hold": second.holds[alive[:4]].double().mean(),
        }
        found = table("theory", seen, layers=[3], units=4)
        rows = {row["quantity"]: row["value"] for row in found.to_dicts()}
        for name, value in expected.items():
            assert rows[name] == pytest.approx(float(value), rel=1e-3), name


@pytest.mark.parametrize("name", ["ics", "landscape"])
def test_a_probe_waits_once_for_its_numbers(name, view, monkeypatch):
    lists = []
    tolist = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda t: lists.append(1) or tolist(t))
    Reads.count = 0
    with Reads():
        assert torch.ones(1).item() == 1 and Reads.count == 1  # it does see them
        rows = MEASURES[name](*view)
    assert rows and Reads.count == 1 and len(lists) == 1


def test_the_step_s_own_gradient_saves_the_landscape_an_evaluation(view):
    exact, settings = view
    passes = []
    exact.network.register_forward_hook(lambda *_: passes.append(1))
    own = MEASURES["landscape"](exact, settings)
    taken = len(passes)
    evaluated = MEASURES["landscape"](replace(exact, exact=False), settings)
    assert taken == len(settings.step_sizes) and len(passes) == 2 * taken + 1
    for one, other in zip(own, evaluated, strict=True):
        assert one[:3] == other[:3] and one[3:] == pytest.approx(other[3:], rel=1e-4)
