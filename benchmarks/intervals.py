"""How often an interval of 95 % excludes a difference that is zero: over seeds and images, and over seeds alone.

python -m benchmarks.intervals

Two networks are equally good; test images are drawn anew in each repetition. A network misclassifies an image if its
difficulty, plus what this network finds hard about it, plus noise of the training run, plus the run's own shift,
exceeds a threshold. The analysis should exclude zero in 5 % of the repetitions.
"""

import argparse
from dataclasses import dataclass

import numpy as np

from analysis.stats import contrast
from ran.rng import stream

REPETITIONS = 5_000
IMAGES = 1_000
THRESHOLD = 0.3  # about 40 % error


@dataclass(frozen=True)
class Spread:
    """Standard deviations on the scale of difficulty, on which images differ by 1."""

    networks: float
    """between the networks, of one image: what new images change"""
    runs: float
    """between runs of a network, of one image"""
    seeds: float
    """between runs of a network, of all images: what new seeds change"""


SPREADS = tuple(
    Spread(networks, runs, seeds)
    for networks, runs in ((0.5, 0.35), (0.5, 0.5), (0.5, 0.7))
    for seeds in (0.0, 0.03, 0.1)
)


def false_positives(n: int, spread: Spread, repetitions: int = REPETITIONS, seed: int = 0) -> tuple[float, float]:
    """Returns in what share of the repetitions the intervals exclude zero: over seeds and images, over seeds alone."""
    draw = stream(seed, "intervals", str(n), str(spread))
    both = alone = 0
    for _ in range(repetitions):
        difficulty = draw.standard_normal(IMAGES)
        wrong = []
        for _network in range(2):
            own = spread.networks * draw.standard_normal(IMAGES)
            runs = spread.runs * draw.standard_normal((n, IMAGES)) + spread.seeds * draw.standard_normal((n, 1))
            wrong.append(difficulty + own + runs > THRESHOLD)
        d = 100.0 * wrong[0] - 100.0 * wrong[1]
        both += _excludes_zero(d)
        alone += _excludes_zero(d.mean(axis=1))
    return both / repetitions, alone / repetitions


def _excludes_zero(d: np.ndarray) -> bool:
    found = contrast(d)
    if found is None or found.low is None or found.high is None:
        raise ValueError("an interval needs two seeds")
    return found.low > 0 or found.high < 0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    options = parser.parse_args()
    print(f"{options.repetitions:,} repetitions with {IMAGES:,} test images; % of intervals that exclude zero\n")
    print("| seeds | networks | runs | shift of a run | seeds and images | seeds alone |")
    print("|---:|---:|---:|---:|---:|---:|")
    for n in (3, 5):
        for spread in SPREADS:
            both, alone = false_positives(n, spread, options.repetitions)
            found = f"{100 * both:.1f} | {100 * alone:.1f}"
            print(f"| {n} | {spread.networks:g} | {spread.runs:g} | {spread.seeds:g} | {found} |")


if __name__ == "__main__":
    main()
