"""The paper's testable claims as data, and two of ours, which `verdicts` compares with the runs."""

from analysis.claims.claim import MACS, OURS, PARAMS, Claim, Hypothesis
from analysis.claims.hypotheses import (
    ATTENTION92,
    DEPTHS,
    LEVELS,
    RESNET164,
    at_noise,
    beats_local,
    growing_gap,
    less,
    minus,
    networks,
    responds_like_resnet,
    responses,
    rises_less,
    share,
    steps,
    top,
)

_A56_IMAGENET, _A92_IMAGENET = "attention56_imagenet", "attention92_imagenet"
_OF_RESNET152 = "Attention-56 / ResNet-152"
_OF_RESNET200 = "Attention-92 / ResNet-200"
_IN_POINTS = (
    "The rises with noise are in points of error: as a ratio of errors the paper's advantage does not grow (0.91 "
    "without wrong labels, which is Table 6's, 0.87 at 10 %, 0.92 at 70 %)."
)
_LIKE_MASKS = "Table 4 has one local network; that it is made as large in two ways is ours."

CLAIMS = (
    Claim(
        id="arl_beats_nal",
        sentence="Attention residual learning beats naive attention learning at every depth",
        table="3",
        hypotheses={
            "arl_vs_nal": tuple(
                less(
                    f"Attention-{depth}: {minus('ARL', 'NAL')}",
                    {"depth": depth, "learning": "arl"},
                    {"depth": depth, "learning": "nal"},
                )
                for depth in DEPTHS
            )
        },
    ),
    Claim(
        id="gap_grows_with_depth",
        sentence="The deeper the network, the more naive attention learning loses",
        table="3",
        hypotheses={"arl_vs_nal": (growing_gap(),)},
    ),
    Claim(
        id="arl_falls_with_depth",
        sentence="With attention residual learning the error falls with depth",
        table="3",
        hypotheses={"arl_vs_nal": steps("arl", DEPTHS, falls=True)},
    ),
    Claim(
        id="nal_rises_with_depth",
        sentence="With naive attention learning the error rises with depth after 92 layers",
        table="3",
        hypotheses={"arl_vs_nal": steps("nal", DEPTHS[1:], falls=False)},
    ),
    Claim(
        id="nal_vanishes",
        sentence="In Attention-164 the response of stages 2 and 3 vanishes under NAL (below 0.1 of stage 1's), "
        "not under ARL",
        place="Figure 4",
        hypotheses={
            "arl_vs_nal": responses({name: {"depth": 164, "learning": name} for name in ("nal", "arl")}),
            "depth_response": responses({name: {"network": f"attention164_{name}"} for name in ("nal", "arl")}),
        },
    ),
    Claim(
        id="arl_responds_like_resnet",
        sentence="Attention-164 with ARL responds like ResNet-164",
        place="Figure 4",
        hypotheses={"depth_response": responds_like_resnet({"network": "attention164_arl"}, {"network": "resnet164"})},
    ),
    Claim(
        id="mixed_is_best",
        sentence="Mixed attention beats channel attention and spatial attention",
        table="1",
        hypotheses={
            "mask_type": tuple(
                less(minus("mixed", other), {"mask_activation": "mixed"}, {"mask_activation": other})
                for other in ("channel", "spatial")
            )
        },
        remark="Over what spatial attention takes mean and deviation, the paper does not say; here, each channel.",
    ),
    Claim(
        id="encoder_decoder_beats_local_units",
        sentence="The encoder-decoder mask beats local convolutions of as many units",
        table="4",
        hypotheses={"mask_structure": (beats_local("local_conv", "units"),)},
        text=(({"mask_structure": "encoder_decoder"}, "gain"),),
        remark=_LIKE_MASKS,
    ),
    Claim(
        id="encoder_decoder_beats_local_macs",
        sentence="The encoder-decoder mask beats local convolutions of as many multiply-adds",
        table="4",
        hypotheses={"mask_structure": (beats_local("local_conv_macs", "MACs"),)},
        text=(({"mask_structure": "encoder_decoder"}, "gain"),),
        remark=_LIKE_MASKS,
    ),
    Claim(
        id="robust_to_noise",
        sentence="Attention-92 beats ResNet-164 at every level of label noise",
        table="5",
        hypotheses={
            "noisy_labels": tuple(
                Hypothesis(
                    label=f"{100 * level:.0f} %: {minus('Attention-92', 'ResNet-164')}",
                    terms=(at_noise(1, level, ATTENTION92), at_noise(-1, level, RESNET164)),
                )
                for level in LEVELS
            )
        },
    ),
    Claim(
        id="gains_with_noise",
        sentence="Attention-92's advantage over ResNet-164 is larger at 70 % of wrong labels than without",
        table="5",
        place="Tables 5, 6",
        hypotheses={"noisy_labels": (rises_less(0.0, LEVELS[-1]),)},
        remark=_IN_POINTS,
    ),
    Claim(
        id="degrades_slowly",
        sentence="From 10 % to 70 % of wrong labels the error of Attention-92 rises less than that of ResNet-164",
        table="5",
        hypotheses={"noisy_labels": (rises_less(LEVELS[0], LEVELS[-1]),)},
        remark=_IN_POINTS,
    ),
    Claim(
        id="attention92_at_like_size",
        sentence="Attention-92 beats ResNet-164 at like size",
        table="6",
        hypotheses={"cifar": (networks(minus("Attention-92", "ResNet-164"), ATTENTION92, RESNET164),)},
    ),
    Claim(
        id="attention236_with_less",
        sentence="Attention-236 beats ResNet-1001 with fewer parameters",
        table="6",
        hypotheses={"cifar": (networks(minus("Attention-236", "ResNet-1001"), "attention236", "resnet1001"),)},
        counts=(networks("parameters (M)", "attention236", "resnet1001", PARAMS),),
    ),
    Claim(
        id="attention452_with_less",
        sentence="Attention-452 beats WRN-28-10 with fewer parameters",
        table="6",
        hypotheses={"cifar": (networks(minus("Attention-452", "WRN-28-10"), "attention452", "wrn28_10"),)},
        counts=(networks("parameters (M)", "attention452", "wrn28_10", PARAMS),),
        text=(({"network": "attention452"}, "cifar100_err"),),
    ),
    Claim(
        id="deeper_is_better",
        sentence="The error of attention networks falls from 92 over 236 to 452 layers",
        table="6",
        hypotheses={
            "cifar": tuple(
                networks(minus(f"Attention-{deep}", str(shallow)), f"attention{deep}", f"attention{shallow}")
                for shallow, deep in ((92, 236), (236, 452))
            )
        },
    ),
    Claim(
        id="attention56_costs_less",
        sentence="Attention-56 has 52 % of ResNet-152's parameters and 56 % of its multiply-adds",
        table="7",
        place="Section 4.2",
        counts=(
            share(f"parameters: {_OF_RESNET152}", _A56_IMAGENET, "resnet152_imagenet", PARAMS, 0.52),
            share(f"MACs: {_OF_RESNET152}", _A56_IMAGENET, "resnet152_imagenet", MACS, 0.56),
        ),
        text=(({"network": _A56_IMAGENET}, "params_ratio"),),
    ),
    Claim(
        id="attention92_costs_less",
        sentence="Attention-92 has 69 % of ResNet-200's multiply-adds",
        table="7",
        place="Abstract",
        counts=(share(f"MACs: {_OF_RESNET200}", _A92_IMAGENET, "resnet200_imagenet", MACS, 0.69),),
        remark="ResNet-200 is not among our networks: its count is the paper's.",
    ),
    Claim(
        id="attention56_beats_resnet152",
        sentence="Attention-56 beats ResNet-152, top-1 and top-5",
        table="7",
        hypotheses={"imagenet": top(minus("Attention-56", "ResNet-152"), _A56_IMAGENET, "resnet152_imagenet")},
    ),
    Claim(
        id="attentionnext56_equals_resnext101",
        sentence="AttentionNeXt-56 equals ResNeXt-101",
        table="7",
        hypotheses={
            "imagenet": top(
                minus("AttentionNeXt-56", "ResNeXt-101"),
                "attentionnext56_imagenet",
                "resnext101_32x4d_imagenet",
                equal=True,
            )
        },
    ),
    Claim(
        id="attentioninception56_beats_inception_resnet",
        sentence="Attention-56 with Inception units beats Inception-ResNet-v1",
        table="7",
        hypotheses={
            "imagenet": top(
                minus("Inception units", "theirs"),
                "attentioninception56_imagenet",
                "inception_resnet_v1_imagenet",
            )
        },
        remark="Inception-ResNet-v1 is not among our networks, and the paper does not describe AttentionInception-56.",
    ),
    Claim(
        id="attention92_beats_resnet200",
        sentence="Attention-92 beats ResNet-200",
        table="7",
        place="Abstract, Table 7",
        hypotheses={"imagenet": top(minus("Attention-92", "ResNet-200"), _A92_IMAGENET, "resnet200_imagenet")[:1]},
        remark="ResNet-200 is not among our networks.",
    ),
    Claim(
        id="not_the_compute",
        sentence="Attention-56 beats its trunk made deeper to the same MACs",
        place=OURS,
        hypotheses={"controls": (networks(minus("Attention-56", "its trunk, deeper"), "attention56", "trunk"),)},
    ),
    Claim(
        id="masks_help",
        sentence="Attention-56 beats the same network without masks",
        place=OURS,
        hypotheses={"controls": (networks(minus("Attention-56", "without masks"), "attention56", "no_mask"),)},
    ),
)
