"""The claims: that the paper's own numbers agree with them, and each verdict from runs that call for it."""

# ruff: noqa: RUF001 - tables print a true minus sign and en dash

import csv
import io
import math
import re
from typing import Any

import numpy as np
import pytest
from results_lab import CIFAR_NETWORKS, IMAGENET_NETWORKS, is_expected, network, results_of, study_with_runs

from analysis.claims.claim import MACS, NOT_OURS, OURS, PARAMS, RESPONSE, Claim
from analysis.claims.paper import CLAIMS
from analysis.claims.table import claims_table, verdict_text, where_text
from analysis.claims.verdicts import INTERIM, NOT_RUN, JudgedClaim, judge_all
from analysis.read.published import published_value
from analysis.stats import CONTRADICTED, NEVER, NO_DIFFERENCE, SUPPORTED, UNDECIDED
from analysis.tables.captions import OFFICIAL_IMAGES
from analysis.tables.cells import format_cell
from analysis.tables.formats import FORMATS, to_csv
from analysis.tables.network_table import read_costs
from experiments.catalog import load_study
from records import names

BY_ID = {claim.id: claim for claim in CLAIMS}
DEPTHS = (56, 92, 128, 164)


def everything_of(*parts: Any) -> list[JudgedClaim]:
    results = results_of(*parts)
    return judge_all(results, results.studies)


def judged(*parts: Any) -> dict[tuple[str, str, str], JudgedClaim]:
    """The claims that have runs."""
    found = [one for one in everything_of(*parts) if one.study is not None]
    return {(one.claim.id, one.study.profile, one.study.dataset): one for one in found if one.study}


def only(claim: str, *parts: Any) -> JudgedClaim:
    (found,) = [one for one in everything_of(*parts) if one.claim.id == claim]
    return found


def means(one: JudgedClaim) -> dict[str, float]:
    return {
        found.hypothesis.label: found.measured.contrast.mean
        for found in one.findings
        if found.measured is not None and found.measured.contrast is not None
    }


def test_claims_are_data_with_ids_of_their_own() -> None:
    assert len(BY_ID) == len(CLAIMS)
    assert sum(claim.where == OURS for claim in CLAIMS) == 2
    for claim in CLAIMS:
        assert claim.hypotheses or claim.counts, claim.id
        assert {one.quantity for one in claim.counts} <= {PARAMS, MACS}
        assert not {PARAMS, MACS} & {one.quantity for several in claim.hypotheses.values() for one in several}


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_every_cell_of_a_claim_is_one_of_its_study(claim: Claim) -> None:
    for name, hypotheses in claim.hypotheses.items():
        study = load_study(name)
        cells = [dict(cell.values) for cell in study.cells]
        for hypothesis in hypotheses:
            assert len({term.quantity for term in hypothesis.terms}) == 1
            assert hypothesis.ratio == (hypothesis.quantity in RESPONSE.values())
            if not hypothesis.ratio:
                assert sum(term.weight for term in hypothesis.terms) == pytest.approx(0)
            for term in hypothesis.terms:
                assert dict(term.cell) in cells or term.cell["network"] in NOT_OURS, (name, term.cell)


