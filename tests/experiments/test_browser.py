"""MLflow's pages in a real browser: from its start page by clicks, and at the address that a launch prints."""

import contextlib
import re
import shlex
import shutil
from urllib.parse import urlsplit

import pytest
from server import Server

from analysis.parent_page import SERVER

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")]


@contextlib.contextmanager
def new_page():
    """A page of a browser that remembers nothing."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1600, "height": 1400})
        page.set_default_timeout(120_000)
        yield page
        browser.close()


def first_charts(page):
    """The name of the first section of charts, the titles of its charts, and the name of the second section."""
    page.get_by_text("Step", exact=True).nth(2).wait_for()
    lines = page.inner_text("body").split("\n")
    first, second = [number - 2 for number, line in enumerate(lines) if line == "Add chart"][:2]
    titles = [line for line in lines[first + 3 : second] if re.fullmatch(r"(\w+/)?[a-z_]+", line)]
    return [lines[first], *titles, lines[second]]


def look_at_the_parent(page, runs):
    """Clicks on the study, and looks at what its page shows without another click."""
    page.get_by_text("smoke smoke-1").first.click()
    page.get_by_role("columnheader", name="test error (%)").wait_for()
    for name in runs:
        page.get_by_text(name).first.wait_for()  # until it is visible
    page.get_by_role("cell", name="NAL", exact=True).wait_for()


def test_a_user_clicks_from_the_start_page_to_table_and_curves(lab, tmp_path):
    said = lab.launch()
    assert said.status == 0, said.err
    command, address = re.search(r"in a browser: (.*), then (\S+)$", said.err, re.M).groups()
    program, *arguments = shlex.split(command)
    assert program == "mlflow"
    runs = [run.info.run_name for run in lab.children().values()]
    assert len(runs) == 2
    assert all(name.endswith(" %") for name in runs)
    server = Server(tmp_path, arguments=tuple(arguments))
    server.start()
    try:
        with new_page() as page:
            page.goto(f"{server.uri}/")
            page.get_by_text("Model training", exact=True).first.click()
            page.get_by_role("link", name="ran/cluttershapes").first.click()
            look_at_the_parent(page, runs)
            page.get_by_text(runs[0]).first.click()
            page.get_by_text("Model metrics", exact=True).click()
            assert first_charts(page) == ["train", "err", "loss", "lr", "val"]
            page.get_by_role("link", name="Runs").first.click()
            page.locator("[role=row] button", has=page.locator("svg")).last.click()  # the plus sign of the study
            page.get_by_text(runs[0]).first.wait_for()
            page.locator("label", has=page.locator("input[value=CHART]")).click()
            assert first_charts(page) == ["train", "train/err", "train/loss", "train/lr", "val"]
            page.screenshot(path=tmp_path / "charts.png")

            page.goto(f"{server.uri}/")  # MLflow remembers the switch, and not what an address asked for
            page.get_by_role("link", name="ran/cluttershapes").first.click()
            page.get_by_text(runs[0]).first.wait_for()
            assert urlsplit(page.url).fragment.startswith("/experiments/1/runs?workflowType=machine_learning")

        with new_page() as page:
            page.goto(address.replace(SERVER, server.uri))
            look_at_the_parent(page, runs)
    finally:
        server.stop()
