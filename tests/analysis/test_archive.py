"""Finished runs kept as small files: what is in them, what is not, and that they only grow."""

import base64
import io
import json
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden import HALF_DONE, correct_npz, fingerprint, masks_npz, probes_json, study_json

from analysis import archive
from analysis.read.archive_file import read_file, read_folder, unite_lines
from analysis.read.mlflow_store import StoreError
from records import names

FILE = Path("kept/cluttershapes-quick-1.jsonl")
BASELINE = fingerprint(56, "arl", 0)
TWICE = fingerprint(56, "nal", 1)
COVERED = (
    "8 of 12 planned runs, 1 failed, 1 further result, 2 killed, masks of depth=56,learning=arl seed 0"  # in HALF_DONE
)


def export(*more: str, profile: str = "quick-1", data: str = "cluttershapes") -> int:
    return archive.main(["export", "--profile", profile, "--data", data, "--out", "kept", *more])


def lines() -> list[dict[str, Any]]:
    return [json.loads(text) for text in FILE.read_text().splitlines()]


def runs() -> dict[str, dict[str, Any]]:
    """The first result of each fingerprint."""
    return {line["fingerprint"]: line for line in reversed(lines()) if line["kind"] == "run"}


def forms_of(chosen: str) -> list[tuple[str, str, Any]]:
    """Kind, outcome and test error of every line of a fingerprint, in the order of the file."""
    return [
        (line["kind"], line["tags"][names.OUTCOME], line["metrics"].get(names.FINAL_TEST_ERR))
        for line in lines()
        if line.get("fingerprint") == chosen
    ]


def second_of_two() -> dict[str, Any]:
    return [line for line in lines() if line.get("fingerprint") == TWICE][1]


def in_order(planned: dict[str, Any]) -> Any:
    return planned["seed"], planned["cell"]["depth"], planned["cell"]["learning"]


def write(content: list[dict[str, Any]]) -> None:
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text("".join(f"{json.dumps(line)}\n" for line in content))


def sql(statement: str, *values: Any) -> None:
    with sqlite3.connect("mlflow.db") as connection:
        assert connection.execute(statement, values).rowcount > 0


def forget(chosen: str, again: bool = False) -> None:
    """Deletes the runs of a fingerprint as MLflow does, or takes them back."""
    found = "SELECT run_uuid FROM tags WHERE key = ? AND value = ?"
    stage = "active" if again else "deleted"
    sql(f"UPDATE runs SET lifecycle_stage = ? WHERE run_uuid IN ({found})", stage, names.FINGERPRINT, chosen)