def test_the_papers_effect_is_of_one_data_set() -> None:
    """Table 5 has CIFAR-10 alone, Table 6 both."""
    cells = {(noise, name): {0: 40.0} for noise in (0.0, 0.7) for name in ("resnet164", "attention92")}
    for dataset in ("cifar10", "cifar100"):
        (found,) = only("gains_with_noise", study_with_runs("noisy_labels", cells, dataset=dataset)).findings
        assert found.paper == pytest.approx(0.47 - 1.46)


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_the_papers_own_numbers_agree_with_its_claims(dataset: str) -> None:
    """Each hypothesis of a claim of the paper has a published effect, on the claimed side of its bound."""
    found = everything_of(study_with_runs("cifar", {(name,): {0: 5.0} for name in CIFAR_NETWORKS}, dataset=dataset))
    effects = {
        (one.claim.id, f.hypothesis.label): (f.paper, f.hypothesis)
        for one in found
        for f in one.findings
        if one.claim.where != OURS
    }
    assert {claim for claim, _ in effects} == {claim.id for claim in CLAIMS if claim.where != OURS}
    for place, (paper, hypothesis) in effects.items():
        assert paper is not None, place
        if hypothesis.side:
            assert (paper - hypothesis.bound) * hypothesis.side > 0, place
        elif hypothesis.ratio:
            assert abs(math.log(paper / hypothesis.bound)) <= math.log(hypothesis.margin), place
        else:
            assert abs(paper - hypothesis.bound) <= hypothesis.margin, place
    assert effects["arl_beats_nal", "Attention-164: ARL − NAL"][0] == pytest.approx(4.31 - 7.18)
    # least squares over 0.37, 0.36, 1.13, 2.87 at 0, 1, 2, 3
    slope = np.polyfit(range(4), [0.37, 0.36, 1.13, 2.87], 1)[0]
    assert effects["gap_grows_with_depth", "slope of NAL − ARL per 36 layers"][0] == pytest.approx(slope)
    assert effects["degrades_slowly", "rise: Attention-92 − ResNet-164"][0] == pytest.approx(10.60 - 11.28)
    assert effects["gains_with_noise", "rise: Attention-92 − ResNet-164"][0] == pytest.approx(0.47 - 1.46)
    assert effects["arl_responds_like_resnet", "ARL / ResNet-164, stage 2"][0] == pytest.approx(0.524 / 0.566)
    expected = 4.99 - 5.46 if dataset == "cifar10" else 21.71 - 24.33
    assert effects["attention92_at_like_size", "Attention-92 − ResNet-164"][0] == pytest.approx(expected)
    assert effects["attention452_with_less", "parameters (M)"][0] == pytest.approx(8.6 - 36.5)
    assert effects["attention56_costs_less", "parameters: Attention-56 / ResNet-152"][0] == pytest.approx(31.9 / 60.2)
    assert effects["attention92_costs_less", "MACs: Attention-92 / ResNet-200"][0] == pytest.approx(10.4 / 15.0)
    for id, other in (("units", "local, same units"), ("macs", "local, same MACs")):
        place = f"encoder_decoder_beats_local_{id}", f"encoder-decoder − {other}"
        assert effects[place][0] == pytest.approx(5.52 - 6.48)


def learning(better: float, worse: float, spread: float = 0.1, seeds: int = 3) -> dict[Any, Any]:
    """ARL falls from depth to depth by 1, NAL lies above it by `worse - better`, each seed `spread` apart."""
    shift = {seed: spread * (seed - 1) for seed in range(seeds)}
    return {
        (depth, way): {
            seed: error - i + (shift[seed] if way == "nal" else 0.0) + 0.01 * seed * i for seed in range(seeds)
        }
        for i, depth in enumerate(DEPTHS)
        for way, error in (("arl", better), ("nal", worse))
    }


@pytest.mark.parametrize(
    ("cells", "verdict"),
    [
        (learning(40, 45), SUPPORTED),
        (learning(45, 40), CONTRADICTED),
        (learning(40, 40.1, spread=0.5), UNDECIDED),
        (learning(40, 40.1, spread=0.2), NO_DIFFERENCE),
    ],
)
def test_each_verdict_from_runs_that_call_for_it(cells: Any, verdict: str) -> None:
    assert only("arl_beats_nal", study_with_runs("arl_vs_nal", cells)).verdict == verdict


def truth(arl: float, nal: float, *, seeds: int = 5, images: int = 4_000, shift: float = 0.01) -> dict[Any, Any]:
    """Networks with these error rates at every depth: whether each test image is misclassified, by seed and image."""
    draw = np.random.default_rng(7)
    difficulty = draw.random(images)
    found = {}
    for depth in DEPTHS:
        for way, rate in (("arl", arl), ("nal", nal)):
            rates = rate + shift * draw.standard_normal((seeds, 1))
            noise = 0.15 * draw.standard_normal((seeds, images))
            found[depth, way] = difficulty + noise > 1 - rates
    return found


@pytest.mark.parametrize(
    ("arl", "nal", "verdict"),
    [
        (0.35, 0.40, SUPPORTED), (0.40, 0.35, CONTRADICTED), (0.35, 0.35, UNDECIDED), (0.30, 0.302, UNDECIDED),
    ],
)  # fmt: skip
def test_verdicts_on_images_of_networks_with_known_error_rates(arl: float, nal: float, verdict: str) -> None:
    found = only("arl_beats_nal", study_with_runs("arl_vs_nal", {}, seeds=range(5), wrong=truth(arl, nal)))
    assert found.verdict == verdict
    assert {f.measured.contrast.images for f in found.findings if f.measured} == {4_000}  # type: ignore[union-attr]
    if verdict == UNDECIDED:
        assert found.needed == NEVER or found.needed > 5  # type: ignore[operator]


