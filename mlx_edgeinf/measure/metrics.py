"""What a written answer is worth, beside the log-probability of the right one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..generation import against_repetition
from .tasks import PLACES

# For people, by the name in a results file, in the order of the tables.
NAMES = {
    "log_probability": "log-probability",
    "exact_match": "exact match",
    "gathered": "places, F1",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
}


class RougeMissing(RuntimeError):
    """The package that counts ROUGE is not installed."""


@dataclass(frozen=True)
class Metric:
    """How an answer is written, greedily, and scored.

    max_tokens: of the answer. processors: mlx-lm's, of the logits.
    score: values between 0 and 1 by name, of a written answer and the right ones.
    """

    max_tokens: int
    score: Callable[[str, Sequence[str]], dict[str, float]]
    processors: list[Callable] = field(default_factory=list)


def exact_match(written: str, answers: Sequence[str]) -> dict[str, float]:
    """1 if one of the answers stands in what was written, whole and in any case; else 0."""
    written = re.sub(r"(?<=\d),(?=\d)", "", written)
    found = (re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", written, re.IGNORECASE) for answer in answers)
    return {"exact_match": float(any(found))}


# As long as a sentence that repeats the question. Without the app's penalty on repetition: codes
# repeat their digits.
EXACT_MATCH = Metric(32, exact_match)


def gathered(written: str, answers: Sequence[str]) -> dict[str, float]:
    """F1 of the places that are written, by those of the best of the answers."""
    told, right = _places(written), map(_places, answers)
    return {"gathered": max(2 * len(told & places) / (len(told) + len(places)) for places in right)}


def _places(text: str) -> set[str]:
    return {place for place in PLACES if re.search(rf"(?<!\w){place}(?!\w)", text)}


GATHERED = Metric(48, gathered)


def rouge() -> Metric:
    """F-measures of ROUGE-1, 2 and L with stemming, each against the answer it is best for.

    Answers are as long as the app's summaries, and written in its way.

    Raises:
        RougeMissing: rouge-score is not installed.
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise RougeMissing(
            "ROUGE is counted by the rouge-score package: pip install 'mlx-edgeinf[evaluate]', "
            "or leave out --rouge."
        ) from error
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)

    def score(written: str, answers: Sequence[str]) -> dict[str, float]:
        return {name: value.fmeasure for name, value in scorer.score_multi(answers, written).items()}

    return Metric(256, score, against_repetition())
