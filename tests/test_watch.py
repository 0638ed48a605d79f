from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
import reference
from memories import B, D, G, H, M, T, answered, normal, trained
from tiny import LAYOUT, cut, llama_model, read, sequence, with_memory

from mlx_edgeinf.cache import forked, watching
from mlx_edgeinf.gate import MemoryGate
from mlx_edgeinf.kinds import KINDS
from mlx_edgeinf.memory import Memory
from mlx_edgeinf.sources import attend
from mlx_edgeinf.watch import Watch

TOKENS = sequence(100)
PIECES = {"by the segment": [18, *cut(82, 8)], "odd sizes": [3, 40, 1, 1, 18, 37]}


def held(memory, k: np.ndarray) -> np.ndarray:
    """What a memory of the reference holds where key k (d,) would be written."""
    if isinstance(memory, reference.FeatureMemory):
        return memory.phi_k(k) @ memory.M / (memory.phi_k(k) @ memory.z)
    metric = np.tile(memory.attenuation(min(memory.counts.sum(), memory.farthest)), 2)
    distances = (((k - memory.centres) * metric) ** 2).sum(axis=-1)
    return memory.means[np.where(memory.counts > 0, distances, np.inf).argmin()]


def surprise_of(memory: Memory, folds: list[tuple[mx.array, ...]]) -> np.ndarray:
    """Of the last of these folds (keys, values, received) of one text, (T,), in float64."""
    surprises = []
    for g in range(G):
        same = reference.memory_of(memory, g * H // G)
        *before, (keys, values, _) = [[np.array(x[0, g], dtype=float) for x in fold] for fold in folds]
        for fold in before:
            same.write(*fold)
        missed = [((v - held(same, k)) ** 2).sum() for k, v in zip(keys, values)]
        surprises.append(missed / (values**2).sum(axis=-1).mean())
    return np.mean(surprises, axis=0)


def some_folds(count: int) -> list[tuple[mx.array, ...]]:
    return [
        (normal(n, 1, G, T, D), normal(100 + n, 1, G, T, D), mx.exp(normal(200 + n, 1, G, T)))
        for n in range(count)
    ]


@pytest.mark.parametrize("kind, features", [
    ("linear", D), ("exponential", 6), ("centroids", M), ("centroids", 2 * T)
])  # fmt: skip
@pytest.mark.parametrize("count", [2, 3])
def test_surprise_agrees_with_float64(kind, features, count):
    """Also with more centres than tokens, some of which hold nothing."""
    memory, folds, watch = trained(kind, features), some_folds(count), Watch()
    state = memory.empty(1)
    for fold in folds[:-1]:
        state = memory.write(state, *fold)
    keys, values, _ = folds[-1]
    watch.folding(memory, state, keys, values, 7)
    [(position, surprise)] = watch.surprises
    assert position == 7 and np.allclose(surprise, surprise_of(memory, folds), rtol=1e-3, atol=1e-4)


def test_what_the_memory_has_already_is_no_surprise_and_what_it_never_saw_is_one():
    memory, watch = trained("centroids", T), Watch()
    keys, values, received = some_folds(1)[0]
    state = memory.write(memory.empty(1), keys, values, received)
    watch.folding(memory, state, keys, values, 0)
    watch.folding(memory, memory.empty(1), keys, values, 0)
    known, new = (surprise for _, surprise in watch.surprises)
    assert mx.allclose(known, mx.zeros(T), atol=1e-4) and mx.mean(new).item() == pytest.approx(1)


@pytest.mark.parametrize("kind", KINDS)
def test_openings_agree_with_float64(kind):
    gate, queries = MemoryGate(trained(kind).heads, kind, 6), normal(0, B, H, 5, D)
    gate.update({"mass": 1 + 0.3 * normal(5, H), "bias": normal(6, H), "query": 0.3 * normal(7, H, D)})
    keys, values = normal(3, B, G, T, D), normal(4, B, G, T, D)
    state = gate.memory.write(gate.memory.empty(B), keys, values, mx.ones((B, G, T)))
    local = attend(queries, normal(1, B, G, 9, D), normal(2, B, G, 9, D), D**-0.5)
    watch = Watch()
    for part in mx.split(mx.arange(5), [2]):
        gate(queries[:1, :, part], gate.memory.entries(state_of(state, 0)), local_of(local, part), watch)
    mass = np.array(answered(gate.memory, state, queries).log_mass, dtype=float) - np.array(local.log_mass)
    terms = [np.array(gate[name], dtype=float) for name in ("mass", "bias", "query")]
    logit = terms[0][:, None] * mass + terms[1][:, None] + np.einsum("bhld,hd->bhl", queries, terms[2])
    assert np.allclose(watch.openings, (1 / (1 + np.exp(-logit[0]))).mean(axis=-1), atol=1e-5)


def state_of(state, b: int):
    return {name: array[b : b + 1] for name, array in state.items()}


def local_of(local, part: mx.array):
    return local._replace(output=local.output[:1, :, part], log_mass=local.log_mass[:1, :, part])


@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES.keys())
@pytest.mark.parametrize("exact_limit", [0, 40])
@pytest.mark.parametrize("kind", KINDS)
def test_looking_changes_no_logit_and_sees_every_fold_but_the_first(kind, exact_limit, pieces):
    model = with_memory(llama_model(), kind, exact_limit=exact_limit)
    unseen = read(model, TOKENS, model.make_cache(), pieces)
    cache = model.make_cache()
    with watching(cache) as watched:
        seen = read(model, TOKENS, cache, pieces)
    assert mx.array_equal(seen, unseen) and all(layer.watch is None for layer in cache)
    folds = list(watched.surprises())
    positions = [first + at for first, surprise in folds for at in range(len(surprise))]
    assert positions == list(range(LAYOUT.sinks + 8, LAYOUT.sinks + cache[0].folded))
    assert all(np.all(np.isfinite(surprise) & (surprise >= 0)) for _, surprise in folds)
    assert watched.openings().shape == (2, 4) and 0 < watched.openings().min()
    assert watched.openings().max() < 1


def test_a_fork_is_not_looked_at():
    """A question asked in the middle of a segment adds nothing to what the reading showed."""
    model = with_memory(llama_model())
    cache = model.make_cache()
    read(model, TOKENS, cache, [100])
    with watching(cache) as watched:
        read(model, TOKENS, forked(cache), [100])
    assert watched.openings() is None