def test_many_images_of_alike_networks_show_no_difference() -> None:
    alike = truth(0.35, 0.35, shift=0.0, images=40_000)
    assert (
        only("arl_beats_nal", study_with_runs("arl_vs_nal", {}, seeds=range(5), wrong=alike)).verdict == NO_DIFFERENCE
    )


def test_nothing_is_judged_before_its_plan_is_done() -> None:
    """Two seeds that agree by chance are no verdict, whatever their interval."""
    cells = learning(40, 45, spread=0.01, seeds=2)
    found = only("arl_beats_nal", study_with_runs("arl_vs_nal", cells, seeds=(0, 1), plan=(0, 1, 2)))
    assert (found.verdict, verdict_text(found)) == (INTERIM, "interim: 2 of 3 seeds")
    assert means(found)["Attention-56: ARL − NAL"] < 0
    row = [format_cell(cell) for cell in claims_table([found]).rows[0]]
    assert row[5] == "2/3"
    assert "*" not in row[4]
    unplanned = only("arl_beats_nal", study_with_runs("arl_vs_nal", cells, seeds=(0, 1), plan=()))
    assert (unplanned.verdict, verdict_text(unplanned)) == (INTERIM, "interim: no plan on record")
    two = only("arl_beats_nal", study_with_runs("arl_vs_nal", cells, seeds=(0, 1)))
    assert verdict_text(two) == "interim: 2 of at least 3 seeds planned"
    three = learning(40, 45, spread=0.01, seeds=3)
    done = only("arl_beats_nal", study_with_runs("arl_vs_nal", three, seeds=(0, 1, 2)))
    assert done.verdict == SUPPORTED, "planned as three"
    equal = {cell: dict.fromkeys(range(3), 40.0 if cell[1] == "arl" else 40.1) for cell in cells}
    alike = only("arl_beats_nal", study_with_runs("arl_vs_nal", equal, seeds=(0, 1, 2)))
    assert alike.verdict == UNDECIDED, "three differences that are equal to the digit"


def test_seeds_beyond_the_plan_are_not_judged() -> None:
    cells = learning(40, 45)
    more = {cell: errors | {3: 90.0 if cell[1] == "arl" else 1.0} for cell, errors in cells.items()}
    few, many = (
        only("arl_beats_nal", study_with_runs("arl_vs_nal", c, seeds=range(4), plan=(0, 1, 2))) for c in (cells, more)
    )
    assert many.verdict == SUPPORTED
    assert means(many) == means(few)
    others = {cell: {seed + 5: error for seed, error in errors.items()} for cell, errors in cells.items()}
    found = only("arl_beats_nal", study_with_runs("arl_vs_nal", others, seeds=(5, 6, 7), plan=(0, 1, 2)))
    assert found.verdict == INTERIM, "three seeds, but not those of the plan"
    assert verdict_text(found) == "interim: 0 of 3 seeds planned, 3 others"
    table = claims_table([found])
    assert format_cell(table.rows[0][5]) == "0/3 +3"
    assert any("over those launched" in sentence for sentence in table.caption)


def test_one_contrast_of_four_on_the_other_side_is_enough() -> None:
    cells = learning(40, 45)
    cells[92, "nal"] = {seed: 20.0 + 0.1 * seed for seed in range(3)}
    assert only("arl_beats_nal", study_with_runs("arl_vs_nal", cells)).verdict == CONTRADICTED
    # and one that is not measured keeps the claim from being judged
    del cells[92, "nal"]
    found = only("arl_beats_nal", study_with_runs("arl_vs_nal", cells))
    assert verdict_text(found) == "interim: 0 to 3 of 3 seeds"


def test_a_contradiction_names_its_contrasts() -> None:
    cells: Any = {
        (kind,): dict(enumerate(errors))
        for kind, errors in {"mixed": (40, 41, 42), "channel": (41, 41.5, 44), "spatial": (38, 38.9, 40.1)}.items()
    }
    found = only("mixed_is_best", study_with_runs("mask_type", cells))
    assert found.verdict == CONTRADICTED
    assert verdict_text(found) == "contradicted: mixed \N{MINUS SIGN} spatial"
    one: Any = {("attention56",): {0: 41.0, 1: 42.0, 2: 43.1}, ("no_mask",): {0: 40.0, 1: 41.0, 2: 42.0}}
    assert verdict_text(only("masks_help", study_with_runs("controls", one))) == "contradicted", "there is no other"


