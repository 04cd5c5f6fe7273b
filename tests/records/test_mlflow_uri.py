"""Which file a tracking URI means, from which folder, and errors in one line."""

from pathlib import Path

import pytest

from records import errors, mlflow_uri


def test_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert mlflow_uri.resolve_uri(None) == "sqlite:///mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert mlflow_uri.resolve_uri(None) == "http://host:5000"
    assert mlflow_uri.resolve_uri("sqlite:///other.db") == "sqlite:///other.db"


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("sqlite:///mlflow.db", "mlflow.db"),
        ("sqlite:////data/mlflow.db", "/data/mlflow.db"),
        ("sqlite+pysqlite:///a/b.db?timeout=9", "a/b.db"),
        ("sqlite:///100%25.db", "100%.db"),
        ("sqlite:///100%25 new.db", "100%25 new.db"),
        ("sqlite:///:memory:", None),
        ("sqlite://", None),
        ("http://host:5000/sqlite", None),
        ("postgresql://host/mlflow", None),
        ("mlruns", None),
    ],
)
def test_the_file_behind_a_uri(uri: str, path: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("100%.db").touch()
    assert mlflow_uri.sqlite_path(uri) == (None if path is None else Path(path))


def test_a_uri_for_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert mlflow_uri.absolute("sqlite:///mlflow.db") == f"sqlite:///{tmp_path}/mlflow.db"
    assert mlflow_uri.absolute("sqlite+pysqlite:///a.db?timeout=9") == f"sqlite+pysqlite:///{tmp_path}/a.db?timeout=9"
    for uri in ("sqlite:////data/mlflow.db", "http://host:5000"):
        assert mlflow_uri.absolute(uri) == uri


def test_errors_are_one_line_without_passwords() -> None:
    assert errors.first_line("\n  first \nsecond") == "first"
    assert errors.first_line(ValueError("no http://me:secret@host\nmore")) == "no http://me:***@host"
    assert errors.first_line(ValueError(" ")) == "ValueError"
    assert errors.first_line("") == "no reason given"
