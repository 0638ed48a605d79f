from __future__ import annotations

import mlx.core as mx
import mlx_lm
import pytest
from mlx_lm.sample_utils import make_logits_processors
from mlx_lm.tokenizer_utils import TokenizerWrapper
from tiny import END, LAYOUT, byte_tokenizer, llama_model, sequence, with_memory
from tokenizers import processors

from mlx_edgeinf.cache import EdgeCache
from mlx_edgeinf.generation import choose_cache, generate, stream_generate
from mlx_edgeinf.pieces import Piece, so_far

PROMPT = "Tell me of the sea."
LONG = sequence(200).tolist()


@pytest.fixture(scope="module")
def model():
    """The base path holds 128 tokens, the memory path 18."""
    return with_memory(llama_model(), exact_limit=128)


@pytest.fixture
def tokenizer() -> TokenizerWrapper:
    tokenizer = byte_tokenizer()
    tokenizer.eos_token_ids = set()
    return tokenizer


def test_short_prompts_generate_what_mlx_lm_does(model, tokenizer):
    expected = mlx_lm.generate(llama_model(), tokenizer, PROMPT, max_tokens=24)
    assert expected and generate(model, tokenizer, PROMPT, max_tokens=24) == expected
    assert generate(model, tokenizer, tokenizer.encode(PROMPT), max_tokens=24) == expected


def test_the_stream_has_mlx_lms_responses(model, tokenizer):
    """To the bit: on the base path it is read in pieces of their size, as others would round otherwise."""
    theirs = list(mlx_lm.stream_generate(llama_model(), tokenizer, PROMPT, max_tokens=8))
    ours = list(stream_generate(model, tokenizer, PROMPT, max_tokens=8))
    for name in ("token", "text", "prompt_tokens", "generation_tokens", "finish_reason", "from_draft"):
        assert [getattr(r, name) for r in ours] == [getattr(r, name) for r in theirs], name
    assert all(mx.array_equal(a.logprobs, b.logprobs) for a, b in zip(ours, theirs))
    assert ours[-1].finish_reason == "length" and ours[-1].prompt_tps > 0 and ours[-1].generation_tps > 0


def test_the_end_of_text_stops_and_is_not_part_of_it(model, tokenizer):
    tokens = [r.token for r in stream_generate(model, tokenizer, PROMPT, max_tokens=8)]
    end = next(t for t in tokens if t != tokens[0])
    tokenizer.eos_token_ids = {end}
    responses = list(stream_generate(model, tokenizer, PROMPT, max_tokens=8))
    assert [r.finish_reason for r in responses] == [None] * tokens.index(end) + ["stop"]
    assert "".join(r.text for r in responses) == tokenizer.decode(tokens[: tokens.index(end)])


def test_a_text_that_begins_already_is_not_begun_again(model, tokenizer):
    fast = tokenizer._tokenizer
    fast.bos_token = "<end>"
    fast.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<end> $A", special_tokens=[("<end>", END)]
    )
    for prompt in ("hi", "<end>hi"):
        assert next(stream_generate(model, tokenizer, prompt, max_tokens=1)).prompt_tokens == 3


@pytest.mark.parametrize("tokens, folds", [(128, False), (129, True)])
def test_the_length_of_input_and_output_chooses_the_path(model, tokens, folds):
    cache = choose_cache(model, tokens)
    model(mx.array(LONG[:128])[None], cache=cache)
    assert (cache[0].folded > 0) == folds


def test_long_prompts_never_hold_more_than_the_layout(model, tokenizer, monkeypatch):
    held, update = [], EdgeCache.update_and_fetch

    def watched(self, keys, values):
        fetched = update(self, keys, values)
        held.append(fetched[0].shape[2])
        return fetched

    with monkeypatch.context() as patch:
        patch.setattr(EdgeCache, "update_and_fetch", watched)
        text = generate(model, tokenizer, LONG, max_tokens=20)
    assert max(held) == LAYOUT.capacity
    cache = model.make_cache(exact_limit=0)
    assert generate(model, tokenizer, LONG, max_tokens=20, prompt_cache=cache) == text
    assert cache[0].tokens == 220


def test_generation_goes_on_from_what_was_read_before(model, tokenizer):
    whole = generate(model, tokenizer, LONG, max_tokens=12)
    cache = choose_cache(model, 212)
    model(mx.array(LONG[:100])[None], cache=cache)
    assert generate(model, tokenizer, LONG[100:], max_tokens=12, prompt_cache=cache) == whole


def test_options_reach_the_sampling(model, tokenizer):
    penalty = make_logits_processors(repetition_penalty=1e9, repetition_context_size=100)
    responses = stream_generate(model, tokenizer, PROMPT, max_tokens=8, logits_processors=penalty)
    assert not {r.token for r in responses} & set(tokenizer.encode(PROMPT))


def test_verbose_shows_the_text_as_it_comes(model, tokenizer, capsys):
    text = generate(model, tokenizer, PROMPT, verbose=True, max_tokens=8)
    assert capsys.readouterr().out == text


@pytest.mark.parametrize("text, ending", [
    ("It sails. It sinks. It is fou", "It sails. It sinks."), ("“Why?” he asked", "“Why?”"),
    ("It cost 3.50 and", "It cost 3.50 and"), ("Done!", "Done!"), ("", ""),
])  # fmt: skip
def test_an_answer_of_full_length_ends_with_a_whole_sentence(text, ending):
    for reason, last in ("length", ending), ("stop", text):
        pieces = iter([Piece(text[:4], 9, 1), Piece(text[4:], 9, 2, reason, (3,))])
        assert list(so_far(pieces)) == [Piece(text[:4], 9, 1), Piece(last, 9, 2, reason, (3,))]