def test_the_budget_and_the_size_of_the_data_stand_beside_the_verdict() -> None:
    params = {"model.width": "0.5", "train.steps": "1250", "train.batch_size": "32", "data.train_images": "2000"}
    cells: Any = {
        (level, network): dict.fromkeys(range(3), 40.0)
        for level in (0.0, 0.1, 0.3, 0.5, 0.7)
        for network in ("resnet164", "attention92")
    }
    found = only("robust_to_noise", study_with_runs("noisy_labels", cells, params=params))
    assert where_text(found) == "Table 5; training images: 2,000"
    said = "Runs of quick-1: 0.5 of the paper's width, 40,000 images seen in training (the paper on CIFAR: 10,240,000)."
    assert said in claims_table([found]).caption
    whole = only("arl_beats_nal", study_with_runs("arl_vs_nal", learning(40, 45)))
    assert where_text(whole) == "Table 3"
    for odd in (
        {"train.steps": "lots"},
        {"train.batch_size": "9" * 4000},
        {"model.width": "nan"},
        {"train.steps": "-1"},
    ):
        found = only("robust_to_noise", study_with_runs("noisy_labels", cells, params=params | odd))
        assert found.budget == "", "an archive may hold anything"


def test_the_growing_gap_is_decided_where_pairs_are_not() -> None:
    """The slope over four depths has more power than the pairwise claim."""
    wide = {56: (0.0, -2.0, 4.0), 92: (6.0, 3.0, 9.0), 128: (13.0, 11.0, 14.0), 164: (20.0, 17.0, 20.0)}
    cells: Any = {}
    for depth, gaps in wide.items():
        cells[depth, "arl"] = dict.fromkeys(range(3), 40.0)
        cells[depth, "nal"] = {seed: 40.0 + gap for seed, gap in enumerate(gaps)}
    part = study_with_runs("arl_vs_nal", cells)
    assert only("arl_beats_nal", part).verdict == UNDECIDED
    grows = only("gap_grows_with_depth", part)
    assert grows.verdict == SUPPORTED
    slopes = [np.polyfit(range(4), [wide[depth][seed] for depth in DEPTHS], 1)[0] for seed in range(3)]
    assert means(grows) == pytest.approx({"slope of NAL − ARL per 36 layers": np.mean(slopes)})


def test_an_undecided_claim_says_direction_and_seeds() -> None:
    found = only("arl_beats_nal", study_with_runs("arl_vs_nal", learning(40, 40.1, spread=0.5)))
    assert isinstance(found.needed, int)
    assert found.needed > 3
    assert 10 < found.needed < 100
    assert verdict_text(found) == (
        f"undecided: 4 of 4 means as claimed; about {round(found.needed, -1)} seeds would have 80 % power for "
        "the paper's effect"
    )
    done: Any = dict.fromkeys(range(3), 40.0)
    responses = {
        ("attention164_arl",): {0: [1.0, 0.4, 0.2], 1: [1.0, 0.6, 0.3], 2: [1.0, 0.8, 0.4]},
        ("resnet164",): [1.0, 0.57, 0.3],
    }
    cells = dict.fromkeys(responses, done)
    equal = only("arl_responds_like_resnet", study_with_runs("depth_response", cells, responses=responses))
    assert re.fullmatch(
        r"undecided: 2 of 2 means as claimed; about \d+ seeds would have 80 % power for the paper's effect",
        verdict_text(equal),
    )
    controls: Any = {("attention56",): {0: 40.0, 1: 41.0, 2: 42.0}, ("trunk",): {0: 41.0, 1: 40.0, 2: 43.5}}
    ours = only("not_the_compute", study_with_runs("controls", controls))
    power = r"about \d+ seeds would have 80 % power for 0.5 points"
    assert re.fullmatch(rf"undecided: the mean is as claimed; {power}", verdict_text(ours))
    close = {
        ("attention164_arl",): {0: [1.0, 0.57, 0.45], 1: [1.0, 0.58, 0.475], 2: [1.0, 0.56, 0.5]},
        ("resnet164",): [1.0, 0.57, 0.6],
    }
    near = only("arl_responds_like_resnet", study_with_runs("depth_response", cells, responses=close))
    assert verdict_text(near) == (
        "undecided: 1 of 2 means as claimed; these seeds have 80 % power for the paper's effect"
    )


