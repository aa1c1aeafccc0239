"""The page in headless Chromium: no errors, filters and sorting work, numbers equal the records."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from urllib.parse import unquote

import pytest

from elfatt_deploy.report import html

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")

BEFORE = """
window.problems = [];
window.addEventListener("error", (event) => problems.push(String(event.message)));
for (const name of ["error", "warn"]) console[name] = (...words) => problems.push(words.join(" "));
addEventListener("securitypolicyviolation", (event) => problems.push(event.violatedDirective));
"""
HELPERS = """
const texts = (name) => [...document.querySelectorAll(`[data-name="${name}"] tbody tr`)]
  .filter((row) => !row.classList.contains("off"))
  .map((row) => [...row.cells].map((cell) => cell.textContent));
const only = (filter, value) => {
  const menu = document.querySelector(`[data-filter="${filter}"]`);
  menu.querySelector("[data-none]").click();
  const box = [...menu.querySelectorAll("input")].find((one) => one.value === value);
  box.checked = true;
  box.dispatchEvent(new Event("change", { bubbles: true }));
};
const circles = (chart) =>
  document.querySelectorAll(`#chart-${chart} svg circle:not(.ring)`).length;
const sort = (name, title) => [...document.querySelectorAll(`[data-name="${name}"] th button`)]
  .find((one) => one.textContent === title).click();
const result = {};
"""


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """Return a function that opens a page, runs a script in it and gives what that found."""
    folder = tmp_path_factory.mktemp("browser")

    def run(page, script, size="1280,900"):
        page = page.replace("<style>", f"<script>{BEFORE}</script><style>", 1)
        ending = (
            f"<script>{HELPERS}\n{script}\nresult.problems = problems;\n"
            "const pre = document.createElement('pre');\npre.id = 'result';\n"
            "pre.textContent = encodeURIComponent(JSON.stringify(result));\n"
            "document.body.append(pre);</script></body>"
        )
        path = folder / "page.html"
        path.write_text(page.replace("</body>", ending), encoding="utf-8")
        command = [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            f"--user-data-dir={folder / 'profile'}", f"--window-size={size}",
            "--enable-logging=stderr", "--dump-dom", path.as_uri(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        assert "CONSOLE" not in done.stderr
        found = re.search(r'<pre id="result">(.*?)</pre>', done.stdout)
        return json.loads(unquote(found[1]))

    return run


@pytest.fixture(scope="module")
def page(damaged, report_of):
    return html.page(report_of(damaged))


def test_the_page_works_and_its_numbers_are_those_of_the_records(browse, page, damaged, report_of):
    found = browse(
        page,
        """
        result.ready = document.documentElement.dataset.ready;
        result.whole = texts("speed");
        result.drawn = circles("figure4-simulated");
        result.waters = document.querySelectorAll("svg .water").length;
        result.svgs = document.querySelectorAll("svg").length;
        only("board", "nano");
        only("precision", "fp16");
        only("mode", "MAXN");
        result.filtered = texts("speed");
        result.table9 = texts("table9");
        result.left = circles("figure4-simulated");
        sort("speed", "images/s");
        result.up = texts("speed");
        sort("speed", "images/s");
        result.down = texts("speed");
        document.getElementById("reset").click();
        result.reset = texts("speed").length;
        document.getElementById("find").value = "agent";
        document.getElementById("find").dispatchEvent(new Event("input"));
        result.found = texts("speed").map((row) => row.find((text) => text.startsWith("cswin")));
        """,
    )
    assert found["problems"] == []
    assert found["ready"] == "yes"
    report = report_of(damaged)
    (speed,) = (table for table in report.tables if table.name == "speed")
    assert found["whole"] == [[entry.text for entry in row.entries] for row in speed.rows]
    # four panels of 42 markers each, and as many of ours less the gaps
    assert 4 * 42 < found["drawn"] < 4 * (42 + 42)
    assert found["waters"] == found["svgs"]
    wanted = [
        [entry.text for entry in row.entries]
        for row in speed.rows
        if (row.facets.board, row.facets.precision, row.facets.mode) == ("nano", "fp16", "MAXN")
    ]
    assert len(wanted) == 7
    assert found["filtered"] == wanted
    assert {row[0] for row in found["table9"]} == {"mixed"}
    assert found["left"] == 2 * (7 + 7)  # two panels of mixed precision, one mode
    place = [column.title for column in speed.columns].index("images/s")
    rates = [float(row[place]) for row in found["up"]]
    assert rates == sorted(rates)
    assert [float(row[place]) for row in found["down"]] == sorted(rates, reverse=True)
    assert found["reset"] == len(speed.rows)
    assert set(found["found"]) == {"cswin_t_agent"}


def test_pointing_at_a_point_tells_its_record(browse, page, damaged):
    found = browse(
        page,
        """
        const svg = document.querySelector("#chart-figure4-simulated svg");
        svg.scrollIntoView();
        const frame = svg.getBoundingClientRect();
        const dots = [...svg.querySelectorAll("circle:not(.ring)")];
        const best = dots.reduce((a, b) => (+a.getAttribute("cy") < +b.getAttribute("cy") ? a : b));
        svg.dispatchEvent(new PointerEvent("pointermove", {
          clientX: frame.left + Number(best.getAttribute("cx")),
          clientY: frame.top + Number(best.getAttribute("cy")),
        }));
        result.tip = document.getElementById("tip").textContent;
        result.hidden = document.getElementById("tip").hidden;
        """,
    )
    assert found["problems"] == []
    assert not found["hidden"]
    (record,) = (
        one
        for one in damaged
        if (one.cell.model, one.cell.precision, one.cell.power, one.device.board)
        == ("efficientvit_b2_288", "fp32", "MAXN", "agx-orin-64gb")
    )
    assert found["tip"].startswith(
        ("efficientvit_b2_288, simulated\n", "EfficientViT-B2, the paper\n")
    )
    assert f"{record.statistics.images_per_s:.1f}"[:3] in found["tip"]


def test_a_phone_shows_it_without_scrolling_sideways(browse, page):
    found = browse(
        page,
        """
        result.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
        result.svgs = [...document.querySelectorAll("svg")]
          .map((one) => one.getBoundingClientRect().right);
        result.width = document.documentElement.clientWidth;
        """,
        size="390,844",
    )
    assert found["problems"] == []
    assert found["wide"] <= 0
    assert max(found["svgs"]) <= found["width"]


def test_a_nasty_name_does_nothing_in_a_browser(browse, runs, report_of):
    name = "<img src=x onerror=problems.push('hit')></script><script>problems.push('hit')</script>"
    records = [runs.changed(runs.record(1), model=name), runs.record(2)]
    found = browse(
        html.page(report_of(records)),
        """
        result.images = document.images.length;
        result.names = texts("speed").map((row) => row[1]);
        """,
    )
    assert found["problems"] == []
    assert found["images"] == 0
    assert found["names"][0] == name


@pytest.mark.slow
def test_2000_records_are_filtered_in_a_browser(browse, large):
    found = browse(
        large,
        """
        result.first = texts("speed").length;
        const more = document.querySelector("#table-speed .more button");
        result.more = more.textContent;
        more.click();
        result.all = texts("speed").length;
        only("model", "cswin_t_elfatt");
        result.some = texts("speed").length;
        """,
    )
    assert found["problems"] == []
    assert (found["first"], found["more"], found["all"]) == (100, "show all 2000", 2000)
    assert 0 < found["some"] < 400
