"""The figures of a search, from its search.json alone."""

import json
import math
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from test_figures import draw, faults

from analysis.figures import CaptionedFigure, MissingFigure
from analysis.figures.search import KINDS, figures_of
from analysis.make_figures import main
from records import names
from records.search_json import SearchRecord
from records.study_json import RecordError

SPACE: dict[str, dict[str, Any]] = {
    "optim.lr": {"type": "float", "low": 0.01, "high": 1.0, "log": True, "step": None},
    "optim.weight_decay": {"type": "float", "low": 1e-5, "high": 5e-3, "log": True, "step": None},
    "train.batch_size": {"type": "categorical", "choices": [32, 64, 128]},
    "optim.schedule": {"type": "categorical", "choices": ["step", "one_cycle", "cosine"]},
    "optim.label_smoothing": {"type": "float", "low": 0.0, "high": 0.2, "log": False, "step": None},
    "model.mask_activation": {"type": "categorical", "choices": ["mixed", "channel", "spatial"]},
    "model.p": {"type": "int", "low": 1, "high": 2, "log": False, "step": 1},
    "model.t": {"type": "int", "low": 1, "high": 3, "log": False, "step": 1},
    "model.r": {"type": "int", "low": 1, "high": 2, "log": False, "step": 1},
}
BASE = {
    "optim.lr": 0.5, "optim.weight_decay": 5e-4, "train.batch_size": 32, "optim.schedule": "one_cycle",
    "optim.label_smoothing": 0.0, "model.mask_activation": "mixed", "model.p": None, "model.t": None, "model.r": None,
}  # fmt: skip


def drawn_from(rng: random.Random, d: dict[str, Any]) -> Any:
    if d["type"] == "categorical":
        return rng.choice(d["choices"])
    if d["type"] == "int":
        return rng.randint(d["low"], d["high"])
    if d["log"]:
        return math.exp(rng.uniform(math.log(d["low"]), math.log(d["high"])))
    return rng.uniform(d["low"], d["high"])


def record(n: int = 40, *, two: bool = False, **changes: Any) -> dict[str, Any]:
    """A search.json of n trials, made up: every tenth diverged, some pruned, one failed, one replaced."""
    rng = random.Random(0)
    trials: list[dict[str, Any]] = []
    for number in range(n):
        params = {name: drawn_from(rng, d) for name, d in SPACE.items()}
        error = 30 + 12 * abs(math.log10(params["optim.lr"]) + 0.7) + rng.uniform(0, 9)
        outcome = names.FINISHED
        if number % 10 == 9:
            outcome = names.DIVERGED
        elif number == 7:
            outcome = names.FAILED
        elif error > 46 and number > 5 and not two:
            outcome = "pruned"
        macs = round(7.8e6 * rng.uniform(0.3, 2.0)) if two else 7_700_000
        state = {"pruned": "pruned", names.FAILED: "fail"}.get(outcome, "complete")
        values = {names.FINISHED: [error, macs], names.DIVERGED: [100.0, macs]}.get(outcome)
        trials.append({
            "number": number, "state": state, "outcome": outcome, "params": params, "settings": params,
            "values": values and values[: 1 + two], "macs": macs, "errors": [], "fingerprints": [], "seeds": [0],
            "intermediate": {} if two else {"1": error + 8}, "seconds": 30.0, "reason": "", "retry_of": None,
            "replaced": number == 12,
        })  # fmt: skip
    front: list[int] = []
    done = sorted((t for t in trials if t["outcome"] == names.FINISHED), key=lambda t: t["values"])
    least = math.inf
    for t in done:
        if two and t["macs"] < least:
            least = t["macs"]
            front.append(t["number"])
    shares = {name: 0.5 / 2**i for i, name in enumerate(SPACE)}
    content = {
        "schema": 1, "search": "attention56", "title": "Attention-56 at its budget of multiply-adds",
        "profile": "quick-1", "dataset": "cluttershapes", "overrides": {}, "seeds": [0], "pruner": "median",
        "objectives": ["error", "macs"] if two else ["error"], "evaluations": 2, "total": n, "base": BASE,
        "command": "python run_ablation.py --search attention56 --profile quick", "confirm": "", "space": SPACE,
        "derived": {"width": "", "steps": ""}, "derived_fields": ["model.width", "train.steps"], "base_macs": 7.8e6,
        "val_images": 500, "base_error": None,
        "trials": trials, "best": done[0]["number"] if done else None, "front": front,
        "importances": dict.fromkeys(("error", "macs") if two else ("error",), shares) if n > 1 else {},
    }  # fmt: skip
    return content | changes


