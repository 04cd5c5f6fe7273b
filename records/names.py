"""Names of metrics, tags and artifacts, and of networks in print: what `experiments` and `analysis` share."""

import re
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")

# Metrics. Errors are in %, rates in images/s, times in hours; step = number of optimizer steps taken. MLflow
# shows charts in a section for each prefix, in alphabetical order, and metrics without a prefix in the last section. So
# only the curves of loss and error have a prefix: they come first.
TRAIN_LOSS = "train/loss"  # mean over the steps since the last point
TRAIN_ERR = "train/err"  # on the augmented training batches, same window, against the labels trained on
TRAIN_ERR_CLEAN = "train/err_clean"  # the same against the true labels; runs with label noise only
LR = "train/lr"
VAL_LOSS = "val/loss"
VAL_ERR = "val/err"
TEST_LOSS = "test/loss"  # curves over the test set exist in the paper profile only
TEST_ERR = "test/err"
FINAL_VAL_ERR = "final_val_err"
FINAL_VAL_LOSS = "final_val_loss"
FINAL_TEST_ERR = "final_test_err"
FINAL_TEST_LOSS = "final_test_loss"
FINAL_TEST_ERR5 = "final_test_err5"  # top-5; data sets of more than five classes only
# On the training images as they are (not augmented); runs with label noise only.
FINAL_TRAIN_ERR = "final_train_err"  # against the labels trained on
FINAL_TRAIN_ERR_CLEAN = "final_train_err_clean"  # against the true labels
FINAL_MEMORISED = "final_memorised"  # of the wrongly labelled, the share predicted as their wrong label
NOISE_RATE = "noise_rate"  # % of the training labels that are wrong
RESPONSE = "response_stage{}"  # mean absolute response of a stage (Figure 4), from 1; a curve
COST_HOURS = "cost_hours"  # training and evaluation, summed over resumes
COST_CPU_HOURS = "cost_cpu_hours"  # processor time of the process that trains, all its threads, summed over resumes
COST_IMAGES_PER_S = "cost_images_per_s"  # training steps only
# Counts of the network. New runs have them as parameters, so that they have no chart; runs of before as these metrics.
COST_PARAMS = "cost_params"
COST_MACS = "cost_macs"
COUNTS = {COST_PARAMS: "network.params", COST_MACS: "network.macs"}
"""the parameter of a run that holds each count"""
DIVERGED_STEP = "diverged_step"
# On the parent of a search: the lowest validation error so far and how many trials are over.
SUMMARY_BEST = "best_val_err"
SUMMARY_TRIALS = "trials"

# Tags of a run (the child). All are strings.
STUDY = "ran.study"  # the study that ran it first; tables join by fingerprint, not by this
CELL = "ran.cell"  # e.g. "depth=92,learning=arl"
SEED = "ran.seed"
FINGERPRINT = "ran.fingerprint"
PROFILE = "ran.profile"  # with its version, e.g. "quick-1"
DATASET = "ran.dataset"
OVERRIDES = "ran.overrides"  # canonical JSON of the overrides, "{}" without
OUTCOME = "ran.outcome"
RESUMES = "ran.resumes"
GIT_DIRTY = "ran.git_dirty"
REASON = "ran.reason"  # why a run failed or diverged, one line
HOST = "ran.host"  # name of the machine of the last attempt
# The way the run was computed: device kind and instruction set, threads, kernels, layout, compile, torch version.
HOW = "ran.how"
SCHEMA = "ran.schema"  # schema version of the fingerprint; absent before 2
# Of a run with parts that a user registered: the fingerprint without their code, and the files' SHA-256 as JSON.
PLAIN_FINGERPRINT = "ran.plain_fingerprint"
USER_CODE = "ran.user_code"
TRIAL = "ran.trial"  # of a search: number of the trial that began the run
NOISE_DIGEST = "ran.noise_digest"  # of the noisy labels, to see that cells share them
WEIGHTS_SHA256 = "ran.weights_sha256"  # of a finished run: of the names, types, shapes and bytes of its final weights
# Tag of a parent alone: "(study, profile, data set, overrides)" hashed.
PARENT = "ran.parent"
# Tag of a search's parent alone, which carries search.json instead of study.json, hashed likewise.
SEARCH = "ran.search"

