"""What mlx-lm expects of a cache. These fail when a new mlx-lm expects something else."""

from __future__ import annotations

import mlx.core as mx
import mlx_lm
import pytest
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import (
    KVCache,
    LRUPromptCache,
    _BaseCache,
    can_trim_prompt_cache,
    make_prompt_cache,
    trim_prompt_cache,
)
from mlx_lm.sample_utils import make_logits_processors
from tiny import LAYOUT, MODELS, byte_tokenizer, close, cut, llama_model, read, sequence, with_memory

from mlx_edgeinf.cache import EdgeCache

PROMPT = sequence(45)

# Having these would make mlx-lm quantise the cache or batch it, which it must not.
OPTIONAL = {"bits", "to_quantized", "merge"}


class Recorder:
    """An mlx-lm cache that notes what is asked of it."""

    def __init__(self):
        self.cache, self.asked = KVCache(), set()

    def __getattr__(self, name: str):
        self.asked.add(name)
        return getattr(self.cache, name)


@pytest.mark.parametrize("make", MODELS)
def test_generation_asks_a_cache_for_nothing_that_ours_lacks(make):
    model, recorders = make(), [Recorder(), Recorder()]
    list(generate_step(PROMPT, model, max_tokens=3, prompt_cache=recorders))
    asked = recorders[0].asked | recorders[1].asked
    assert {"offset", "update_and_fetch", "make_mask", "state"} <= asked
    assert asked - OPTIONAL <= set(dir(EdgeCache))


def test_everything_that_mlx_lms_caches_declare_is_there():
    declared = {name for name in dir(_BaseCache) if not name.startswith("_")}
    # Rebuilds a cache from a file, by the class names that mlx-lm knows.
    declared.remove("from_state")
    assert declared <= set(dir(EdgeCache))


def test_what_would_make_mlx_lm_quantise_or_batch_the_cache_is_not_there():
    assert OPTIONAL.isdisjoint(dir(EdgeCache))


@pytest.fixture(scope="module", params=[0, 200], ids=["memory path", "base path"])
def model(request):
    return with_memory(llama_model(), exact_limit=request.param)


def greedy(model, cache: list, prompt: mx.array, count: int) -> list[int]:
    """Tokens generated without mlx-lm's help."""
    tokens, logits = [], read(model, prompt, cache, cut(prompt.size, LAYOUT.segment))
    for _ in range(count):
        tokens.append(mx.argmax(logits[0, -1]).item())
        logits = model(mx.array([tokens[-1:]]), cache=cache)
    return tokens


@pytest.mark.parametrize("step", [5, LAYOUT.segment, 2048])
def test_generate_step_continues_the_prompt(model, step):
    steps = generate_step(PROMPT, model, max_tokens=20, prefill_step_size=step)
    assert [token for token, _ in steps] == greedy(model, model.make_cache(), PROMPT, 20)


def test_generate_step_goes_on_from_a_cache_it_is_given(model):
    cache = make_prompt_cache(model)
    model(PROMPT[None, :30], cache=cache)
    steps = generate_step(PROMPT[30:], model, max_tokens=20, prompt_cache=cache)
    assert [token for token, _ in steps] == greedy(model, model.make_cache(), PROMPT, 20)


def test_generated_text_is_that_of_the_tokens(model):
    tokenizer = byte_tokenizer()
    tokenizer.eos_token_ids = set()
    expected = greedy(model, model.make_cache(), PROMPT, 20)
    responses = list(mlx_lm.stream_generate(model, tokenizer, PROMPT.tolist(), max_tokens=20))
    assert [response.token for response in responses] == expected
    assert mlx_lm.generate(model, tokenizer, PROMPT.tolist(), max_tokens=20) == tokenizer.decode(expected)


def test_logits_processors_see_the_whole_prompt(model):
    """A penalty on repetition keeps every token of the prompt out: it must know them all."""
    processors = make_logits_processors(repetition_penalty=1e9, repetition_context_size=100)
    steps = generate_step(mx.abs(PROMPT), model, max_tokens=5, logits_processors=processors)
    assert not {token for token, _ in steps} & set(PROMPT.tolist())


def test_make_prompt_cache_makes_ours(model):
    assert [type(layer) for layer in make_prompt_cache(model)] == [EdgeCache] * 2


def test_mlx_lm_trims_what_is_exact_and_leaves_what_is_folded(model):
    cache = make_prompt_cache(model)
    model(PROMPT[None], cache=cache)
    trims = cache[0].folded == 0
    assert can_trim_prompt_cache(cache) == trims
    assert trim_prompt_cache(cache, 5) == (5 if trims else 0)
    assert cache[0].tokens == PROMPT.size - (5 if trims else 0)


def test_the_servers_store_of_prompts_hands_out_independent_copies(model):
    store, cache = LRUPromptCache(), make_prompt_cache(model)
    model(PROMPT[None], cache=cache)
    store.insert_cache("tiny", PROMPT.tolist(), cache)
    assert store.nbytes == sum(layer.nbytes for layer in cache)
    answers = []
    for question in (sequence(12, 1), sequence(12, 2), sequence(12, 1)):
        copied, rest = store.fetch_nearest_cache("tiny", [*PROMPT.tolist(), *question.tolist()])
        assert rest == question.tolist()
        answers.append(read(model, question, copied, cut(12, 3)))
    assert mx.array_equal(answers[0], answers[2])
    assert not close(answers[0], answers[1], 0.1)