def drawn(kind: str, content: dict[str, Any]) -> CaptionedFigure:
    (one,) = figures_of(SearchRecord.from_json(content), [kind])
    assert isinstance(one, CaptionedFigure), one
    return one


CASES = {
    "one objective": record(), "two objectives": record(two=True), "one trial": record(1),
    "overrides": record(12, overrides={"train.steps": 20}),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content", CASES.values(), ids=CASES)
def test_nothing_covers_anything(kind: str, content: dict[str, Any]) -> None:
    for one in figures_of(SearchRecord.from_json(content), [kind]):
        if isinstance(one, CaptionedFigure):
            assert faults(draw(one)) == []


def test_history_shows_every_trial_that_counts() -> None:
    content = record()
    figure = draw(drawn("history", content))
    by_look = {(line.get_marker(), line.get_markerfacecolor()): line for line in figure.axes[0].lines}
    shown = {kind: sorted(line.get_xdata()) for kind, line in by_look.items()}  # type: ignore[arg-type]
    counted = [t for t in content["trials"] if not t["replaced"]]

    def of(*outcomes: str) -> list[int]:
        return [t["number"] for t in counted if t["outcome"] in outcomes]

    assert of("finished") in shown.values()
    assert of("pruned") in shown.values()
    assert of("diverged", "failed") in shown.values()
    assert 12 not in [x for xs in shown.values() if len(xs) < len(counted) for x in xs], "it was replaced"
    line = next(line for line in figure.axes[0].lines if line.get_drawstyle() == "steps-post")
    so_far = [y for y in line.get_ydata() if y == y]  # type: ignore[union-attr]
    assert so_far == sorted(so_far, reverse=True)
    best = min(t["values"][0] for t in counted if t["outcome"] == "finished")
    assert so_far[-1] == best


def test_slices_show_each_parameter_and_the_base() -> None:
    content = record()
    figure = draw(drawn("slices", content))
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_xlabel() for axes in panels] == [
        "learning rate", "weight decay", "batch size", "schedule", "label smoothing", "mask activation", "p", "t", "r",
    ]  # fmt: skip
    assert panels[0].get_xscale() == "log"
    best = min((t for t in content["trials"] if t["outcome"] == "finished"), key=lambda t: t["values"])
    stars = [line for line in panels[0].lines if line.get_marker() == "*"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in stars] == [  # type: ignore[index]
        (best["params"]["optim.lr"], best["values"][0])
    ]
    base = [line for line in panels[0].lines if line.get_linestyle() == "--"]
    assert [line.get_xdata()[0] for line in base] == [0.5]  # type: ignore[index]
    assert not [line for line in panels[6].lines if line.get_linestyle() == "--"], "the network's own p has no place"


def test_importances_are_those_of_the_record() -> None:
    figure = draw(drawn("importances", record()))
    widths = [bar.get_width() for bar in figure.axes[0].patches]  # type: ignore[attr-defined]
    assert widths == sorted(widths)
    assert widths[-1] == 50.0
    assert figure.axes[0].get_yticklabels()[-1].get_text() == "learning rate"


def test_the_front_is_that_of_the_record() -> None:
    content = record(two=True)
    figure = draw(drawn("front", content))
    assert {text.get_text() for text in figure.axes[0].texts} == set(map(str, content["front"]))


@pytest.mark.parametrize("kind", ["history", "slices", "front", "importances"])
def test_captions_say_what_the_error_is(kind: str) -> None:
    one = drawn(kind, record(two=kind == "front"))
    caption = " ".join(one.caption)
    assert "Search: attention56. Data: cluttershapes (built-in, synthetic). Profile: quick-1." in caption
    assert "on the 500 validation images that the search chooses by" in caption
    assert "each the mean of 1 seed" in caption
    assert "39 trials" in caption


