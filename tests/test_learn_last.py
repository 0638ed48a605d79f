# ruff: noqa: F811  (fixtures by their names)
from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
from test_finetune import corpus, one_sentence, progress, run, usual  # noqa: F401

from mlx_edgeinf import finetune
from mlx_edgeinf.training.corpus import read_corpus


def test_excerpts_of_all_lengths_are_read_and_told_in_the_card(run, tmp_path):
    assert run("--learn-last", "6", "--max-seq-length", "200", "--iters", "4") == 0
    record = progress(tmp_path)
    assert "--learn-last 6" in record["command"]
    assert "| up to 200 tokens, the last 6 of each |" in (tmp_path / "README.md").read_text()
    # From twice what is exact, 18 tokens, to 200.
    assert 4 * 36 <= record["tokens"] < 4 * 200


def test_the_last_tokens_of_every_excerpt_count(usual, corpus):
    args = finetune.parse([*usual, "--learn-last", "6", "--max-seq-length", "200"])
    training, examples, _ = finetune.prepare(args, read_corpus([Path(corpus)]))
    lessons = [training.lessons[iteration] for iteration in range(8)]
    assert len({len(excerpt.tokens) for excerpt in lessons}) > 4
    assert all(excerpt.learnt == len(excerpt.tokens) - 6 for excerpt in [*lessons, *islice(examples, 2)])


@pytest.mark.parametrize("number", ["0", "-3"])
def test_to_learn_from_no_token_is_refused(run, capsys, number):
    assert run("--learn-last", number) == 1
    assert "choose 1 or more" in one_sentence(capsys)


def test_full_attention_teaches_nothing_beyond_its_context(run, capsys):
    assert run("--learn-last", "6", "--distill", "0.5", "--max-seq-length", "200") == 1
    assert "knows 128 positions" in one_sentence(capsys)
