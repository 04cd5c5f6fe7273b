"""Runs as the tracking store holds them, and how a run's record begins."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from records import names
from records.reading import UnreadableError, parse_object
from records.schema import schema_of

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """What the store knows of one run."""

    run_id: str
    fingerprint: str
    outcome: str | None
    """None for a run that is in training, or whose process died"""
    name: str = ""
    study: str = ""
    profile: str = ""
    dataset: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """settings that the user changed, by field"""
    resumes: int = 0
    reason: str = ""
    """why the run failed or diverged"""
    images_per_s: float | None = None
    val_err: float | None = None
    test_err: float | None = None
    schema: int = 1
    """schema version of its fingerprint"""
    plain_fingerprint: str = ""
    """fingerprint without the code of a user's own parts; "" for a run without such parts"""
    user_code: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the files with a user's own parts, by file name"""

    @property
    def is_result(self) -> bool:
        """Whether the run is complete: finished, or diverged, which is a result too."""
        return self.outcome in (names.FINISHED, names.DIVERGED)

    @classmethod
    def of(cls, run: "Run") -> "StoredRun":
        """Returns the record of an MLflow run with a fingerprint."""
        tags, metrics = run.data.tags, names.current_metrics(run.data.metrics)
        return cls(
            run_id=run.info.run_id,
            fingerprint=tags[names.FINGERPRINT],
            outcome=tags.get(names.OUTCOME),
            name=names.without_result(run.info.run_name or ""),
            study=tags.get(names.STUDY, ""),
            profile=tags.get(names.PROFILE, ""),
            dataset=tags.get(names.DATASET, ""),
            overrides=_object(tags.get(names.OVERRIDES, "{}")),
            resumes=int(resumes) if (resumes := tags.get(names.RESUMES, "0")).isdecimal() and len(resumes) < 10 else 0,
            reason=tags.get(names.REASON, ""),
            images_per_s=metrics.get(names.COST_IMAGES_PER_S),
            val_err=metrics.get(names.FINAL_VAL_ERR),
            test_err=metrics.get(names.FINAL_TEST_ERR),
            schema=schema_of(tags),
            plain_fingerprint=tags.get(names.PLAIN_FINGERPRINT, ""),
            user_code={
                key: value for key, value in _object(tags.get(names.USER_CODE, "{}")).items() if isinstance(value, str)
            },
        )


def _object(text: str) -> dict[str, Any]:
    """Returns the JSON object in a tag, which anybody can have edited; an empty one if it is something else."""
    try:
        return parse_object(text)
    except UnreadableError:
        return {}


def by_fingerprint(runs: Iterable[StoredRun]) -> dict[str, StoredRun]:
    """Returns one run per fingerprint: the first in `runs` that has a result, else the last."""
    chosen: dict[str, StoredRun] = {}
    for run in runs:
        held = chosen.get(run.fingerprint)
        if held is None or not held.is_result:
            chosen[run.fingerprint] = run
    return chosen


@dataclass(frozen=True, kw_only=True)
class RunOpening:
    """First entry of a run's log: enough to create the run, or to find it again."""

    dataset: str
    digest: str
    parent_id: str
    name: str
    fingerprint: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    start_ms: int
    run_id: str | None
    """id of the run to continue; None = create it, unless the store has it after all"""
    resumes: int


def metric_name(text: str) -> str:
    """Returns `text` without the characters that MLflow refuses in the name of a metric."""
    return re.sub(r"[^\w.\- :]", "_", text) or "all"
