"""What a public record does not show: folders of a machine; what nothing shows: passwords, keys and tokens."""

import io
import json
import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from records.errors import UserError, first_line, one_line
from records.secrets import LONGEST_WORD, MaskedStream, hide_folders, mask_secrets, mask_values

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


# No token in this file is one: each is made of its prefix and of this.
X = "abcdefghij0123456789"


@pytest.mark.parametrize(("text", "shown"), [
    ('password = "my pass word"  # x', 'password = "***"  # x'),
    ("password=it's me", "password=*** me"),
    ("password=a&b,c;d", "password=***"),
    ("passphrase: hunter2", "passphrase: ***"),
    ("DB_PASS=hunter2", "DB_PASS=***"),
    ("dbPassword=hunter2", "dbPassword=***"),
    ('SECRET_KEY = "django"', 'SECRET_KEY = "***"'),
    ("AWS_SECRET_ACCESS_KEY=a/b+c", "AWS_SECRET_ACCESS_KEY=***"),
    ("private_key: abc", "private_key: ***"),
    ('token: str = "a b"', 'token: str = "***"'),
    ('os.environ["HUB_TOKEN"] = "a b"', 'os.environ["HUB_TOKEN"] = "***"'),
    ("os.environ['DB_PASS'] = 'a b'", "os.environ['DB_PASS'] = '***'"),
    ('{"api_key": "a\\"b", "x": 1}', '{"api_key": "***", "x": 1}'),
    ('"{\\"token\\": \\"a b\\"}"', '"{\\"token\\": \\"***\\"}"'),
    ("run --password hunter2 --yes", "run --password *** --yes"),
    ("run --db-password=hunter2", "run --db-password=***"),
    ("X-Api-Key: abcdefgh", "X-Api-Key: ***"),
    ('headers={"X-Api-Key": "a b"}', 'headers={"X-Api-Key": "***"}'),
    (f"Authorization: Bearer {X}", "Authorization: ***"),
    (f"sent Basic {X}=", "sent Basic ***"),
    (f"AccountKey={X}==;EndpointSuffix=core", "AccountKey=***"),
    ("https://a.blob/x?sv=1&sig=a%2Fb", "https://a.blob/x?sv=1&sig=***"),
    ("http://joe:p&w,x@host", "http://joe:***@host"),
    ("http://joe:p/w@host:80/x", "http://joe:***@host:80/x"),
    ("https://tok@host/x", "https://***@host/x"),
    (f"https://{X}:x-oauth-basic@host", "https://***:***@host"),
    *((f"see {prefix}{X}.", "see ***") for prefix in (
        "ghp_", "ghr_", "github_pat_", "glpat-", "hf_", "sk-", "xoxb-", "npm_", "pypi-Ag", "SG.", "eyJ")),
    *((f"see {prefix}{X.upper()}.", "see ***.") for prefix in ("AKIA", "ASIA", "AIza")),
    (f"eyJ{X}.eyJ{X}.{X}", "***"),
    ("-----BEGIN RSA PRIVATE KEY-----\nab\n-----END RSA PRIVATE KEY-----\nrest", "***\nrest"),
    ("-----BEGIN PRIVATE KEY-----\ncut off", "***"),
])  # fmt: skip
def test_secrets_are_masked(text, shown):
    assert mask_secrets(text) == shown
    assert mask_secrets(shown) == shown


@pytest.mark.parametrize("text", [
    "token = tokenizer.next()", "password = None", "token = os.environ[name]", "tokenizer = x", "max_tokens: 512",
    "a token of 5", "forward pass: 3 s", "compass=5", "ssh://git@github.com/x", "postgresql://user@host/name",
    "http://host:5000/@x", "sqlite:////a/b@c.db", "task-abcdefghijklmnop", "stages.0.attention.1.mask", "0.1, 0.2",
])  # fmt: skip
def test_what_is_no_secret_stays(text):
    assert mask_secrets(text) == text


PIECES = [
    "a-", "a_", "a=", '"a', "password", "password ", "password=", "password:a ", "token: a[", 'token="', "token = a.",
    "secret_access", "://", "://a:", "://@", "://a:b/", "eyJ", "eyJ-", "sk-", "Bearer ", "Basic  ", "--", "/a", "/ ",
    "'", '\\"', "-----BEGIN PRIVATE KEY-----", " ", "@:",
]  # fmt: skip


@pytest.mark.parametrize("function", [mask_secrets, hide_folders, lambda text: str(UserError(text))])
def test_masking_takes_time_in_proportion(function):
    """24 kB of "a-" took a minute; each of these takes milliseconds."""
    for piece in PIECES:
        began = time.process_time()
        function((piece * 50_000)[:50_000])
        assert time.process_time() - began < 2, piece


@pytest.mark.parametrize(
    "text", ["a password password:hunter2", "no token token = hunter2", "the secret password: hunter2"]
)
def test_a_word_before_an_assignment_does_not_hide_it(text):
    assert "hunter2" not in mask_secrets(text)


@given(st.lists(st.sampled_from([*PIECES, "x", "\n", "***", "é"]), max_size=30).map("".join))
def test_masking_twice_changes_nothing(text):
    assert mask_secrets(mask_secrets(text)) == mask_secrets(text)


def test_json_stays_json():
    content = {"command": 'run --password "a b"', "token": "x y", "tokens": 5, "list": ["password=a", None, {"sig": 1}]}
    shown = mask_values(content)
    assert shown == {
        "command": 'run --password "***"', "token": "***", "tokens": 5, "list": ["password=***", None, {"sig": 1}],
    }  # fmt: skip
    assert json.loads(json.dumps(shown)) == shown


def test_everything_on_stderr_is_masked(monkeypatch):
    """Also what others write: MLflow's warnings name the store's URI, and so does an unexpected traceback."""
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", MaskedStream(said))
    handler = logging.StreamHandler()
    logging.getLogger("another.library").addHandler(handler)
    logging.getLogger("another.library").warning("retrying http://joe:%s@host", "hunter2")
    logging.getLogger("another.library").removeHandler(handler)
    print("http://joe:hunter2@host", file=sys.stderr)
    assert "hunter2" not in said.getvalue()
    assert said.getvalue().count("joe:***@host") == 2


@pytest.mark.parametrize("command", [
    ("-m", "experiments.runs", "--tracking-uri"), ("-m", "experiments.runs", "--tracking-ury"),
    pytest.param(("-m", "analysis.make_tables", "--tracking-uri"), marks=pytest.mark.slow),
    pytest.param(("run_ablation.py", "--study", "smoke", "--tracking-uri"), marks=pytest.mark.slow),
])  # fmt: skip
def test_no_command_prints_the_password_of_its_store(command, tmp_path):
    environment = {"PATH": "", "HOME": str(tmp_path), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    closed = [sys.executable, *command, "http://joe:hunter2@127.0.0.1:1"]
    said = subprocess.run(closed, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert said.returncode == 2, said.stderr
    assert "hunter2" not in said.stdout + said.stderr
    assert len(said.stderr.splitlines()) == 1


def test_a_word_that_is_too_long_is_cut():
    for text in (str(UserError("x" * 5_000)), first_line("x" * 5_000), one_line(ValueError("x" * 5_000))):
        assert len(text) < LONGEST_WORD + 40
        assert text.endswith("… (5,000 characters)")
