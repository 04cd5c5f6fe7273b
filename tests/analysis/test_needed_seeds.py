"""What it would take to decide each claim, as `python -m analysis.plan` prints it."""

import re
from pathlib import Path

import pytest
from synthetic import study_lines, write_archive

from analysis.claims.paper import CLAIMS
from analysis.claims.verdicts import JudgedClaim
from analysis.plan import main
from records import names


@pytest.fixture
def planned(empty_folder: Path, capsys: pytest.CaptureFixture[str]):
    """Returns what is printed for an archive of these lines, by claim."""

    def rows(*lines: list[dict], arguments: tuple[str, ...] = ()) -> dict[str, list[str]]:
        archive = write_archive(empty_folder / "archive", *lines)
        assert main([*arguments, "--archive", str(archive)]) == 0
        table = capsys.readouterr().out.partition("\n\n")[0].splitlines()[2:]
        return {cells[0]: cells[1:] for cells in (re.split(r"\s{2,}", line) for line in table)}

    return rows


def test_every_claim_has_its_line(planned) -> None:
    rows = planned(study_lines("arl_vs_nal"))
    assert set(rows) == {claim.id for claim in CLAIMS}
    assert rows["attention56_costs_less"] == ["counted", "supported"]
    assert rows["mixed_is_best"] == ["none here", "not run", "--study mask_type --profile short"]
    assert rows["arl_beats_nal"][:3] == ["short-1, CIFAR-10", "supported", "3 of 3 seeds"]
    assert rows["attention92_beats_resnet200"] == ["none here", "not run", "networks that we lack"]


def test_one_claim_alone(planned) -> None:
    assert list(planned(study_lines("arl_vs_nal"), arguments=("arl_beats_nal",))) == ["arl_beats_nal"]


def test_an_interim_claim_costs_the_rest_of_its_plan(planned) -> None:
    """One seed of three: the other two of each of three cells, at the measured cost of the first."""

    def outcomes(cell: dict, seed: int) -> str | None:
        return names.FINISHED if seed == 0 else None

    lines = study_lines("mask_type", outcomes=outcomes)
    hours = [line["metrics"][names.COST_HOURS] for line in lines if line.get("kind") == "run"]
    (verdict, seeds, decide, cost) = planned(lines)["mixed_is_best"][1:]
    assert (verdict, seeds, decide) == ("interim", "1 of 3 seeds", "3")
    assert float(cost) == pytest.approx(2 * sum(hours), abs=0.06)


def test_an_undecided_claim_costs_about_the_seeds_that_would_have_power(planned, monkeypatch) -> None:
    lines = study_lines("controls")
    hours = [line["metrics"][names.COST_HOURS] for line in lines if line.get("kind") == "run"]
    verdict, seeds, decide, cost = planned(lines)["not_the_compute"][1:]
    assert (verdict, seeds) == ("undecided", "3 of 3 seeds")
    rough = re.fullmatch(r"about ([1-9]0+)", decide)
    assert rough, "one digit"
    expected = (int(rough[1]) - 3) * 2 * sum(hours) / len(hours)
    assert float(cost.removeprefix("about ")) == pytest.approx(expected, rel=0.6), "both are rounded to a digit"
    monkeypatch.setattr(JudgedClaim, "needed", 3)
    assert planned(lines)["not_the_compute"][3:] == ["as there are"], "nothing is left to train for it"


def test_an_unknown_claim_is_one_line(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["arl_beats_nl"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("plan: no claim 'arl_beats_nl'. There is: arl_beats_nal, ")
    assert error.count("\n") == 1
