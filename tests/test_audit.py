"""The gate's audit, with a stand-in for pip-audit, whose service cannot be asked in a test."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).parents[1] / ".ci" / "audit.py"
FLAW = {"id": "CVE-1", "fix_versions": ["1.1"]}
SOUND = {"name": "sound", "version": "2.0", "vulns": []}
FLAWED = {"name": "flawed", "version": "1.0", "vulns": [FLAW]}
UNKNOWN = {"name": "unknown", "skip_reason": "unknown is not there"}


@pytest.mark.parametrize(
    ("found", "says", "code"),
    [
        ([SOUND, UNKNOWN], "1 of 2 packages audited, 0 known vulnerabilities", 0),
        ([SOUND, FLAWED], "flawed 1.0: CVE-1, mended in 1.1", 1),
        ([UNKNOWN, UNKNOWN], "not audited: unknown is not there, and so the other 1", 0),
        ("pip_audit.ConnectionError: nobody there", "not audited: pip_audit.ConnectionError", 0),
        ("pip_audit.HashError: a hash is missing", "a hash is missing", 1),
        ("", "exit code 3", 1),
    ],
)
def test_what_it_says_and_whether_it_fails(tmp_path, found, says, code):
    (tmp_path / "pip_audit.py").write_text(
        f"import sys\nsys.exit(print({json.dumps(json.dumps({'dependencies': found}))}))"
        if isinstance(found, list)
        else f"import sys\nsys.stderr.write({found!r})\nsys.exit(3)"
    )
    done = subprocess.run(
        [sys.executable, AUDIT], env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == code and says in done.stdout + done.stderr
