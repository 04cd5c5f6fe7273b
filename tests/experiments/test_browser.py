"""MLflow's page at the address that a launch prints, in a real browser."""

import re
import shutil
import subprocess

import pytest
from server import Server, ServerLab

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def lab(tmp_path):
    server = Server(tmp_path)
    server.start()
    yield ServerLab(tmp_path / "lab", server)
    server.stop()


def shown(address, folder):
    """The text of a page once its scripts have run."""
    flags = (
        "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync "
        "--disable-component-update --virtual-time-budget=40000 --window-size=1600,1400 --dump-dom"
    )
    command = [CHROMIUM, *flags.split(), f"--user-data-dir={folder / 'profile'}", address]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_the_printed_address_lists_the_runs_and_the_parents_page_has_the_table(lab, tmp_path):
    said = lab.launch()
    assert said.status == 0, said.err
    (address,) = re.findall(r"in a browser: (\S+)$", said.err, re.M)
    assert address.startswith(lab.uri)
    assert "smoke smoke-1" in shown(address, tmp_path), "the list of runs, not the view for language models"
    (parent,) = lab.parents()
    page = shown(address.replace("/runs?", f"/runs/{parent.info.run_id}?"), tmp_path)
    assert "Smoke test" in page
    for run in lab.children().values():
        assert run.info.run_name in page
