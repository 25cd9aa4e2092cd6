from pathlib import Path

import pytest

from src.analysis.claims import judging, rules
from src.analysis.claims.registry import CLAIMS
from src.analysis.claims.rulebook import FILE, Rule
from src.catalogue import PROBES

SWEEPS = {path.stem: path for path in (Path(__file__).parents[3] / "sweeps").glob("*.yaml")}


@pytest.fixture(params=rules().claims.values(), ids=rules().claims)
def rule(request: pytest.FixtureRequest) -> Rule:
    return request.param


def test_each_rule_has_a_function_and_each_function_a_rule():
    assert set(CLAIMS) == set(rules().claims)


def test_at_most_six_are_confirmatory():
    assert 1 <= sum(rule.confirmatory for rule in rules().claims.values()) <= 6


def test_says_all_there_is_to_say(rule):
    for field in ("sentence", "source", "quantity", "rule", "would_change", "figure"):
        assert getattr(rule, field).strip()
    assert rule.sentence.endswith(".") and rule.models
    assert rule.paper is None or any(c.isdigit() for c in rule.paper)


def test_names_a_probe(rule):
    assert rule.table is None or rule.table in PROBES


def test_settings_are_those_its_function_takes(rule):
    code = CLAIMS[rule.id].__code__
    takes = set(code.co_varnames[1 : code.co_argcount])
    for scale in rules().scales:
        assert set(rule.at(scale)) == takes
        assert not any(isinstance(value, dict) for value in rule.at(scale).values())


def test_settings_differ_by_scale():
    rule = rules().claims["faster_training"]
    assert rule.at("small")["levels"] == [0.4, 0.5, 0.6, 0.7]
    assert rule.at("paper")["levels"] == [0.6, 0.8, 0.9, 0.95]


def test_defaults_are_those_of_the_command_line(composed):
    """Those of keys that exist: others come with what has yet to be built."""
    by_group = composed()
    for key, value in rules().defaults.items():
        group, _, name = key.partition(".")
        if group != "probes" and name in (by_group[group] if name else {}):
            assert by_group[group][name] == value, key


def test_hash_is_of_the_file_and_changes_with_it(tmp_path, monkeypatch):
    before = rules().hash
    copy = Path(tmp_path / "rules.yaml")
    copy.write_bytes(FILE.read_bytes().replace(b"margin: 1.25", b"margin: 1.26"))
    monkeypatch.setattr("src.analysis.claims.rulebook.FILE", copy)
    rules.cache_clear()
    try:
        after = rules().hash
        assert rules().claims["shift_vgg"].settings["margin"] == 1.26
    finally:
        monkeypatch.undo()
        rules.cache_clear()
    assert after != before == rules().hash and len(before) == 12


def test_a_claim_may_be_fixed_later_than_the_file(tmp_path, monkeypatch):
    text = FILE.read_text().replace(
        "  faster_training:", "  faster_training:\n    fixed: 2033-05-18T03:33:20Z"
    )
    (tmp_path / "rules.yaml").write_text(text)
    monkeypatch.setattr("src.analysis.claims.rulebook.FILE", tmp_path / "rules.yaml")
    rules.cache_clear()
    try:
        claims = rules().claims
        assert claims["faster_training"].fixed == 2e9 > claims["trains_at_half"].fixed
    finally:
        monkeypatch.undo()
        rules.cache_clear()


def test_a_claim_s_family_is_its_file():
    for rule in rules().claims.values():
        assert CLAIMS[rule.id].__module__.rpartition(".")[2] in judging.FAMILIES
