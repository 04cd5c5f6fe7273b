"""What the README and the documents say is done: commands, tables, claims, deviations, examples, links."""

import csv
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import make_tables
from experiments import catalog
from experiments.cli import check_flags, parse_launch, parse_overrides
from experiments.study import Study
from ran.config import RunConfig

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
EXTENDING = (ROOT / "docs" / "extending.md").read_text()
DOCUMENTS = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 180


def test_there_are_exactly_two_set_up_commands() -> None:
    assert [line.partition(" && ")[0] for line in README.splitlines() if line.startswith("pip install")] == [
        "pip install -e '.[cluster]'",
        "pip install -e '.[test]'",
    ]


def test_the_deviations_are_those_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Red after a new mark: python docs/deviations.py"""
    monkeypatch.syspath_prepend(ROOT / "docs")
    import deviations

    assert deviations.DOCUMENT.read_text() == deviations.document()
    code = [path.read_text() for package in ("ran", "experiments") for path in (ROOT / package).rglob("*.py")]
    assert len(deviations.deviations()) == sum(text.count("# Deviation:") for text in code)


def _tables() -> list[tuple[str, str]]:
    """Every command of the documents that makes a table, with what stands below as its output."""
    found = []
    for path in DOCUMENTS:
        for commands, said in re.findall(r"```bash\n((?:[^`]*\n)?)```\n\n```text\n(.*?)```", path.read_text(), re.S):
            made = [line for line in commands.splitlines() if "make_tables.py" in line]
            found += [(made[-1], said)] if made else []
    return found


@pytest.fixture
def archived(tmp_path, monkeypatch) -> Path:
    """A folder, entered, without a tracking store and with the project's archive."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "archive").symlink_to(ROOT / "results" / "archive")
    return tmp_path


@pytest.mark.parametrize(("command", "said"), _tables(), ids=[command for command, _ in _tables()])
def test_a_table_is_that_of_the_archive(command, said, archived, capsys) -> None:
    arguments = shlex.split(command, comments=True)[2:]
    assert make_tables.main([*arguments, "--formats", "text"]) == 0
    assert said.strip() in capsys.readouterr().out


def test_such_tables_are_found() -> None:
    assert len(_tables()) >= 10


def _number(text: str, digits: int) -> str:
    return f"{float(text):+.{digits}f}".replace("-", "\N{MINUS SIGN}") if text else "\N{EN DASH}"


def _is_as_claimed(row: dict[str, str]) -> bool:
    *_, sign, bound = row["contrast"].split()
    return float(row["diff"]) < float(bound) if sign == "<" else float(row["diff"]) > float(bound)


PLANNED = 3
"""number of seeds that the studies of schema 1 planned"""


def _claim_row(rows: list[dict[str, str]]) -> list[str]:
    """What the README's table says of a claim with too few seeds for a verdict."""
    planned, found = PLANNED, {int(row["n"]) for row in rows}
    assert max(found) < planned, "all planned seeds are there: the README should give the verdict"
    digits = 3 if rows[0]["claim"] == "nal_vanishes" else 2
    published, ours = ([_number(row[name], digits) for row in rows] for name in ("published", "diff"))
    if len(set(published)) == 1 and not rows[0]["published"]:
        published = published[:1]
    on_side = f"{sum(map(_is_as_claimed, rows))} of {len(rows)}"
    return [", ".join(published), ", ".join(ours), on_side, f"{min(found)} of {planned}", "none"]


def test_the_claims_are_those_of_the_archive(archived) -> None:
    (command,) = re.findall(r"`python analysis/make_tables\.py (--table claims [^`]*)`", README)
    assert make_tables.main([*command.split(), "--formats", "csv"]) == 0
    (path,) = (archived / "results").glob("claims-*.csv")
    claims: dict[str, list[dict[str, str]]] = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            claims.setdefault(row["claim"], []).append(row)
    table = README[README.index("| claim |") :].partition("\n\n")[0].splitlines()[2:]
    assert [line.split(" | ", 1)[1].removesuffix(" |").split(" | ") for line in table] == [
        _claim_row(rows) for rows in claims.values()
    ]


