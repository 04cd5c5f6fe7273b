"""The claims: that the paper's own numbers agree with them, and each verdict from runs that call for it."""

# ruff: noqa: RUF001 - tables print a true minus sign and en dash

import csv
import io
from typing import Any

import pytest
from results_lab import CIFAR_NETWORKS, IMAGENET_NETWORKS, is_expected, network, results_of, study_with_runs

from analysis.claims.paper import CLAIMS, PARAMS, RESPONSE, Claim
from analysis.claims.table import claims_table
from analysis.claims.verdicts import JudgedClaim, judge_all
from analysis.read.published import published_value
from analysis.stats import CONTRADICTED, SUPPORTED, UNDECIDED
from analysis.tables.captions import OFFICIAL_IMAGES
from analysis.tables.cells import format_cell
from analysis.tables.formats import FORMATS, to_csv
from analysis.tables.network_table import read_costs
from experiments.catalog import load_study
from records import names
from records.study_json import NetworkKey

BY_ID = {claim.id: claim for claim in CLAIMS}


def judged(*parts: Any) -> dict[tuple[str, str, str], JudgedClaim]:
    results = results_of(*parts)
    found = judge_all(results, results.studies)
    return {(one.claim.id, one.study.profile, one.study.dataset): one for one in found}


def only(claim: str, *parts: Any) -> JudgedClaim:
    (found,) = [one for key, one in judged(*parts).items() if key[0] == claim]
    return found


def test_claims_are_data_with_ids_of_their_own() -> None:
    assert len(BY_ID) == len(CLAIMS) == 15
    assert sum(claim.where == "ours" for claim in CLAIMS) == 2


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_every_cell_of_a_claim_is_one_of_its_study(claim: Claim) -> None:
    for name, contrasts in claim.contrasts.items():
        study = load_study(name)
        cells = [dict(cell.values) for cell in study.cells]
        for contrast in contrasts:
            assert len({term.quantity for term in contrast.terms}) == 1
            for term in contrast.terms:
                assert dict(term.cell) in cells, (name, term.cell)


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_the_papers_own_numbers_agree_with_its_claims(dataset: str) -> None:
    """Each contrast of a claim of the paper has a published effect, on the claimed side of its bound."""
    some: Any = {0: "diverged"}
    parts = [
        study_with_runs("arl_vs_nal", {(depth, way): some for depth in (56, 164) for way in ("arl", "nal")}),
        study_with_runs("mask_type", {("mixed",): some}),
        study_with_runs("mask_structure", {("encoder_decoder",): some}),
        study_with_runs("noisy_labels", {(0.1, "resnet164"): some}),
        study_with_runs("cifar", {(name,): some for name in CIFAR_NETWORKS}, dataset=dataset),
        study_with_runs("imagenet", {("attention56_imagenet",): some}, dataset="imagenet"),
    ]
    effects = {
        (one.claim.id, found.contrast.label): (found.paper, found.contrast)
        for one in judged(*parts).values()
        for found in one.findings
    }
    assert {claim for claim, _ in effects} == {claim.id for claim in CLAIMS if claim.where != "ours"}
    for place, (paper, contrast) in effects.items():
        assert paper is not None, place
        assert (paper - contrast.bound) * contrast.side > 0, place
    assert effects["arl_beats_nal", "Attention-164: ARL − NAL"][0] == pytest.approx(4.31 - 7.18)
    assert effects["degrades_slowly", "rise: Attention-92 − ResNet-164"][0] == pytest.approx(10.60 - 11.28)
    expected = 4.99 - 5.46 if dataset == "cifar10" else 21.71 - 24.33
    assert effects["attention92_at_like_size", "Attention-92 − ResNet-164"][0] == pytest.approx(expected)
    assert effects["attention452_with_less", "parameters (M)"][0] == pytest.approx(8.6 - 36.5)
    for other in ("local, same units", "local, same MACs"):
        assert effects["encoder_decoder_is_best", f"encoder-decoder − {other}"][0] == pytest.approx(5.52 - 6.48)