def test_images_can_forbid_a_verdict_at_any_number_of_seeds() -> None:
    """The paper's 0.13 points between 128 and 164 layers are less than 400 test images can show."""
    few = truth(0.35, 0.35, images=400, shift=0.001)
    draw = np.random.default_rng(3)
    for cell in few:  # what new images change: each network finds other images hard, at every seed
        few[cell] = few[cell] ^ np.broadcast_to(draw.random(400) < 0.2, few[cell].shape)
    found = only("arl_falls_with_depth", study_with_runs("arl_vs_nal", {}, seeds=range(5), wrong=few))
    assert found.needed == NEVER
    assert "no number of seeds would have 80 % power for the paper's effect" in verdict_text(found)


def test_a_diverged_run_counts_as_guessing() -> None:
    cells = learning(40, 45)
    cells[164, "nal"] = {0: 45.0, 1: 46.0, 2: "diverged"}
    networks = {cell: network(f"attention{cell[0]}") for cell in cells}
    found = only("arl_beats_nal", study_with_runs("arl_vs_nal", cells, networks=networks))
    table = claims_table([found])
    assert format_cell(table.rows[3][5]) == "3, div. 1"
    assert "div.: seeds with a diverged run, which counts as guessing." in table.caption
    arl = cells[164, "arl"]
    assert means(found)["Attention-164: ARL − NAL"] == pytest.approx(
        np.mean([arl[0] - 45, arl[1] - 46, arl[2] - 90])  # ten classes
    )
    everywhere: Any = {cell: dict.fromkeys(range(3), "diverged") for cell in cells}
    gone = only("arl_beats_nal", study_with_runs("arl_vs_nal", everywhere, networks=networks))
    assert verdict_text(gone) == "undecided: every run of a contrast diverged", "not: no difference"
    assert format_cell(claims_table([gone]).rows[0][4]) == "\N{EN DASH}", "nothing was measured"
    against: Any = learning(45, 40) | {(164, way): dict.fromkeys(range(3), "diverged") for way in ("arl", "nal")}
    found_against = only("arl_beats_nal", study_with_runs("arl_vs_nal", against, networks=networks))
    assert found_against.verdict == CONTRADICTED, "three of four lie on the other side"
    unknown = only("arl_beats_nal", study_with_runs("arl_vs_nal", cells, dataset="mine"))
    assert verdict_text(unknown) == "interim: 2 to 3 of 3 seeds, 1 diverged", "what guessing costs is not known"
    hundred = {cell: network(f"attention{cell[0]}", num_classes=100) for cell in cells}
    found = only("arl_beats_nal", study_with_runs("arl_vs_nal", cells, networks=hundred, dataset="mine"))
    assert means(found)["Attention-164: ARL − NAL"] == pytest.approx(np.mean([arl[0] - 45, arl[1] - 46, arl[2] - 99]))


def test_a_diverged_run_counts_per_image_too() -> None:
    wrong = truth(0.35, 0.40, seeds=3)
    gone = wrong.pop((164, "nal"))
    cells: Any = {(164, "nal"): {0: "diverged", 1: "diverged", 2: "diverged"}}
    found = only("arl_beats_nal", study_with_runs("arl_vs_nal", cells, wrong=wrong))
    last = found.findings[-1].measured
    assert last is not None
    assert last.contrast is not None
    assert (last.diverged, last.contrast.images) == (3, gone.shape[1])
    assert last.contrast.mean == pytest.approx(100 * wrong[164, "arl"].mean() - 90)


def vary(responses: Any) -> Any:
    """Responses of three seeds that differ a little, if one is given for all."""
    if isinstance(responses, dict):
        return responses
    return {seed: [responses[0], *(x * factor for x in responses[1:])] for seed, factor in enumerate((0.98, 1.0, 1.02))}


def responses_of(arl: Any, nal: Any) -> JudgedClaim:
    done: Any = dict.fromkeys(range(3), 40.0)
    cells = {(164, "arl"): done, (164, "nal"): done}
    responses = {(164, "arl"): vary(arl), (164, "nal"): vary(nal)}
    return only("nal_vanishes", study_with_runs("arl_vs_nal", cells, responses=responses))


