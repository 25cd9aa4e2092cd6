import json

import pytest

from src.runs.needs import merged, met, needs


@pytest.fixture
def asked(settings):
    return lambda *overrides: needs(settings(*overrides))


def test_each_probe_has_its_settings(asked):
    wanted = asked("probes=paper", "probes.every=7", "probes.layers=[1,2]")
    assert list(wanted) == ["ics", "landscape", "activations"]
    assert {chosen["every"] for chosen in wanted.values()} == {7}
    assert wanted["ics"]["layers"] == wanted["activations"]["layers"] == [1, 2]
    assert "layers" not in wanted["landscape"] and "which" not in wanted["ics"]
    assert asked() == asked("probes=none") == {}


def test_needs_survive_json(asked):
    wanted = asked("probes=all")
    assert json.loads(json.dumps(wanted)) == wanted


@pytest.mark.parametrize(
    ("have", "want", "serves"),
    [(5, 10, True), (20, 10, False), (10, 10, True), (1, 7, True), (3, 10, False)],
)
def test_a_cadence_serves_its_multiples(asked, have, want, serves):
    have, want = (asked("probes=ics", f"probes.every={every}") for every in (have, want))
    assert met(have, want) == serves


HEEDED = {
    "probes.layers=[1]": {"ics", "activations", "theory"},
    "probes.units=3": {"activations", "theory"},
    "probes.batch=fixed": {"ics", "landscape", "activations", "curvature", "theory"},
    "probes.fixed_batches=1": {"curvature"},
    "probes.precision=float64": {"ics", "landscape", "activations", "curvature", "theory"},
    "probes.objective=penalised": {"ics", "landscape", "curvature"},
    "probes.update=gradient": {"ics"},
    "probes.step_sizes=[1.0]": {"landscape"},
    "probes.step_sizes_are=absolute": {"landscape"},
    "probes.metrics=[euclidean]": {"landscape"},
    "probes.directions=[random]": {"landscape"},
}


# Those of them that ask for less than there is. All layers are, of the activations, all but one.
LESS = {
    "probes.metrics=[euclidean]": {"landscape"},
    "probes.layers=[1]": {"ics", "theory"},
    "probes.units=3": {"activations"},
}


@pytest.mark.parametrize("override", HEEDED)
def test_what_a_probe_heeds_must_be_there(asked, override):
    have, want = asked("probes=all"), asked("probes=all", override)
    assert {probe for probe in want if have[probe] != want[probe]} == HEEDED[override]
    for probe in want:
        served = probe not in HEEDED[override] or probe in LESS.get(override, ())
        assert met(have, {probe: want[probe]}) == served


def test_every_probe_wanted_must_be_there(asked):
    both = asked("probes=paper")
    assert met(both, {}) and met({}, {}) and met(both, asked("probes=ics"))
    assert not met(asked("probes=ics"), both) and not met({}, asked("probes=ics"))


def test_what_is_gathered_serves_all(asked):
    have = asked("probes=ics", "probes.every=15")
    want = asked("probes=paper", "probes.every=10")
    both = merged(have, want)
    assert met(both, have) and met(both, want) and both["ics"]["every"] == 5
    assert merged(both, have) == merged(both, want) == merged({}, both) == merged(both, {}) == both


def test_of_settings_that_exclude_each_other_the_wanted_stay(asked):
    have = asked("probes=paper", "probes.every=5")
    want = asked("probes=ics", "probes.precision=float64")
    both = merged(have, want)
    assert both == have | want and met(both, asked("probes=landscape", "probes.every=5"))


@pytest.mark.parametrize("key", ["metrics", "directions"])
def test_rows_asked_for_one_by_one_add_up(asked, key):
    entries = {"metrics": ("euclidean", "relative"), "directions": ("gradient", "random")}
    first, second = entries[key]
    one, other, both = (
        asked("probes=landscape", f"probes.{key}=[{wanted}]")
        for wanted in (first, second, f"{second},{first}")
    )
    assert met(both, one) and met(both, other) and not met(one, both) and not met(one, other)
    together = merged(one, other)
    assert met(together, both) and merged(together, one) == together


def test_layers_add_up_and_all_of_them_hold_each(asked):
    every, one, two, both = (
        asked("probes=paper_theory", f"probes.layers=[{layers}]")
        for layers in ("", "2", "5", "5,2")
    )
    assert met(both, one) and met(both, two) and not met(one, two)
    assert met(merged(one, two), both) and merged(merged(one, two), one) == merged(one, two)
    for have, want in ((every, one), (one, every)):
        together = merged(have, want)
        assert met(together, every | {"activations": want["activations"]})
        assert met(together, one | {"activations": want["activations"]})
        assert together["activations"] == want["activations"], "the last layer is in no []"


def test_units_are_the_first_of_as_many_as_were_asked_for(asked):
    few, many = (asked("probes=paper_theory", f"probes.units={units}") for units in (3, 8))
    together = merged(many, few)
    assert together["activations"] == many["activations"] and together["theory"] == few["theory"]
    assert met(merged(few, many), many)


def test_a_metric_held_stays_when_other_settings_change(asked):
    held = asked("probes=landscape", "probes.metrics=[euclidean,relative]")
    wanted = asked("probes=landscape", "probes.step_sizes=[0.01]")
    together = merged(held, wanted)
    assert met(together, wanted) and not met(together, held)
    assert together["landscape"]["metrics"] == ["euclidean", "relative"]