def learning(better: float, worse: float, spread: float = 0.1, seeds: int = 3) -> dict[Any, Any]:
    """ARL falls from depth to depth by 1, NAL lies above it by `worse - better`, each seed `spread` apart."""
    shift = {seed: spread * (seed - 1) for seed in range(seeds)}
    return {
        (depth, way): {
            seed: error - i + (shift[seed] if way == "nal" else 0.0) + 0.01 * seed * i for seed in range(seeds)
        }
        for i, depth in enumerate((56, 92, 128, 164))
        for way, error in (("arl", better), ("nal", worse))
    }


def test_supported_contradicted_and_undecided() -> None:
    assert only("arl_beats_nal", study_with_runs("arl_vs_nal", learning(40, 45))).verdict == SUPPORTED
    assert only("arl_beats_nal", study_with_runs("arl_vs_nal", learning(45, 40))).verdict == CONTRADICTED
    found = only("arl_beats_nal", study_with_runs("arl_vs_nal", learning(40, 40.1, spread=0.3)))
    assert found.verdict == UNDECIDED
    assert found.more_seeds is not None
    assert 1 < found.more_seeds < 100


def test_one_contrast_of_four_on_the_other_side_is_enough() -> None:
    cells = learning(40, 45)
    cells[92, "nal"] = {seed: 20.0 + 0.1 * seed for seed in range(3)}
    assert only("arl_beats_nal", study_with_runs("arl_vs_nal", cells)).verdict == CONTRADICTED
    # and one that is not measured keeps the others from supporting
    del cells[92, "nal"]
    found = only("arl_beats_nal", study_with_runs("arl_vs_nal", cells))
    assert (found.verdict, found.more_seeds) == (UNDECIDED, None)
    (verdict,) = [format_cell(row[-1]) for row in claims_table([found]).rows if format_cell(row[-1])]
    assert verdict == "undecided: not every contrast can be measured"


def test_projected_seeds_would_decide() -> None:
    """With the number of seeds that is said, at that mean and spread, the claim is decided, and not with one less."""
    cells = learning(40, 40.15, spread=0.3)
    found = only("arl_beats_nal", study_with_runs("arl_vs_nal", cells))
    assert found.more_seeds is not None

    def repeated(n: int) -> str | None:
        """n seeds whose differences have the mean and the standard deviation that the three have."""
        more: dict[Any, Any] = {(depth, way): {} for depth, way in cells}
        for depth in (56, 92, 128, 164):
            first = [cells[depth, "arl"][s] - cells[depth, "nal"][s] for s in range(3)]
            mean = sum(first) / 3
            std = (sum((x - mean) ** 2 for x in first) / 2) ** 0.5
            # two groups of like size around the mean; the odd one out in the middle
            half = n // 2
            reach = std * ((n - 1) / (2 * half)) ** 0.5
            wanted = [mean - reach] * half + [mean + reach] * half + [mean] * (n % 2)
            for seed, difference in enumerate(wanted):
                more[depth, "arl"][seed], more[depth, "nal"][seed] = 50.0 + difference, 50.0
        return only("arl_beats_nal", study_with_runs("arl_vs_nal", more, seeds=range(n))).verdict

    assert repeated(3 + found.more_seeds) == SUPPORTED
    assert repeated(3 + found.more_seeds - 1) == UNDECIDED


def test_one_seed_is_a_value_and_no_verdict() -> None:
    found = only("arl_beats_nal", study_with_runs("arl_vs_nal", learning(40, 45, seeds=1)))
    assert found.verdict is None
    row = [format_cell(cell) for cell in claims_table([found]).rows[0]]
    assert row[3:] == ["−0.37", "−4.90", "1/3", "none: n = 1"]