def test_responses_are_ratios_and_their_logarithms_are_tested() -> None:
    spread = {0: [2.0, 0.02, 0.02], 1: [2.0, 0.002, 0.01], 2: [2.0, 0.2, 0.005]}
    found = responses_of([2.0, 1.0, 0.6], spread)
    assert {k: math.exp(v) for k, v in means(found).items()} == pytest.approx(
        {"NAL, stage 2": 0.01, "NAL, stage 3": 0.005, "ARL, stage 2": 0.5, "ARL, stage 3": 0.3}, rel=1e-3
    )
    assert [one.paper for one in found.findings] == [0.016, 0.009, 0.524, 0.299]
    row = [format_cell(cell) for cell in claims_table([found]).rows[1]]
    assert row[4].startswith("0.005 [0.001, 0.028]")
    assert found.verdict == UNDECIDED, "a spread of a hundred times in stage 2"
    assert responses_of([2.0, 1.0, 0.6], [2.0, 0.02, 0.01]).verdict == SUPPORTED
    assert responses_of([2.0, 1.0, 0.6], [2.0, 0.5, 0.4]).verdict == CONTRADICTED
    # without probes, or with a response that has no logarithm, there is nothing to judge
    cells: Any = {(164, "arl"): dict.fromkeys(range(3), 40.0), (164, "nal"): dict.fromkeys(range(3), 40.0)}
    assert only("nal_vanishes", study_with_runs("arl_vs_nal", cells)).verdict == INTERIM
    assert responses_of([2.0, 1.0, 0.6], [2.0, 0.0, 0.1]).verdict == INTERIM


def test_attention_with_arl_responds_like_resnet_or_not() -> None:
    def found(arl: Any) -> JudgedClaim:
        done: Any = dict.fromkeys(range(3), 40.0)
        cells = {("attention164_arl",): done, ("resnet164",): done}
        responses = {("attention164_arl",): arl, ("resnet164",): [1.0, 0.57, 0.3]}
        return only("arl_responds_like_resnet", study_with_runs("depth_response", cells, responses=responses))

    assert found({0: [1.0, 0.55, 0.3], 1: [1.0, 0.56, 0.31], 2: [1.0, 0.57, 0.29]}).verdict == SUPPORTED
    assert found({0: [1.0, 0.25, 0.1], 1: [1.0, 0.26, 0.11], 2: [1.0, 0.27, 0.09]}).verdict == CONTRADICTED
    assert found({0: [1.0, 0.4, 0.2], 1: [1.0, 0.6, 0.3], 2: [1.0, 0.8, 0.4]}).verdict == UNDECIDED


def test_responses_of_the_other_study_count_where_the_first_has_none() -> None:
    done: Any = dict.fromkeys(range(3), 40.0)
    cells = {(f"attention164_{way}",): done for way in ("arl", "nal")}
    responses = {("attention164_arl",): vary([2.0, 1.0, 0.6]), ("attention164_nal",): vary([2.0, 0.02, 0.01])}
    found = only(
        "nal_vanishes",
        study_with_runs("arl_vs_nal", {}),
        study_with_runs("depth_response", cells, responses=responses, plan=(0, 1, 2)),
    )
    assert found.study is not None
    assert found.study.name == "depth_response"
    assert found.verdict == SUPPORTED


def test_counts_are_exact_and_need_no_runs() -> None:
    costs = read_costs()
    alone = {one.claim.id: one for one in judge_all(results_of(), [], costs)}
    assert {id for id, one in alone.items() if one.verdict == SUPPORTED} == {
        "attention56_costs_less", "attention92_costs_less",
    }  # fmt: skip
    assert all(one.verdict in (SUPPORTED, NOT_RUN) for one in alone.values())
    share = alone["attention56_costs_less"].findings[0].exact
    assert share == pytest.approx(0.5285, abs=1e-3)
    assert [format_cell(cell) for cell in claims_table([alone["attention56_costs_less"]]).rows[0]][3:] == [
        "0.53", "0.53", "", "supported",
    ]  # fmt: skip
    wrong = {key: dict(counts) for key, counts in costs.items()}
    for key, counts in wrong.items():
        if key.name == "attention56_imagenet":
            counts["macs"] *= 2
    assert only_of(judge_all(results_of(), [], wrong), "attention56_costs_less").verdict == CONTRADICTED


