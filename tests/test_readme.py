"""What the README and the documents say is done: commands, tables, claims, deviations, examples, links."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import ran
from analysis.read.deviations import FOLDERS
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
    code = [path.read_text() for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    assert len(deviations.deviations()) == sum(text.count("# Deviation:") for text in code)


@pytest.fixture(scope="module")
def quotes() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs")
        import quotes

        return quotes


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_quotes_are_what_the_commands_say_of_the_archive(path: Path, quotes: ModuleType) -> None:
    """Red after a change of the archive or of a table: python docs/quotes.py"""
    text = path.read_text()
    with quotes.archive_alone():
        assert quotes.quoted(text, whole=path.name != "README.md") == text


def test_quotes_are_found(quotes: ModuleType) -> None:
    found = [quote["commands"] for path in DOCUMENTS for quote in quotes.QUOTE.finditer(path.read_text())]
    assert sum("make_tables.py" in commands for commands in found) >= 10
    table = quotes.CLAIMS.search(README)["table"]
    assert table.count("\n") > 5
    # and what is wrong is mended
    wrong = "```bash\npython analysis/make_tables.py --table 2\n```\n\n```text\nold\n───\n```"
    with quotes.archive_alone():
        assert "31.81" in quotes.quoted(wrong, whole=True)


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


def test_the_network_of_the_package_is_tuned_by_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    batch = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8), torch.tensor([0, 1, 1, 0])
    exec(_example("with_classes", (ROOT / "docs" / "recipes.md").read_text()), {"batches": [batch]})
    tuned = ran.load("pets.safetensors")
    assert tuned.interface.classes == ("cat", "dog")
    before = ran.load("attention56-cifar10").network.state_dict()
    changed = [key for key, value in tuned.network.state_dict().items() if not torch.equal(value, before[key])]
    assert "stem.weight" in changed
    assert any(key.endswith("running_mean") for key in changed)


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
