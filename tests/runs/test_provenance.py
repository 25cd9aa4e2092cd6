import json
import subprocess
from importlib.metadata import version

import pytest

from src.runs import provenance as module
from src.runs.provenance import provenance, versions


def test_names_versions_machine_and_commit():
    found = provenance() | {"versions": versions()}
    assert found["versions"]["torch"] == version("torch")
    assert found["machine"]["host"]
    assert found["git"].keys() == {"commit", "dirty"}
    json.dumps(found)


@pytest.mark.parametrize(
    "error", [FileNotFoundError("git"), subprocess.CalledProcessError(128, "git")]
)
def test_commit_is_null_without_git_or_repository(monkeypatch, error):
    def fail(*arguments: object, **options: object) -> str:
        raise error

    monkeypatch.setattr(module.subprocess, "check_output", fail)
    assert provenance()["git"] == {"commit": None, "dirty": None}
