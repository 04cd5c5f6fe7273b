"""What a public record does not show. Passwords and tokens: tests/analysis/read/test_mlflow_store.py."""

import json
from pathlib import Path

import pytest

from records.secrets import hide_folders

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("text", "shown"), [
    ("/home/me/my data/x", "…/my data/x"),
    ("/home/me/data", "…/data"),
    ("run_ablation.py --study /home/me/mine.py --data.root=/datasets/c10 --yes",
     "run_ablation.py --study …/mine.py --data.root=…/c10 --yes"),
    ("no file '/home/me/a.png'", "no file '…/a.png'"),
    ("sqlite:////home/me/mlflow.db", "sqlite:///…/mlflow.db"),
    ("file:///home/me/mlruns", "file://…/mlruns"),
])  # fmt: skip
def test_folders_of_absolute_paths_are_hidden(text, shown):
    assert hide_folders(text) == shown


@pytest.mark.parametrize("text", [
    "data", "experiments/studies/mine.py", "../data/c10", "~/data/c10", "the paper's: 0.1, /10 at 2/5 and 3/5",
    "http://host:5000/api/x", "s3://bucket/a/b", "sqlite:///mlflow.db", "train/loss", "1/3",
])  # fmt: skip
def test_what_names_no_machine_stays(text):
    assert hide_folders(text) == text


@pytest.mark.parametrize("path", (ROOT / "results" / "archive").rglob("*.jsonl"), ids=lambda path: path.stem)
def test_no_committed_archive_holds_a_folder_of_a_machine(path):
    def texts(content):
        if isinstance(content, dict):
            content = list(content.values())
        return [t for part in content for t in texts(part)] if isinstance(content, list) else [str(content)]

    for line in path.read_text().splitlines():
        record = json.loads(line)
        said = texts({key: record.get(key) for key in ("study", "parent", "tags", "params", "provenance")})
        assert [text for text in said if hide_folders(text) != text] == []