def test_a_diverged_run_is_left_out_and_said() -> None:
    cells = learning(40, 45)
    cells[164, "nal"] = {0: 45.0, 1: 46.0, 2: "diverged"}
    found = only("arl_beats_nal", study_with_runs("arl_vs_nal", cells))
    table = claims_table([found])
    assert format_cell(table.rows[3][5]) == "2/3, div. 1"
    assert "div.: pairs with a diverged run, left out." in table.caption
    everything = {place: dict.fromkeys(range(3), "diverged") for place in cells}
    gone = only("arl_beats_nal", study_with_runs("arl_vs_nal", everything))
    assert [format_cell(cell) for cell in claims_table([gone]).rows[0]][3:] == [
        "−0.37",
        "–",
        "0/3, div. 3",
        "none: no pair",
    ]


def test_responses_come_from_probes_relative_to_stage_1() -> None:
    done: Any = dict.fromkeys(range(3), 40.0)
    cells = {(164, "arl"): done, (164, "nal"): done}
    responses = {(164, "arl"): [2.0, 1.0, 0.6], (164, "nal"): [2.0, 0.02, 0.01]}
    found = only("nal_vanishes", study_with_runs("arl_vs_nal", cells, responses=responses))
    assert found.verdict == SUPPORTED
    means = {one.contrast.label: one.stats.mean for one in found.findings if one.stats}
    assert means == pytest.approx(
        {"NAL, stage 2": 0.01, "NAL, stage 3": 0.005, "ARL, stage 2": 0.5, "ARL, stage 3": 0.3}
    )
    assert [one.paper for one in found.findings] == [0.016, 0.009, 0.524, 0.299]
    responses[164, "nal"] = [2.0, 0.5, 0.4]
    assert only("nal_vanishes", study_with_runs("arl_vs_nal", cells, responses=responses)).verdict == CONTRADICTED
    # without probes there is nothing to say
    assert "nal_vanishes" not in {key[0] for key in judged(study_with_runs("arl_vs_nal", cells))}


def test_responses_are_tested_against_their_bound_not_against_zero() -> None:
    done: Any = dict.fromkeys(range(3), 40.0)
    cells = {(164, "arl"): done, (164, "nal"): done}
    near = {0: [1.0, 0.09, 0.002], 1: [1.0, 0.08, 0.008], 2: [1.0, 0.1, 0.002]}
    responses: Any = {(164, "arl"): [1.0, 0.5, 0.3], (164, "nal"): near}
    found = only("nal_vanishes", study_with_runs("arl_vs_nal", cells, responses=responses))
    assert found.verdict == UNDECIDED
    levels = {one.contrast.label: one.interval.confidence for one in found.findings if one.interval}
    # against 0.1 it is stage 2 that is retained at the last place, against 0 it would be stage 3
    assert levels["NAL, stage 2"] == pytest.approx(0.95)
    assert levels["NAL, stage 3"] == pytest.approx(0.975)
    for one in found.findings:
        interval = one.interval
        assert interval is not None
        assert (interval.low < 0.1 < interval.high) == (one.contrast.label == "NAL, stage 2")  # type: ignore[operator]


def test_responses_of_the_other_study_count_where_the_first_has_none() -> None:
    done: Any = dict.fromkeys(range(2), 40.0)
    cells = {(f"attention164_{way}",): done for way in ("arl", "nal")}
    responses = {("attention164_arl",): [2.0, 1.0, 0.6], ("attention164_nal",): [2.0, 0.02, 0.01]}
    found = only(
        "nal_vanishes", study_with_runs("arl_vs_nal", {}), study_with_runs("depth_response", cells, responses=responses)
    )
    assert found.study.name == "depth_response"
    assert found.verdict == SUPPORTED


