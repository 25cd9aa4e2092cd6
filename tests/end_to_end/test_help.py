"""``--help``: every group and ten commands, each of which can be run as it stands."""

import re
import shlex

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from src.compose import screened, settings_of


@pytest.fixture(scope="module")
def text(shared):
    return shared("help", "--help")[1].stdout


def test_explains_every_group(text, root):
    groups = {p.name for p in (root / "conf").iterdir() if p.is_dir() and list(p.glob("*.yaml"))}
    explained = text[text.index("Groups") : text.index("The keys and their defaults")]
    for group in groups:
        assert re.search(rf"^  {group} +\S.* \S", explained, re.MULTILINE), group
        for choice in (root / "conf" / group).glob("[!_]*.yaml"):
            assert choice.stem in explained


def test_names_the_defaults(text):
    assert "lr: 0.1" in text and "batch_size: 128" in text


def test_ten_commands_that_compose(text, root, monkeypatch):
    monkeypatch.setenv("BATCHNORM_ROOT", str(root))
    commands = re.findall(r"^ +(python -m src\.train.*?)(?:   .*)?$", text, re.MULTILINE)
    assert len(commands) == 10
    for line in commands:
        overrides = [w for w in shlex.split(line)[3:] if "=" in w]
        assert screened(overrides) == []
        points = [""]
        parsed = OverridesParser.create().parse_overrides(overrides)
        singles = [o.input_line for o in parsed if not o.is_sweep_override()]
        for sweep in (o for o in parsed if o.is_sweep_override()):
            key = sweep.get_key_element()
            points = [f"{p} {key}={v}" for p in points for v in sweep.sweep_string_iterator()]
        for point in points:
            with initialize_config_dir(str(root / "conf"), version_base="1.3"):
                assert settings_of(compose("train", [*singles, *point.split()]))
