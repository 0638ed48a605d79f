"""Attention with a memory: the base model's own class, retrofitted in place.

The attention class of a loaded mlx-lm model is replaced by a subclass that adds
two children, `memory_gate` and `recall_gate`. Weight paths, quantised weights and LoRA
keys stay as they are. Short inputs go to the base class untouched, bit for bit.
"""

from __future__ import annotations

from functools import cache as memoize

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models import llama, qwen2, qwen3

from .basemodel import UnsupportedModel, dtype_of, head_size, trained_context
from .cache import EdgeCache, Layout
from .gate import MemoryGate, RecallGate, by_mass
from .memory import Entries, Heads
from .pagestore import Pages
from .recall import ASKED, THROUGHOUT, Recall
from .rotation import Rotation
from .sources import Source, attend, in_a_row

# Attention bodies that `_project` reproduces. mistral runs on mlx-lm's llama.
SUPPORTED = (llama.Attention, qwen2.Attention, qwen3.Attention)

class MemoryAttention(nn.Module):
    """Mixed into the base attention class by `retrofit`."""

    def __call__(
        self, x: mx.array, mask: mx.array | str | None = None, cache: EdgeCache | None = None
    ) -> mx.array:
        """x (B, L, D) -> (B, L, D). The memory path makes its own causal mask."""
        B, L, _ = x.shape
        if not isinstance(cache, EdgeCache) or cache.on_base_path(L):
            return super().__call__(x, mask, cache)
        queries, keys, values = self._project(x)
        pieces, start = [], 0
        while start < L:
            if cache.room() <= 0:
                cache.make_room()
            stop = min(L, start + cache.room())
            piece = slice(start, stop)
            pieces.append(
                self._read_segment(queries[:, :, piece], keys[:, :, piece], values[:, :, piece], cache)
            )
            start = stop
        output = pieces[0] if len(pieces) == 1 else mx.concatenate(pieces, axis=2)
        return self.o_proj(output.transpose(0, 2, 1, 3).reshape(B, L, -1))

    def _project(self, x: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        """Queries (B, H, L, d), keys and values (B, G, L, d), without position."""
        B, L, _ = x.shape
        queries = self.q_proj(x).reshape(B, L, self.n_heads, -1)
        keys = self.k_proj(x).reshape(B, L, self.n_kv_heads, -1)
        values = self.v_proj(x).reshape(B, L, self.n_kv_heads, -1)
        if "q_norm" in self:
            queries, keys = self.q_norm(queries), self.k_norm(keys)
        return tuple(t.transpose(0, 2, 1, 3) for t in (queries, keys, values))

    def _read_segment(
        self, queries: mx.array, keys: mx.array, values: mx.array, cache: EdgeCache
    ) -> mx.array:
        """Local source exactly, memory through the gate; (B, H, L, d)."""
        position = cache.offset
        keys, values = cache.update_and_fetch(self.rope(keys, offset=position), values)
        turned = self.rope(queries, offset=position)
        local = attend(turned, keys, values, self.scale)
        cache.note(local.received)
        if cache.pending:
            # Before the layers above: left to the end, it would keep the scores of all layers until then.
            (output,) = mx.depends([local.output], cache.pending)
            local = local._replace(output=output)
        if cache.recalls:
            return self._recalling(queries, turned, local, cache)
        return self._gated(queries, local, self._entries(queries, cache), cache)

    def _recalling(
        self, queries: mx.array, turned: mx.array, local: Source, cache: EdgeCache
    ) -> mx.array:
        """Block by block: what each recalls joins its local source, and is taken out of its memory."""
        outputs = []

        def without(*tokens: mx.array) -> Entries | None:
            return self.memory_gate.memory.without(cache.memory, *tokens) if cache.memory else None

        for asked, placed, output, log_mass in cache.recall.in_blocks(
            queries, turned, local.output, local.log_mass[..., None]
        ):
            exact = local._replace(output=output, log_mass=log_mass[..., 0])
            if recalled := cache.recall.read(placed, exact.log_mass, without):
                if cache.recall.throughout:
                    exact = self.recall_gate(asked, recalled.source, exact)
                else:
                    exact = by_mass(recalled.source, exact)
                entries = recalled.entries
            else:
                entries = self._entries(queries, cache)
            outputs.append(in_a_row(self._gated(asked, exact, entries, cache)))
        return mx.concatenate(outputs, axis=2)

    def _entries(self, queries: mx.array, cache: EdgeCache) -> Entries | None:
        return cache.entries(self.memory_gate.memory, queries.shape[2] == 1)

    def _gated(
        self, queries: mx.array, exact: Source, entries: Entries | None, cache: EdgeCache
    ) -> mx.array:
        """The exact sources with what the memory adds, if anything was folded into one."""
        if entries is None:
            return exact.output
        return self.memory_gate(queries, entries, exact, cache.watch, cache.precedence)


def retrofit(
    model: nn.Module, layout: Layout, kind: str, features: int, exact_limit: int, gate: str = "full"
) -> nn.Module:
    """Give every attention layer of a loaded mlx-lm model a memory gate and one for recall, in place.

    Args:
        layout: sinks, window and segment in tokens.
        kind: of the memory, a key of `kinds.KINDS`.
        features: m, the size of the memory per kv head.
        exact_limit: tokens up to which the base path runs (see EdgeCache).
        gate: form of the memory gate, a key of `gate.FORMS`.

    Returns the model, with gates for recall too; all but the memory gates is frozen, `model.layout` is the
    layout, `model.gates_folder` where trained gates were loaded from (None now), and `model.make_cache()`
    makes EdgeCaches; given the pages of a `PageStore`, ones whose forks recall from it, or they themselves
    `throughout`.

    Raises:
        UnsupportedModel: an attention layer is of a shape this project has not tested.
    """
    for layer in model.layers:
        _check(layer)
    model.freeze()
    for layer in model.layers:
        attention = layer.self_attn
        heads = _heads(attention, model, layout)
        attention.__class__ = _with_memory(type(attention))
        attention.memory_gate = MemoryGate(heads, kind, features, gate)
        attention.recall_gate = RecallGate(heads).freeze()

    def make_cache(
        exact_limit: int = exact_limit, pages: Pages | None = None, throughout: bool = False
    ) -> list[EdgeCache]:
        return _new_caches(model, layout, exact_limit, pages, throughout)

    model.make_cache, model.layout, model.gates_folder = make_cache, layout, None
    return model


def _new_caches(
    model: nn.Module, layout: Layout, exact_limit: int, pages: Pages | None, throughout: bool
) -> list[EdgeCache]:
    """Empty caches of all layers, which recall from pages if some are given."""
    # Recalled tokens stand before the window, so both must fit the positions that the model knows.
    most = min(ASKED, max(trained_context(model) - layout.capacity, THROUGHOUT))
    tokens, caches = THROUGHOUT if throughout else most, []
    for number, layer in enumerate(model.layers):
        recall, attention, memory_gate = None, layer.self_attn, layer.self_attn.memory_gate
        if pages:
            recall = Recall(
                pages, number, memory_gate.rotation, attention.scale, layout.sinks, tokens,
                throughout=throughout, dtype=dtype_of(model),
            )  # fmt: skip
        caches.append(EdgeCache(layout, memory_gate.memory, memory_gate.rotation, exact_limit, recall))
    return caches


def _check(layer: nn.Module) -> None:
    attention = getattr(layer, "self_attn", None)
    if type(attention) not in SUPPORTED:
        raise UnsupportedModel(
            f"This model's attention ({type(attention).__module__}.{type(attention).__name__}) is not "
            "supported. Supported: llama, mistral, qwen2 and qwen3 models."
        )
    if getattr(layer, "use_sliding", False):
        raise UnsupportedModel("Models with sliding-window layers of their own are not supported.")


def _heads(attention: nn.Module, model: nn.Module, layout: Layout) -> Heads:
    size = head_size(attention)
    try:
        rotation = Rotation.of(attention.rope, size)
    except ValueError as error:
        raise UnsupportedModel(str(error)) from error
    return Heads(
        n_heads=attention.n_heads,
        n_kv_heads=attention.n_kv_heads,
        head_dim=size,
        scale=attention.scale,
        rotation=rotation,
        nearest=layout.window + layout.segment / 2,
        farthest=trained_context(model),
    )


@memoize
def _with_memory(base: type[nn.Module]) -> type[nn.Module]:
    return type(f"Memory{base.__name__}", (MemoryAttention, base), {})