def test_counts_need_no_seeds_and_can_contradict() -> None:
    cells: Any = {("attention236",): {0: 30.0, 1: 31.1}, ("resnet1001",): {0: 40.0, 1: 41.0}}
    networks = {(name,): network(name, 0.5) for name in CIFAR_NETWORKS}
    found = only("attention236_with_less", study_with_runs("cifar", cells, networks=networks))
    assert found.verdict == SUPPORTED
    ours, theirs = (
        read_costs()[NetworkKey(n, 0.5, "encoder_decoder", 10, 32)]["params"] for n in ("attention236", "resnet1001")
    )
    assert found.findings[1].exact == pytest.approx((ours - theirs) / 1e6)
    assert [format_cell(cell) for cell in claims_table([found]).rows[1]][3:6] == ["−5.20", "−1.33", ""]
    networks["attention236",] = network("attention452", 1.0)
    assert only("attention236_with_less", study_with_runs("cifar", cells, networks=networks)).verdict == CONTRADICTED
    unknown = only("attention236_with_less", study_with_runs("cifar", cells))
    assert (unknown.verdict, unknown.findings[1].exact) == (UNDECIDED, None)


def test_the_rise_with_noise_is_paired_over_four_runs() -> None:
    cells: Any = {
        (0.1, "resnet164"): {0: 10.0, 1: 11.0, 2: 12.0},
        (0.7, "resnet164"): {0: 30.0, 1: 32.0, 2: 34.0},
        (0.1, "attention92"): {0: 9.0, 1: 10.0, 2: 11.0},
        (0.7, "attention92"): {0: 25.0, 1: 26.0},
    }
    (found,) = only("degrades_slowly", study_with_runs("noisy_labels", cells)).findings
    # (25 - 9) - (30 - 10) = -4 and (26 - 10) - (32 - 11) = -5; seed 2 lacks one of the four
    assert found.stats is not None
    assert (found.stats.mean, found.stats.n, found.planned) == (-4.5, 2, 3)


def test_a_sample_is_never_called_imagenet() -> None:
    cells: Any = {
        (name,): {0: {names.FINAL_TEST_ERR: error, names.FINAL_TEST_ERR5: error / 4}}
        for name, error in (("resnet152_imagenet", 40.0), ("attention56_imagenet", 30.0))
    }
    networks = {(name,): network(name, num_classes=10, image_size=64) for name in IMAGENET_NETWORKS}
    part = study_with_runs("imagenet", cells, dataset="imagenet", networks=networks, params={OFFICIAL_IMAGES: "1000"})
    table = claims_table(list(judged(part).values()))
    assert format_cell(table.rows[0][0]) == "quick-1, an image folder of 10 classes"
    assert [sentence for sentence in table.caption if sentence.startswith("No ImageNet results")]
    assert len(table.rows) == 3
    text = " ".join(format_cell(cell) for row in table.rows for cell in row)
    assert "ImageNet" not in text
    whole = {(name,): network(name, num_classes=1000, image_size=224) for name in IMAGENET_NETWORKS}
    part = study_with_runs(
        "imagenet", cells, dataset="imagenet", networks=whole, params={OFFICIAL_IMAGES: "1281167"}, profile="paper-1"
    )
    table = claims_table(list(judged(part).values()))
    assert format_cell(table.rows[0][0]) == "paper-1, ImageNet"
    assert not [sentence for sentence in table.caption if sentence.startswith("No ImageNet results")]