def test_studies_and_results_are_kept_whole(store_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export() == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith(f"{FILE}: 8 runs, 8 of them in sqlite:///mlflow.db; ")
    assert out[1:] == [
        f'  arl_vs_nal {{"train.steps": 10}}  {COVERED}',
        f"  arl_vs_nal                      {COVERED}",
    ]
    kept = lines()
    assert [line["kind"] for line in kept[:3]] == ["study", "study", "run"] or kept[2]["kind"] == "ended"
    assert kept[1]["study"] == study_json(runs=sorted(study_json()["runs"], key=in_order))
    assert kept[1]["parent"] == {
        "key": "a" * 16, "name": f"arl_vs_nal {'a' * 16}", "note": "About the study.",
        "tags": {names.PARENT: "a" * 16, names.STUDY: "arl_vs_nal", names.OVERRIDES: "{}", names.SCHEMA: "2"},
    }  # fmt: skip
    assert [line["fingerprint"] for line in kept[2:]] == sorted(row["fingerprint"] for row in HALF_DONE)
    run = runs()[BASELINE]
    assert run == {
        "kind": "run",
        "fingerprint": BASELINE,
        "tags": {
            names.FINGERPRINT: BASELINE, names.SEED: "0", names.OUTCOME: "finished", names.STUDY: "arl_vs_nal",
            names.PROFILE: "quick-1", names.DATASET: "cluttershapes", names.OVERRIDES: "{}", names.REASON: "",
            "mlflow.source.git.commit": "c0ffee" + 34 * "0", names.SCHEMA: "2",
        },
        "params": {"optim.lr": "0.5"},
        "metrics": {names.TRAIN_LOSS: 2 / 3, names.FINAL_TEST_ERR: 10.0},
        "curves": {names.TRAIN_LOSS: [[1, 2.0], [2, 1.0], [3, 0.666667]]},
        "name": f"run {BASELINE[:4]}",
        "start_time": 1767225600000,
        "end_time": 1767225660000,
        "test_correct": {"count": 13, "bits": run["test_correct"]["bits"]},
        "spec": {"stem_channels": 16},
        "probes": probes_json(BASELINE),
        "provenance": {"attempts": [{"command": "run_ablation.py --study arl_vs_nal"}]},
        "masks": base64.b64encode(masks_npz(BASELINE)).decode(),
    }  # fmt: skip
    assert [f for f, line in runs().items() if "masks" in line] == [BASELINE]
    diverged = runs()[fingerprint(56, "nal", 2)]
    assert (diverged["tags"][names.OUTCOME], diverged["spec"], diverged["probes"]) == ("diverged", None, None)
    assert forms_of(TWICE) == [("run", "finished", 11.5), ("run", "finished", 99.0), ("ended", "killed", None)]
    assert forms_of(fingerprint(92, "arl", 2)) == [("ended", "killed", None)]
    (failed,) = (line for line in kept if line.get("fingerprint") == fingerprint(92, "arl", 1))
    assert (failed["kind"], failed["tags"][names.REASON]) == ("ended", "out of memory")
    assert not failed.keys() & {"curves", "spec", "probes", "masks", "test_correct"}


def test_what_was_right_of_each_test_image_survives(store_folder: Path) -> None:
    assert export() == 0
    found = {run.fingerprint: run.artifact(names.TEST_CORRECT) for run in read_file(FILE).runs}
    content = found[BASELINE]
    assert content is not None
    assert found[fingerprint(56, "nal", 2)] is None  # diverged
    ours, expected = (np.load(io.BytesIO(npz)) for npz in (content, correct_npz(BASELINE)))
    assert set(ours.files) == set(expected.files) == {"correct", "count"}
    assert int(ours["count"]) == 13
    assert ours["correct"].dtype == np.uint8
    assert (ours["correct"] == expected["correct"]).all()


def test_a_damaged_list_of_right_images_is_left_out(own_artifacts: Path) -> None:
    for path in own_artifacts.rglob(names.TEST_CORRECT):
        path.write_bytes(b"PK\x03\x04 not a zip")
    assert export() == 0
    assert '"test_correct"' not in FILE.read_text()


def test_the_same_again_changes_nothing(store_folder: Path) -> None:
    assert export() == 0
    once = FILE.read_bytes()
    assert export() == 0
    assert FILE.read_bytes() == once
    assert [path.name for path in FILE.parent.iterdir()] == [FILE.name]


def test_the_order_does_not_depend_on_the_order_of_the_store(store_folder: Path) -> None:
    assert export() == 0
    once = FILE.read_bytes()
    FILE.unlink()
    forget(BASELINE)
    assert export("--masks-of", fingerprint(92, "nal", 0)) == 0
    forget(BASELINE, again=True)
    assert export("--masks-of", BASELINE) == 0
    with_two = runs()
    assert {f for f, line in with_two.items() if "masks" in line} == {BASELINE, fingerprint(92, "nal", 0)}
    del with_two[fingerprint(92, "nal", 0)]["masks"]
    assert [line for line in lines() if line.get("fingerprint") not in with_two] == [
        line for line in map(json.loads, once.decode().splitlines()) if line.get("fingerprint") not in with_two
    ]
    for line in map(json.loads, reversed(once.decode().splitlines())):
        assert line["kind"] != "run" or line in (with_two[line["fingerprint"]], second_of_two())


def test_what_a_file_holds_stays(store_folder: Path) -> None:
    old = {
        "fingerprint": "0" * 64,
        "tags": {names.SCHEMA: "2"},
        "params": {},
        "metrics": {names.FINAL_TEST_ERR: 5.123456789},
        "curves": {},
    }
    other = study_json(study="mask_type", axes=study_json()["axes"][:1], compare=None, runs=[])
    earlier = study_json(
        title="Before", runs=[{"fingerprint": "f", "cell": {"depth": 92, "learning": "nal"}, "seed": 9}]
    )
    write([old, {"kind": "study", "study": other}, {"kind": "study", "study": earlier}])
    assert export() == 0
    kept = lines_of_any_kind()
    assert [(line.get("kind"), line.get("study", {}).get("study")) for line in kept[:4]] == [
        ("study", "arl_vs_nal"), ("study", "arl_vs_nal"), ("study", "mask_type"), (None, None),
    ]  # fmt: skip
    assert kept[2]["study"] == other
    assert kept[3] == old
    united = kept[1]["study"]
    assert united["title"] == study_json()["title"]
    assert [run["seed"] for run in united["runs"]] == [0] * 4 + [1] * 4 + [2] * 4 + [9]
    forget(BASELINE)
    assert export() == 0
    assert lines_of_any_kind() == kept


def test_names_of_metrics_of_before(store_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export() == 0
    present = FILE.read_text()
    before = present
    for name in ("final", "cost", "response"):
        before = before.replace(f'"{name}_', f'"{name}/')
    assert before != present
    FILE.write_text(before)
    (file,) = read_folder(FILE.parent)
    FILE.write_text(present)
    (expected,) = read_folder(FILE.parent)
    assert [run.metrics for run in file.runs] == [run.metrics for run in expected.runs]
    assert [run.curves() for run in file.runs] == [run.curves() for run in expected.runs]
    FILE.write_text(before)
    capsys.readouterr()
    assert export() == 0, "the same runs in the store are no further results"
    assert FILE.read_text() == present


@pytest.mark.parametrize(
    ("planned", "said"),
    [((0, 1, 2, 3, 4), "8 of 20 planned runs,"), ((0, 1), "6 of 8 planned runs, 2 beyond the plan,")],
)
def test_what_is_planned_is_the_plan_and_not_what_was_launched(
    store_folder: Path, capsys: pytest.CaptureFixture[str], planned: tuple[int, ...], said: str
) -> None:
    assert export() == 0
    whole = lines_of_any_kind()
    for line in whole:
        if line["kind"] == "study":
            line["study"]["planned_seeds"] = list(planned)
    write(whole)
    capsys.readouterr()
    assert archive.main(["show", "--out", str(FILE.parent)]) == 0
    out = capsys.readouterr().out
    assert out.count(said) == 2, out


def lines_of_any_kind() -> list[dict[str, Any]]:
    return [json.loads(text) for text in FILE.read_text().splitlines()]


def change(chosen: str, **changes: Any) -> None:
    """Changes every archived line of a fingerprint."""
    write([line | changes if line.get("fingerprint") == chosen else line for line in lines()])


@pytest.mark.parametrize(("later", "expected"), [(1, [10.0, 99.0]), (-1, [99.0, 10.0])])
def test_a_second_result_is_kept_beside_the_first(
    store_folder: Path, capsys: pytest.CaptureFixture[str], later: int, expected: list[float]
) -> None:
    assert export() == 0
    archived = runs()[BASELINE]
    change(BASELINE, metrics={names.FINAL_TEST_ERR: 99.0}, start_time=archived["start_time"] + later)
    capsys.readouterr()
    assert export() == 0
    assert forms_of(BASELINE) == [("run", "finished", error) for error in expected]
    said = f"{BASELINE[:12]}: two results, of test errors {expected[0]} % and {expected[1]} %, are kept; the first"
    assert said in capsys.readouterr().err
    once = FILE.read_bytes()
    assert export() == 0
    assert FILE.read_bytes() == once
    assert BASELINE[:12] not in capsys.readouterr().err, "a warning is for what is new"


def test_other_digits_at_the_same_start_are_a_second_result(store_folder: Path) -> None:
    assert export() == 0
    change(BASELINE, metrics=runs()[BASELINE]["metrics"] | {names.FINAL_TEST_ERR: 10.000001})
    assert export() == 0
    assert [error for _, _, error in forms_of(BASELINE)] == [10.000001, 10.0]


def test_a_copy_is_completed_from_what_only_the_file_has(own_artifacts: Path) -> None:
    assert export() == 0
    before = FILE.read_bytes()
    for path in own_artifacts.rglob("*"):
        if path.name in (names.PROBES_JSON, names.MASKS_NPZ, names.TEST_CORRECT):
            path.unlink()
    assert export() == 0
    assert FILE.read_bytes() == before


def test_an_evaluation_after_its_end_makes_no_second_result(store_folder: Path) -> None:
    assert export() == 0
    run = "SELECT run_uuid FROM tags WHERE value = ?"
    sql(
        "INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) "
        f"SELECT 'evaluation/cifar10.1/err', 5.0, 0, 0, 0, run_uuid FROM ({run})",
        BASELINE,
    )
    assert export() == 0
    assert forms_of(BASELINE) == [("run", "finished", 10.0)]
    assert runs()[BASELINE]["metrics"]["evaluation_cifar10.1_err"] == 5.0


def test_an_attempt_that_was_continued_is_the_result(store_folder: Path) -> None:
    chosen, run = fingerprint(92, "arl", 2), "SELECT run_uuid FROM tags WHERE value = ?"
    assert export() == 0
    assert forms_of(chosen) == [("ended", "killed", None)]
    sql(f"UPDATE tags SET value = 'finished' WHERE key = ? AND run_uuid IN ({run})", names.OUTCOME, chosen)
    assert export() == 0
    assert forms_of(chosen) == [("run", "finished", None)]


def test_lines_of_one_run_are_united() -> None:
    held = {"fingerprint": "f", "start_time": 2, "metrics": {"a": 1.0}, "probes": None, "curves": {}, "masks": "AA"}
    line = {"fingerprint": "f", "start_time": 2, "metrics": {"a": 1.0}, "probes": {"schema": 1}, "spec": {}}
    assert unite_lines(line, held) == line | {"masks": "AA"}
    first = {"fingerprint": "f", "metrics": {"a": 1.0}}  # of the first archives, without a time
    assert unite_lines(line, first) == unite_lines(first, line) == line


@pytest.mark.parametrize(
    ("without", "expected"),
    [
        ((), (56, "arl", 0)),
        (((56, "arl", 0),), (56, "arl", 1)),  # the next seed of the baseline's cell
        (((56, "arl", 0), (56, "arl", 1), (56, "arl", 2)), (92, "arl", 0)),  # the baseline at another depth
        (((56, "arl", 0), (56, "arl", 1), (56, "arl", 2), (92, "arl", 0)), (56, "nal", 0)),  # any cell with masks
    ],
)
def test_the_run_whose_masks_are_kept(store_folder: Path, without: Any, expected: Any) -> None:
    for chosen in without:
        forget(fingerprint(*chosen))
    assert export() == 0
    assert [f for f, line in runs().items() if "masks" in line] == [fingerprint(*expected)]


def test_masks_of_a_chosen_run(store_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = fingerprint(92, "nal", 0)
    assert export("--masks-of", chosen[:12]) == 0
    assert [f for f, line in runs().items() if "masks" in line] == [chosen]
    assert export() == 0  # the study has masks, so it gets no others
    assert [f for f, line in runs().items() if "masks" in line] == [chosen]
    capsys.readouterr()
    for name, message in (
        ("nobody", "--masks-of nobody names none of the runs to keep"),
        ("", "--masks-of  names 8 of the runs to keep"),
        (fingerprint(56, "nal", 2), "the run has left no masks.npz"),
    ):
        assert export("--masks-of", name) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_no_secret_is_kept(store_folder: Path, own_artifacts: Path) -> None:
    run = "SELECT run_uuid FROM tags WHERE value = ?"
    reason = "cannot reach postgresql://me:secret1@db"
    sql(f"UPDATE tags SET value = ? WHERE key = ? AND run_uuid IN ({run})", reason, names.REASON, BASELINE)
    sql(f"UPDATE tags SET value = 'secret2' WHERE key = 'mlflow.user' AND run_uuid IN ({run})", BASELINE)
    sql(f"UPDATE params SET value = 's3://me:secret3@host/data' WHERE run_uuid IN ({run})", BASELINE)
    command = "python run_ablation.py --study arl_vs_nal --tracking-uri postgresql://me:secret4@db/ran"
    for path in own_artifacts.rglob(names.STUDY_JSON):
        path.write_text(json.dumps(study_json(command=command)))
    assert export() == 0
    text = FILE.read_text()
    assert "secret" not in text
    assert text.count("://me:***@") == 3


def test_numbers_that_json_lacks_survive(store_folder: Path) -> None:
    sql("UPDATE metrics SET is_nan = 1 WHERE step = 2")
    sql("UPDATE latest_metrics SET is_nan = 1 WHERE key = ?", names.TRAIN_LOSS)
    assert export() == 0
    assert "NaN" not in FILE.read_text()
    run = next(run for run in read_file(FILE).runs if run.fingerprint == BASELINE)
    assert repr(run.curves()) == repr({names.TRAIN_LOSS: [(1, 2.0), (2, float("nan")), (3, 0.666667)]})
    assert repr(run.metrics[names.TRAIN_LOSS]) == "nan"


def test_a_failure_to_write_leaves_the_file(
    store_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export() == 0
    before = FILE.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    forget(BASELINE)
    capsys.readouterr()
    assert export("--masks-of", fingerprint(92, "nal", 0)) == 2
    assert capsys.readouterr().err == f"archive: cannot write {FILE}: No space left on device\n"
    assert FILE.read_bytes() == before


RUN = '{"fingerprint": "f", "tags": {}, "params": {}, "metrics": {}, "curves": {}}'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"kind": "run", "fing', "Unterminated string"),
        ("<<<<<<< HEAD", "Expecting value"),
        ("[1]", "the line is no object"),
        ('{"kind": "weights"}', "kind 'weights' is neither study nor run nor ended"),
        ('{"kind": "study", "study": {"schema": 1}}', "study.json has no 'axes'"),
        ('{"kind": "study"}', "it has no 'study'"),
        (RUN.replace('"params": {}, ', ""), "it has no 'params'"),
        (RUN.replace('"tags": {}', '"tags": []'), "tags is no object"),
        (RUN.replace('"curves": {}', '"curves": {"train/loss": [[1]]}'), "not enough values"),
        (RUN.replace('"metrics": {}', '"metrics": {"a": "much"}'), "could not convert"),
        (RUN.replace('"metrics": {}', '"metrics": {}, "masks": "UEsD?"'), "base64"),
        (
            RUN.replace("{}}", '{}, "test_correct": {"count": 9, "bits": "AA=="}}'),
            "test_correct has 1 bytes for 9 images",
        ),
        (RUN.replace("{}}", '{}, "test_correct": {"count": 8}}'), "it has no 'bits'"),
        ('{"kind": "study", "study": STUDY, "parent": {"key": "a"}}', "it has no 'tags'"),
    ],
)
def test_a_damaged_line_is_named(
    empty_folder: Path, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    FILE.parent.mkdir()
    FILE.write_text(f"{RUN}\n{line.replace('STUDY', json.dumps(study_json()))}\n{RUN}\n")
    with pytest.raises(StoreError, match=re.escape(message)) as caught:
        read_file(FILE)
    assert str(caught.value).startswith(f"{FILE} is damaged in line 2: ")
    assert "\n" not in str(caught.value)
    assert archive.main(["show", "--out", "kept"]) == 2
    assert capsys.readouterr().err == f"archive: {caught.value}\n"


def test_a_file_that_is_no_text(empty_folder: Path) -> None:
    FILE.parent.mkdir()
    FILE.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StoreError, match="cannot be read: 'utf-8' codec"):
        read_file(FILE)


def test_a_run_that_stands_twice_after_a_merge_counts_once(empty_folder: Path) -> None:
    write([json.loads(RUN) | {"start_time": 2, "params": {"a": "new"}}, json.loads(RUN) | {"spec": {"stages": []}}])
    (run,) = read_file(FILE).runs
    assert (run.params, run.artifact(names.SPEC_JSON)) == ({"a": "new"}, b'{"stages": []}')


@pytest.mark.parametrize(
    ("profile", "data"), [("paper-1", "cluttershapes"), ("quick", "cluttershapes"), ("quick-1", "x")]
)
def test_nothing_to_keep_is_one_line(
    store_folder: Path, capsys: pytest.CaptureFixture[str], profile: str, data: str
) -> None:
    assert export(profile=profile, data=data) == 2
    error = capsys.readouterr().err
    nothing = f"archive: no finished run of profile {profile} on {data} in sqlite:///mlflow.db"
    assert error == f"{nothing}; there is quick-1 on cluttershapes\n"
    assert not FILE.parent.exists()


def test_a_missing_store_is_one_line(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export("--tracking-uri", "sqlite:///none.db") == 2
    error = capsys.readouterr().err
    assert error.startswith("archive: no tracking store at ./none.db")
    assert error.count("\n") == 1
    assert list(empty_folder.iterdir()) == []


def test_runs_that_another_profile_began_are_kept_where_a_study_plans_them(store_folder: Path) -> None:
    run = "SELECT run_uuid FROM tags WHERE value = ?"
    sql(f"UPDATE tags SET value = 'short-1' WHERE key = ? AND run_uuid IN ({run})", names.PROFILE, BASELINE)
    assert export() == 0
    assert BASELINE in runs()


def test_core_hours_are_shown_by_kind_of_machine(store_folder: Path) -> None:
    assert export() == 0
    other = fingerprint(56, "arl", 1)
    spent = {BASELINE: ("cpu AVX2, 1 thread", 0.5), other: ("cpu AVX2, 1 thread; cpu AVX512, 2 threads", 2.25)}
    for chosen, (how, hours) in spent.items():
        line = runs()[chosen]
        change(chosen, metrics=line["metrics"] | {names.COST_CPU_HOURS: hours}, tags=line["tags"] | {names.HOW: how})
    assert archive.coverage(read_file(FILE))[-1] == (
        "  core hours                      cpu AVX2: 0.5 over 1 run; cpu AVX2 and cpu AVX512: 2.2 over 1 run"
    )


def test_show(store_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert archive.main(["show", "--out", "kept"]) == 2
    assert capsys.readouterr().err.startswith("archive: no archive in kept: ")
    assert export() == 0
    (FILE.parent / "cifar10-short-1.jsonl").write_text(RUN + "\n")
    capsys.readouterr()
    assert archive.main(["show", "--out", "kept"]) == 0
    size = archive._size(FILE)
    assert capsys.readouterr().out.splitlines() == [
        "file                         studies  runs  seeds  started                   size",
        "─" * (77 + len(size)),
        "cifar10-short-1.jsonl        0        1            -                         1 kB",
        "  no study here  1 run",
        f"cluttershapes-quick-1.jsonl  2        8     0,1,2  2026-01-01 to 2026-01-03  {size}",
        f'  arl_vs_nal {{"train.steps": 10}}  {COVERED}',
        f"  arl_vs_nal                      {COVERED}",
    ]


@pytest.mark.parametrize(
    "argv", [[], ["list"], ["export"], ["export", "--profile", "quick-1"], ["show", "--profile", "x"]]
)
def test_refused_arguments_are_one_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        archive.main(argv)
    assert (caught.value.code, capsys.readouterr().err.count("\n")) == (2, 1)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, analysis.archive as m\n"
        "try: m.main(['--help'])\nexcept SystemExit: pass\nprint(sorted(sys.modules))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    for heavy in ("mlflow", "pandas", "scipy", "torch", "numpy"):
        assert f"'{heavy}'" not in done.stdout