def test_what_an_interval_is_over_is_said_where_it_differs() -> None:
    wrong = truth(0.35, 0.40, seeds=3)
    responses = {
        (164, "arl"): [2.0, 1.0, 0.6],
        (164, "nal"): {0: [2, 0.02, 0.01], 1: [2, 0.03, 0.01], 2: [2, 0.01, 0.02]},
    }
    found = everything_of(study_with_runs("arl_vs_nal", {}, wrong=wrong, responses=responses))
    table = claims_table([one for one in found if one.study])
    assert "(seeds and images)" in format_cell(table.rows[0][4])
    assert "(seeds)" in next(format_cell(row[4]) for row in table.rows if "NAL, stage 2" in format_cell(row[2]))
    assert any("(seeds and images) other seeds and other test images would put it" in text for text in table.caption)
    one = study_with_runs("arl_vs_nal", {}, seeds=(0,), plan=(0, 1, 2), wrong={k: v[:1] for k, v in wrong.items()})
    (first, *_), caption = (
        claims_table([only("arl_beats_nal", one)]).rows,
        claims_table([only("arl_beats_nal", one)]).caption,
    )
    assert "[" in format_cell(first[4])
    assert any("other test images would put the networks of this one seed" in text for text in caption)


def test_a_count_is_never_compared_with_itself() -> None:
    assert only_of(judge_all(results_of(), [], {}), "attention56_costs_less").verdict == UNDECIDED


def only_of(found: list[JudgedClaim], id: str) -> JudgedClaim:
    return next(one for one in found if one.claim.id == id)


def test_a_count_on_the_other_side_contradicts_a_claim_with_runs() -> None:
    cells: Any = {
        ("attention236",): {0: 30.0, 1: 31.1, 2: 32.0},
        ("resnet1001",): {0: 40.0, 1: 41.0, 2: 42.0},
    }
    results = results_of(study_with_runs("cifar", cells, plan=(0, 1, 2)))
    assert only_of(judge_all(results, results.studies), "attention236_with_less").verdict == SUPPORTED
    costs = read_costs()
    larger = {key: dict(c, params=c["params"] * (9 if key.name == "attention236" else 1)) for key, c in costs.items()}
    assert only_of(judge_all(results, results.studies, larger), "attention236_with_less").verdict == CONTRADICTED


def test_the_rise_with_noise_is_paired_over_four_runs() -> None:
    cells: Any = {
        (0.1, "resnet164"): {0: 10.0, 1: 11.0, 2: 12.0},
        (0.7, "resnet164"): {0: 30.0, 1: 32.0, 2: 34.0},
        (0.1, "attention92"): {0: 9.0, 1: 10.0, 2: 11.0},
        (0.7, "attention92"): {0: 25.0, 1: 26.0},
    }
    found = only("degrades_slowly", study_with_runs("noisy_labels", cells))
    # (25 - 9) - (30 - 10) = -4 and (26 - 10) - (32 - 11) = -5; seed 2 lacks one of the four
    assert means(found) == pytest.approx({"rise: Attention-92 − ResNet-164": -4.5})
    assert verdict_text(found) == "interim: 2 of 3 seeds"


def test_a_sample_is_never_called_imagenet() -> None:
    cells: Any = {
        (name,): {0: {names.FINAL_TEST_ERR: error, names.FINAL_TEST_ERR5: error / 4}}
        for name, error in (("resnet152_imagenet", 40.0), ("attention56_imagenet", 30.0))
    }
    networks = {(name,): network(name, num_classes=10, image_size=64) for name in IMAGENET_NETWORKS}
    part = study_with_runs("imagenet", cells, dataset="imagenet", networks=networks, params={OFFICIAL_IMAGES: "1000"})
    found = [one for one in judged(part).values() if one.claim.id == "attention56_beats_resnet152"]
    table = claims_table(found)
    assert format_cell(table.rows[0][0]) == "quick-1, an image folder of 10 classes"
    assert [sentence for sentence in table.caption if sentence.startswith("No ImageNet results")]
    assert len(table.rows) == 2
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
            responses={(164, "arl"): vary([1.0, 0.52, 0.31]), (164, "nal"): vary([1.0, 0.016, 0.2])},
            **options,
        ),
        study_with_runs(
            "mask_type",
            {("mixed",): {0: 40.0}, ("channel",): {0: 41.0}, ("spatial",): {0: 39.0}},
            profile=profile,
            seeds=(0,),
            plan=(0, 1, 2),
        ),
        study_with_runs(
            "mask_structure",
            {
                ("encoder_decoder",): {0: 40.0, 1: 40.1, 2: 40.3},
                ("local_conv",): {0: 40.1, 1: 40.4, 2: 40.3},
                ("local_conv_macs",): {0: 44.0, 1: 46.0, 2: 45.0},
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
            {("resnet164",): {0: 70.0, 1: 71.0, 2: 70.5}, ("attention92",): {0: 69.2, 1: 71.1, 2: 69.8}},
            dataset="cifar100",
            profile=profile,
        ),
    ]