def _commands(start: str) -> list[tuple[str, str]]:
    """(file, arguments) of each line of a bash block of the documents that runs `start`."""
    found = []
    for path in DOCUMENTS:
        for block in re.findall(r"```bash\n(.*?)```", path.read_text(), re.S):
            lines = block.replace("\\\n", " ").splitlines()
            found += [(path.name, line.partition(start)[2]) for line in lines if start in line.partition("#")[0]]
    return found


def test_every_launch_in_the_documents_is_a_valid_command_line() -> None:
    """Flags, studies and searches; that the commands do what is said of them, the tests of the packages show."""
    found = _commands("run_ablation.py ")
    assert len(found) > 40
    for _, line in found:
        launch, rest = parse_launch(shlex.split(line, comments=True))
        check_flags(launch)
        ours = launch.study is not None and not launch.study.endswith(".py")
        parse_overrides(rest, catalog.load_study(launch.study) if ours else Study("any", "any", ()), RunConfig())
        assert launch.search is None or launch.search.endswith(".py") or launch.search in catalog.search_names(), line


def test_every_module_and_script_that_the_documents_run_exists() -> None:
    text = "\n".join(path.read_text() for path in DOCUMENTS)
    modules, scripts = (set(re.findall(pattern, text)) for pattern in (r"python -m ([\w.]+\w)", r"python ([\w/]+\.py)"))
    assert len(modules) > 15
    assert len(scripts) > 5
    for name in modules - {"pip"}:
        assert importlib.util.find_spec(name) is not None, name
    for name in scripts:
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("path", [*DOCUMENTS, ROOT / "SECURITY.md", ROOT / "CHANGELOG.md"], ids=lambda path: path.name)
def test_links_lead_to_files(path: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
        assert (path.parent / link).exists(), link


def test_files_named_in_the_tour_of_the_code_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for name in re.findall(r"`((?:ran|experiments|analysis|records|tests|benchmarks)/[\w/.]*)`", text):
        assert (ROOT / name).exists(), name


def test_tests_named_in_the_documents_exist() -> None:
    files = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    text = "\n".join(path.read_text() for path in DOCUMENTS)
    found = re.findall(r"`(?:tests/[\w/]*/)?(test_\w+\.py)`(?:: ((?:`\w+`(?:, )?)+))?", text)
    assert len(found) > 50
    for name, words in found:
        for word in re.findall(r"\w+", words):
            assert re.search(rf"def test_\w*{word}", files[name]), (name, word)
        assert name in files


def _example(mark: str, text: str = EXTENDING) -> str:
    return next(block for block in re.findall(r"```python\n(.*?)```", text, re.S) if mark in block)


def _run(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    command = [sys.executable, str(ROOT / "run_ablation.py"), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_study_of_ones_own_with_a_mask_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "my_study.py").write_text(_example("STUDY = ", README))
    (tmp_path / "my_masks.py").write_text(_example("MASK_ACTIVATIONS.register", README))
    (command,) = (line for name, line in _commands("run_ablation.py ") if name == "README.md" and "my_masks" in line)
    said = _run(tmp_path, *command.replace("quick", "smoke").split(), "--dry-run")
    assert "softplus s2" in said
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix) == ["my_masks.py", "my_study.py"]


def test_a_study_of_two_axes(tmp_path: Path) -> None:
    (tmp_path / "my_study.py").write_text(_example("STUDY = "))
    study = catalog.load_study(str(tmp_path / "my_study.py"))
    assert [cell.short for cell in study.cells][-1] == "spatial 2"


PARTS = ("MASK_ACTIVATIONS.register", "MASK_STRUCTURES.register", "UNITS.register", "DATASETS.register")


@pytest.mark.slow
def test_all_parts_of_ones_own_train_together(tmp_path: Path) -> None:
    (tmp_path / "my_parts.py").write_text("\n".join(map(_example, PARTS)))
    (tmp_path / "mine.py").write_text(
        '"""A mask."""\nfrom experiments.study import Study, axis\n'
        'STUDY = Study(name="mine", title="A mask", profile="smoke", seeds=(0,), dataset="stripes",\n'
        '    axes=(axis("mask", ("shallow",), field="model.mask_structure"),))\n'
    )
    network = ("--model.name", "attention56_depthwise")
    said = _run(tmp_path, "--study", "mine.py", "--import", "my_parts", "--data.name", "stripes", *network)
    assert "Data: stripes" in said
