from __future__ import annotations

import sys

import pytest

from mlx_edgeinf.measure.metrics import NAMES, RougeMissing, exact_match, gathered, rouge


@pytest.mark.parametrize(
    "written, right",
    [
        ("48213", 1), ("The number is <48213>.", 1), ("It is 48,213, I think.", 1), ("148213", 0),
        ("482130", 0), ("4821", 0), ("", 0), ("48 213", 0),
    ],
)  # fmt: skip
def test_a_number_is_found_whole_or_not_at_all(written, right):
    assert exact_match(written, ["48213"]) == {"exact_match": right}


def test_words_are_found_in_any_case_and_any_of_several_answers_is_right():
    assert exact_match("We began with THE ROLE OF ART.", ["The role of art"]) == {"exact_match": 1}
    assert exact_match("Sports came second.", ["The role of art", "sports"]) == {"exact_match": 1}
    assert exact_match("Transports came second.", ["sports"]) == {"exact_match": 0}


@pytest.mark.parametrize(
    "written, share",
    [
        ("Riga, Quito", 1), ("He went to Quito and then to Riga.", 1), ("Riga", 2 / 3), ("", 0), ("riga", 0),
        ("Riga, Quito, Dakar and Hobart", 2 / 3), ("Rigatoni, Quito", 2 / 3), ("Riga, Riga, Paris", 2 / 3),
    ],
)  # fmt: skip
def test_places_are_counted_once_each_and_wrong_ones_cost(written, share):
    assert gathered(written, ["Riga, Quito"]) == {"gathered": pytest.approx(share)}


def test_rouge_is_the_f_measure_against_the_answer_it_is_best_for():
    pytest.importorskip("rouge_score", reason="rouge-score is not installed (extra `evaluate`)")
    scores = rouge().score("the ships sail home", ["a crew mutinies", "the ship sails far"])
    # With stemming three words of four are alike in order, and two pairs of three.
    assert scores == pytest.approx({"rouge1": 3 / 4, "rouge2": 2 / 3, "rougeL": 3 / 4})
    assert scores.keys() < NAMES.keys()


def test_without_its_package_rouge_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    with pytest.raises(RougeMissing, match="mlx-edgeinf.evaluate"):
        rouge()