def test_what_cannot_be_drawn_is_one_line() -> None:
    empty = SearchRecord.from_json(record(0, importances={}))
    said = [one.message for one in figures_of(empty, list(KINDS)) if isinstance(one, MissingFigure)]
    assert len(said) == 4
    assert all("\n" not in line and "`python run_ablation.py --search attention56" in line for line in said)
    (front,) = figures_of(SearchRecord.from_json(record()), ["front"])
    assert isinstance(front, MissingFigure)
    assert "--objectives error,macs" in front.message


@pytest.mark.parametrize("content", CASES.values(), ids=CASES)
def test_records_are_written_as_they_were_read(content: dict[str, Any]) -> None:
    assert SearchRecord.from_json(content).to_json() == content


@pytest.mark.parametrize("content", [None, [], {}, {"schema": 2}, {"schema": 1}, record() | {"trials": [{}]}])
def test_records_that_cannot_be_read(content: Any) -> None:
    with pytest.raises(RecordError, match=r"search\.json"):
        SearchRecord.from_json(content)


# The command


@pytest.fixture
def store(empty_folder: Path, migrated_store: Path) -> Path:
    """A folder, entered, whose store holds two searches, one of them with overrides as well, and a broken one."""
    from mlflow import MlflowClient

    shutil.copy(migrated_store, empty_folder / "mlflow.db")
    client = MlflowClient(f"sqlite:///{empty_folder}/mlflow.db")
    experiment = client.create_experiment(
        "ran/cluttershapes", artifact_location=(empty_folder / "mlruns").as_uri()
    )  # fmt: skip
    for key, content in {
        "a": record(), "b": record(12, overrides={"train.steps": 10}), "c": record(12, search="noise_robust"),
    }.items():  # fmt: skip
        run = client.create_run(experiment, tags={names.SEARCH: key, names.STUDY: content["search"]})
        client.log_text(run.info.run_id, json.dumps(content), names.SEARCH_JSON)
    client.create_run(experiment, tags={names.SEARCH: "d", names.STUDY: "attention56"})
    return empty_folder


def test_it_writes_the_figures_of_one_search(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--search", "attention56", "--figure", "history,front", "--formats", "png"]) == 0
    out, err = capsys.readouterr()
    assert sorted(path.name for path in (store / "results" / "figures").iterdir()) == [
        "search-history-attention56-cluttershapes-quick-1.png"
    ]
    assert "Trials of a search" in out
    assert "no figure front of attention56" in err
    assert "of search attention56 is left out" in err


def test_overrides_are_drawn_when_asked(store: Path) -> None:
    assert main(["--search", "attention56", "--figure", "slices", "--formats", "png", "--overrides"]) == 0
    (path,) = (store / "results" / "figures").iterdir()
    assert path.name.startswith("search-slices-attention56-cluttershapes-quick-1-")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--search", "attention65"], "no search 'attention65'. There is: attention56, noise_robust."),
        (["--search", "attention56", "--figure", "4"], "unknown figure of a search 4. Valid: history, importances, "),
        (["--search", "attention56", "--profile", "paper"], "of profile 'paper'. There is: quick-1."),
        (["--search", "attention56", "--data", "cifar10"], "of data set 'cifar10'. There is: cluttershapes."),
        (["--search", "noise_robust", "--overrides"], "no search 'noise_robust' with overrides."),
        (["--search", "attention56", "--tracking-uri", "sqlite:///gone.db"], "no tracking store at ./gone.db"),
    ],
)
def test_refusals(store: Path, capsys: pytest.CaptureFixture[str], argv: list[str], message: str) -> None:
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("make_figures: ")
    assert message in err


def test_a_store_without_a_search(empty_folder: Path, migrated_store: Path, capsys: Any) -> None:
    shutil.copy(migrated_store, empty_folder / "mlflow.db")
    assert main(["--search", "attention56"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert (
        "no search in sqlite:///mlflow.db: run `python run_ablation.py --search attention56 --trials 40` first" in err
    )