def test_the_table_of_all_verdicts() -> None:
    found = everything_of(
        *everything("short-1"), study_with_runs("arl_vs_nal", learning(5, 6, 0.05), profile="paper-1")
    )
    assert {one.verdict for one in found} == {
        SUPPORTED, CONTRADICTED, UNDECIDED, NO_DIFFERENCE, INTERIM, NOT_RUN,
    }  # fmt: skip
    table = claims_table(found, read_costs())
    is_expected("claims", table)
    assert table.stem == "claims-all"
    assert all(render(table) for _, render in FORMATS.values())
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert all(row["claim"] in BY_ID for row in rows)
    count = next(row for row in rows if row["claim"] == "attention236_with_less" and "parameters" in row["contrast"])
    assert (float(count["published"]), float(count["diff"])) == pytest.approx((5.1 - 10.3, -5.243), abs=1e-3)


def test_paper_stands_first_and_groups_do_not_mix() -> None:
    parts = [*everything("short-1"), *everything("paper-1")]
    keys = list(judged(*parts))
    groups = [key[1:] for key in keys]
    assert list(dict.fromkeys(groups)) == [
        ("paper-1", "cifar10"), ("paper-1", "cifar100"), ("short-1", "cifar10"), ("short-1", "cifar100"),
    ]  # fmt: skip
    assert groups == sorted(groups)
    assert "and no claim has runs of it here" not in claims_table(everything_of(*parts)).caption[0]
    assert "and no claim has runs of it here" in claims_table(everything_of(*everything("short-1"))).caption[0]


def test_overrides_stand_in_the_first_column_and_the_file_name() -> None:
    plain, changed = (study_with_runs("arl_vs_nal", learning(40, 45), overrides=o) for o in ({}, {"optim.lr": 0.1}))
    tables = [claims_table(everything_of(part)) for part in (plain, changed)]
    assert [format_cell(table.rows[0][0]) for table in tables] == [
        "quick-1, CIFAR-10",
        "quick-1, CIFAR-10, optim.lr = 0.1",
    ]
    assert tables[0].stem == "claims-cifar10-quick-1"
    assert tables[1].stem.startswith("claims-cifar10-quick-1-")
    values = [next(csv.DictReader(io.StringIO(to_csv(table))))["runs"] for table in tables]
    assert values == ["quick-1 cifar10", 'quick-1 cifar10 {"optim.lr": 0.1}'], "the report finds a study's by these"


def test_every_claim_stands_in_the_ledger_with_what_would_run_it() -> None:
    found = everything_of(study_with_runs("arl_vs_nal", learning(40, 45)))
    assert {one.claim.id for one in found} == set(BY_ID)
    (sentence,) = [text for text in claims_table(found, read_costs()).caption if text.startswith("Not run")]
    assert not BY_ID["attention92_beats_resnet200"].study, "nothing here runs it"
    for study in {one.claim.study for one in found if one.verdict == NOT_RUN} - {""}:
        assert f"python run_ablation.py --study {study} " in sentence
    assert "--study imagenet --profile paper` (20 x 10^18 multiply-adds a seed" in sentence
    assert "arl_vs_nal" not in sentence


def test_response_claims_speak_of_figure_4s_numbers() -> None:
    for hypotheses in BY_ID["nal_vanishes"].hypotheses.values():
        for hypothesis in hypotheses:
            (term,) = hypothesis.terms
            assert term.quantity in RESPONSE.values()
            assert term.published is not None
            table, cell = term.published
            assert published_value(table, cell, "relative_response") is not None
