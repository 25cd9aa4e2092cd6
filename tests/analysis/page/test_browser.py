"""The page in a real browser: nothing fails, claims are seen, runs can be filtered and sorted."""

import re
import shutil
import subprocess
from collections.abc import Callable

import pytest

from src.analysis.page.html import html
from src.analysis.page.report import compiled

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no chromium (Debian: apt-get install chromium)"
)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom"),
)

Opened = Callable[..., tuple[str, list[str]]]


@pytest.fixture(scope="module")
def opened(run, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """Opens the page, runs a script in it, and returns what it then holds and the console's lines.

    The page's own policy forbids any script but its own, so a test's script takes the policy away.
    """
    root = tmp_path_factory.mktemp("browser")
    for model in ("vgg", "vgg_bn"):
        for lr in (0.01, 0.1, 0.5):
            tables = ("metrics", "landscape") if lr == 0.1 else ("metrics",)
            ends = 40 if (model, lr) == ("vgg", 0.5) else None
            run(root / "runs", model, lr, steps=500, tables=tables, diverged_at=ends)
    text = html(compiled(root / "runs"))

    def open_page(script: str = "") -> tuple[str, list[str]]:
        shown = text
        if script:
            shown = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
            shown = shown.replace("</body>", f"<script>{script}</script></body>")
        page = root / "page.html"
        page.write_text(shown)
        profile = tmp_path_factory.mktemp("profile")
        assert CHROMIUM is not None
        done = subprocess.run(
            [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", page.as_uri()],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    return open_page


TELL = """
const told = document.createElement("output");
told.id = "told";
told.textContent = JSON.stringify((() => { %s })());
document.body.append(told);
"""


def told(opened: Opened, script: str) -> str:
    dom, console = opened(TELL % script)
    assert not console
    found = re.search(r'<output id="told">(.*?)</output>', dom)
    assert found is not None
    return found.group(1).replace("&quot;", '"')


def test_the_page_as_it_is_says_nothing_to_the_console_and_counts_its_runs(opened: Opened) -> None:
    dom, console = opened()
    assert console == []
    assert "6 of 6 runs shown" in dom


def test_claims_and_figures_are_seen(opened: Opened) -> None:
    script = """
    const seen = e => e.checkVisibility() && e.getBoundingClientRect().height > 50;
    return [[...document.querySelectorAll("article.claim")].filter(seen).length > 5,
            [...document.querySelectorAll("figure svg")].every(seen),
            [...document.querySelectorAll(".thumbnail svg")].filter(seen).length > 0];
    """
    assert told(opened, script) == "[true,true,true]"


def test_the_filter_shows_the_runs_with_all_words(opened: Opened) -> None:
    script = """
    const filter = document.getElementById("filter");
    filter.value = "VGG_bn 0.5";
    filter.dispatchEvent(new Event("input"));
    const rows = [...document.getElementById("runs-table").tBodies[0].rows];
    const seen = rows.filter(row => row.checkVisibility());
    const count = document.getElementById("count").textContent;
    return [seen.length, seen[0].cells[1].textContent, count];
    """
    assert told(opened, script) == '[1,"vgg_bn","1 of 6 runs shown"]'


def test_a_click_on_a_heading_sorts_numbers_as_numbers_and_a_second_turns_round(opened) -> None:
    script = """
    const table = document.getElementById("runs-table");
    const head = [...table.tHead.rows[0].cells].find(cell => cell.textContent.trim() === "LR");
    const rates = () => [...table.tBodies[0].rows].map(row => Number(row.cells[2].dataset.value));
    head.querySelector("button").click();
    const up = rates(), first = head.getAttribute("aria-sort");
    head.querySelector("button").click();
    return [up[0], up[5], first, rates()[0], head.getAttribute("aria-sort")];
    """
    assert told(opened, script) == '[0.01,0.5,"ascending",0.5,"descending"]'


def test_a_phone_need_not_scroll_the_page_sideways(opened: Opened) -> None:
    script = """
    document.documentElement.style.width = "360px";
    document.body.style.width = "360px";
    return document.body.scrollWidth <= 360;
    """
    assert told(opened, script) == "true"
