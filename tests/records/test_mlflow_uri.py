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


def test_a_folder_as_it_stands_is_quoted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a%20b?c").mkdir()
    quoted = "sqlite+pysqlite:///a%2520b%3Fc/mlflow.db"
    assert mlflow_uri.resolve_uri("sqlite:///a%20b?c/mlflow.db") == quoted
    assert mlflow_uri.resolve_uri(quoted) == quoted


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("sqlite:///mlflow.db", "mlflow.db"),
        ("sqlite:////data/mlflow.db", "/data/mlflow.db"),
        ("sqlite+pysqlite:///a/b.db?timeout=9", "a/b.db"),
        ("sqlite:///100%25.db", "100%.db"),
        ("sqlite:///100%25 new.db", "100% new.db"),
        ("sqlite:///a%20b/mlflow.db", "a%20b/mlflow.db"),
        ("sqlite:///a?b/mlflow.db?timeout=9", "a?b/mlflow.db"),
        ("sqlite:///a%3Fb/mlflow.db", "a?b/mlflow.db"),
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
    Path("a%20b").mkdir()
    assert mlflow_uri.sqlite_path(uri) == (None if path is None else Path(path))


def test_a_uri_for_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert mlflow_uri.absolute("sqlite:///mlflow.db") == f"sqlite:///{tmp_path}/mlflow.db"
    assert mlflow_uri.absolute("sqlite+pysqlite:///a.db?timeout=9") == f"sqlite+pysqlite:///{tmp_path}/a.db?timeout=9"
    assert mlflow_uri.absolute("sqlite:///50%25 #1/a.db") == f"sqlite+pysqlite:///{tmp_path}/50%25 %231/a.db"
    for uri in ("sqlite:////data/mlflow.db", "http://host:5000"):
        assert mlflow_uri.absolute(uri) == uri


def test_errors_are_one_line_without_passwords() -> None:
    assert errors.first_line("\n  first \nsecond") == "first"
    assert errors.first_line(ValueError("no http://me:secret@host\nmore")) == "no http://me:***@host"
    assert errors.first_line(ValueError(" ")) == "ValueError"
    assert errors.first_line("") == "no reason given"