def everything(profile: str, **options: Any) -> list[Any]:
    """Studies that between them call for every verdict."""
    return [
        study_with_runs(
            "arl_vs_nal",
            learning(40, 45) | {(164, "nal"): {0: 60.0, 1: "diverged", 2: 66.0}},
            profile=profile,
            responses={(164, "arl"): [1.0, 0.52, 0.31], (164, "nal"): [1.0, 0.016, 0.2]},
            **options,
        ),
        study_with_runs(
            "mask_type", {("mixed",): {0: 40.0}, ("channel",): {0: 41.0}, ("spatial",): {0: 39.0}}, profile=profile
        ),
        study_with_runs(
            "mask_structure",
            {
                ("encoder_decoder",): {0: 40.0, 1: 40.1, 2: 40.3},
                ("local_conv",): {0: 40.1, 1: 40.4, 2: 39.8},
                ("local_conv_macs",): {0: 44.0, 1: 46.0, 2: 45.0},
            },
            profile=profile,
        ),
        study_with_runs(
            "controls",
            {
                ("attention56",): {0: 40.0, 1: 40.0},
                ("trunk",): {0: 39.0, 1: 41.0},
                ("no_mask",): {0: 42.0, 1: 42.1},
            },
            profile=profile,
        ),
        study_with_runs(
            "cifar",
            {("resnet164",): {0: 40.0, 1: 41.0, 2: 40.5}, ("attention92",): {0: 43.0, 1: 43.8, 2: 43.6}},
            profile=profile,
            networks={(name,): network(name, 0.5) for name in CIFAR_NETWORKS},
        ),
        study_with_runs(
            "cifar",
            {("resnet164",): {0: 70.0, 1: 71.0, 2: 70.5}, ("attention92",): {0: 69.2, 1: 70.1, 2: 69.8}},
            dataset="cifar100",
            profile=profile,
        ),
    ]  # fmt: skip


def test_the_table_of_all_verdicts() -> None:
    found = judged(*everything("short-1"), study_with_runs("arl_vs_nal", learning(5, 6, 0.05), profile="paper-1"))
    assert {one.verdict for one in found.values()} == {SUPPORTED, CONTRADICTED, UNDECIDED, None}
    table = claims_table(list(found.values()))
    is_expected("claims", table)
    assert table.stem == "claims-all"
    assert all(render(table) for _, render in FORMATS.values())
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert all(row["runs"] and row["claim"] in BY_ID for row in rows)


def test_paper_stands_first_and_groups_do_not_mix() -> None:
    parts = [*everything("short-1"), *everything("paper-1")]
    keys = list(judged(*parts))
    groups = [key[1:] for key in keys]
    assert list(dict.fromkeys(groups)) == [
        ("paper-1", "cifar10"), ("paper-1", "cifar100"), ("short-1", "cifar10"), ("short-1", "cifar100"),
    ]  # fmt: skip
    assert groups == sorted(groups)
    assert "and no run of it is here" not in claims_table(list(judged(*parts).values())).caption[0]
    assert "and no run of it is here" in claims_table(list(judged(*everything("short-1")).values())).caption[0]


def test_overrides_stand_in_the_first_column_and_the_file_name() -> None:
    plain, changed = (study_with_runs("arl_vs_nal", learning(40, 45), overrides=o) for o in ({}, {"optim.lr": 0.1}))
    tables = [claims_table(list(judged(part).values())) for part in (plain, changed)]
    assert [format_cell(table.rows[0][0]) for table in tables] == [
        "quick-1, CIFAR-10",
        "quick-1, CIFAR-10, optim.lr = 0.1",
    ]
    assert tables[0].stem == "claims-cifar10-quick-1"
    assert tables[1].stem.startswith("claims-cifar10-quick-1-")


def test_claims_without_runs_are_named_in_one_sentence() -> None:
    table = claims_table(list(judged(study_with_runs("arl_vs_nal", learning(40, 45))).values()))
    (sentence,) = [text for text in table.caption if text.startswith("Without runs: ")]
    for claim in CLAIMS:
        assert (claim.sentence in sentence) == ("arl_vs_nal" not in claim.contrasts or claim.id == "nal_vanishes")
    empty = claims_table([])
    assert empty.rows == ()
    assert all(isinstance(render(empty), str) for _, render in FORMATS.values())


def test_response_claims_speak_of_figure_4s_numbers() -> None:
    for contrasts in BY_ID["nal_vanishes"].contrasts.values():
        for contrast in contrasts:
            (term,) = contrast.terms
            assert term.quantity in RESPONSE.values()
            assert term.published is not None
            table, cell = term.published
            assert published_value(table, cell, "relative_response") is not None
    assert all(contrast.quantity != PARAMS for contrast in BY_ID["arl_beats_nal"].contrasts["arl_vs_nal"])