# Outcomes. `finished` and `diverged` are results, `failed` and `killed` are not.
FINISHED, DIVERGED, FAILED, KILLED = "finished", "diverged", "failed", "killed"
# MLflow's status of a run by its outcome.
MLFLOW_STATUS = {FINISHED: "FINISHED", DIVERGED: "FINISHED", FAILED: "FAILED", KILLED: "KILLED"}

# Artifacts.
STUDY_JSON = "study.json"  # on the parent
SEARCH_JSON = "search.json"  # on the parent of a search
CONFIG_JSON = "config.json"  # on the child, as all below
SPEC_JSON = "spec.json"
PROVENANCE_JSON = "provenance.json"  # an entry per attempt: command, machine, versions, way, times
GIT_DIFF = "git.diff"  # what the working tree changed of the commit; absent where it was clean
WEIGHTS = "weights.safetensors"
MODEL_JSON = "model.json"  # classes, size and normalisation of its images: what the use of the network takes
PROBES_JSON = "probes.json"  # response by stage and receptive fields
TEST_CORRECT = "test_correct.npz"  # whether each test image was classified right: packed bits, and their number
MASKS_NPZ = "masks.npz"  # a few images, and the features before and after an early and a late mask

# Of experiments.evaluate: metrics "evaluation_<data>_err" (also err5, loss, ece, images_per_s), and artifacts.
EVALUATION_PREFIX = "evaluation_"
EVALUATION = EVALUATION_PREFIX + "{}_{}"
EVALUATIONS = "evaluation"  # folder

EXPERIMENT_PREFIX = "ran/"  # experiment = "ran/<data set>"

# Networks as the paper prints them, among them some that it quotes and we do not have.
NETWORKS = {
    "resnet164": "ResNet-164",
    "resnet1001": "ResNet-1001",
    "wrn16_8": "WRN-16-8",
    "wrn28_10": "WRN-28-10",
    "attention92": "Attention-92",
    "attention236": "Attention-236",
    "attention452": "Attention-452",
    "attention56_imagenet": "Attention-56",
    "attention92_imagenet": "Attention-92",
    "attentionnext56_imagenet": "AttentionNeXt-56",
    "attentioninception56_imagenet": "AttentionInception-56",
    "resnet152_imagenet": "ResNet-152",
    "resnet200_imagenet": "ResNet-200",
    "resnext101_32x4d_imagenet": "ResNeXt-101",
    "inception_resnet_v1_imagenet": "Inception-ResNet-v1",
    "inception_resnet_v2_imagenet": "Inception-ResNet-v2",
}

# MLflow's list of runs shows names and no error, so a run that is over has its result in its name.
_RESULT = " \N{MIDDLE DOT} "


def with_result(name: str, result: str) -> str:
    """Returns the name that a run gets when it is over, e.g. "d92 arl s0 · 12.34 %"."""
    return f"{name}{_RESULT}{result}"


def part_of_way(text: str) -> str:
    """Returns a text as a part of the tag `ran.how`: without the signs that separate its parts and ways."""
    return " ".join(re.split(r"[,;\s]+", text.strip()))


def without_result(name: str) -> str:
    """Returns the name of a run as its study gives it."""
    return name.partition(_RESULT)[0]


# Runs and archives of before have these names with a prefix, e.g. "cost/hours" and "evaluation/cifar10/err".
_PREFIXES_BEFORE = ("cost/", "diverged/", "evaluation/", "final/", "noise/", "response/")


def current_metric(stored: str) -> str:
    """Returns the present name of a metric from the one that a run or an archive has."""
    return stored.replace("/", "_") if stored.startswith(_PREFIXES_BEFORE) else stored


def current_metrics(stored: Mapping[str, T]) -> dict[str, T]:
    """Returns what a run or an archive has of its metrics, by their present names.

    A run that was begun before and continued has some metrics by both names: the value of the present name counts.
    """
    ordered = sorted(stored.items(), key=lambda item: item[0] == current_metric(item[0]))
    return {current_metric(key): value for key, value in ordered}
