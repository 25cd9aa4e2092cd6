"""Ask whether a locked package has a known vulnerability: one that has fails."""

import json
import subprocess
import sys

_COMMAND = (
    *(sys.executable, "-m", "pip_audit", "--requirement", "requirements.lock", "--format", "json"),
    *("--require-hashes", "--disable-pip", "--progress-spinner", "off"),
)
_UNREACHED = ("ConnectionError", "ServiceError", "Timeout")


def main() -> None:
    """Print a line for each vulnerability; say so where nobody could be asked, which is no failure.

    pip-audit itself finds nothing, and is content, where its service knows none of the packages.
    """
    done = subprocess.run(_COMMAND, capture_output=True, text=True)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except ValueError:
        last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        if not any(kind in last for kind in _UNREACHED):
            raise SystemExit(done.stderr or f"pip-audit: {last}") from None
        print(f"not audited: {last}")
        return
    asked = [package for package in found if "skip_reason" not in package]
    if not asked:
        print(f"not audited: {found[0]['skip_reason']}, and so the other {len(found) - 1}")
        return
    known = [(package, flaw) for package in asked for flaw in package["vulns"]]
    for package, flaw in known:
        mended = ", ".join(flaw["fix_versions"]) or "no version yet"
        print(f"{package['name']} {package['version']}: {flaw['id']}, mended in {mended}")
    print(f"{len(asked)} of {len(found)} packages audited, {len(known)} known vulnerabilities")
    raise SystemExit(bool(known))


if __name__ == "__main__":
    main()
