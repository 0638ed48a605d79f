"""Text generation in mlx-lm's shape, with the long or the short path chosen by length."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.generate import GenerationResponse, generate_step
from mlx_lm.sample_utils import make_logits_processors
from mlx_lm.tokenizer_utils import TokenizerWrapper

from .cache import EdgeCache

# As far as an answer looks back for what it says again.
REPETITION_TOKENS = 128
REPETITION_PENALTY = 1.15


def choose_cache(model: nn.Module, tokens: int) -> list[EdgeCache]:
    """An empty cache for `tokens` of input and output together.

    Short: the base path, bit for bit mlx-lm's. Long: the memory path from the
    first token, so that a full KV cache is never built up.
    """
    limit = model.make_cache()[0].exact_limit
    return model.make_cache(exact_limit=limit if tokens <= limit else 0)


def read_on(model: nn.Module, tokens: mx.array, cache: list[EdgeCache]) -> None:
    """Read tokens (L,) into the cache, of which nothing is to be said or learnt."""
    model.model(tokens[None], cache=cache)
    # Evaluated now: a lazy graph over many segments would hold all of them.
    states = [layer.state for layer in cache]
    mx.async_eval(states)
    for layer in cache:
        if layer.recall:
            layer.recall.flush()
    mx.eval(states)
    mx.clear_cache()


def stream_generate(
    model: nn.Module,
    tokenizer: TokenizerWrapper,
    prompt: str | list[int],
    max_tokens: int = 256,
    prompt_cache: list[EdgeCache] | None = None,
    **options,
) -> Iterator[GenerationResponse]:
    """Generate text piece by piece, as `mlx_lm.stream_generate` does.

    Args:
        prompt: a string, or token ids.
        prompt_cache: what was read before; updated in place. None chooses by length.
        options: passed on to `mlx_lm.generate.generate_step` (sampler, logits_processors, ...).
    """
    ids = _encode(tokenizer, prompt) if isinstance(prompt, str) else list(prompt)
    cache = prompt_cache or choose_cache(model, len(ids) + max_tokens)
    if not cache[0].on_base_path(len(ids) + max_tokens):
        options.setdefault("prefill_step_size", cache[0].layout.segment)
    # generate_step, not mlx-lm's stream_generate: that one always wires memory on Metal,
    # which users report to end in kernel panics (ml-explore/mlx issue 3186).
    steps = generate_step(mx.array(ids), model, max_tokens=max_tokens, prompt_cache=cache, **options)
    return _responses(steps, tokenizer, len(ids), max_tokens)


def generate(
    model: nn.Module, tokenizer: TokenizerWrapper, prompt: str | list[int], verbose: bool = False, **options
) -> str:
    """Generate a complete text, as `mlx_lm.generate` does; options as for `stream_generate`."""
    pieces = []
    for response in stream_generate(model, tokenizer, prompt, **options):
        pieces.append(response.text)
        if verbose:
            print(response.text, end="", flush=True)
    return "".join(pieces)


def against_repetition() -> list[Callable]:
    """mlx-lm's logits processors for answers of the app: small models repeat themselves without."""
    return make_logits_processors(
        repetition_penalty=REPETITION_PENALTY, repetition_context_size=REPETITION_TOKENS
    )


def _encode(tokenizer: TokenizerWrapper, prompt: str) -> list[int]:
    """A rendered chat template begins with the token that begins every text already."""
    begun = tokenizer.bos_token is not None and prompt.startswith(tokenizer.bos_token)
    return tokenizer.encode(prompt, add_special_tokens=not begun)


def _responses(
    steps: Iterator, tokenizer: TokenizerWrapper, prompt_tokens: int, max_tokens: int
) -> Iterator[GenerationResponse]:
    detokenizer = tokenizer.detokenizer
    started, first = time.perf_counter(), None
    for count, (token, logprobs) in enumerate(steps, start=1):
        now = time.perf_counter()
        first = first or now
        finish = "stop" if token in tokenizer.eos_token_ids else "length" if count == max_tokens else None
        if finish != "stop":
            detokenizer.add_token(token)
        if finish:
            detokenizer.finalize()
        yield GenerationResponse(
            text=detokenizer.last_segment,
            token=token,
            logprobs=logprobs,
            from_draft=False,
            prompt_tokens=prompt_tokens,
            prompt_tps=prompt_tokens / (first - started),
            generation_tokens=count,
            generation_tps=(count - 1) / max(now - first, 1e-9),
            peak_memory=mx.get_peak_memory() / 1e9,
            finish_reason=finish,
        )
        if finish:
            return
