"""What exact recall costs: reading, and writing an answer by how many tokens are on disk.

With and without it the same is done by turns, a segment or a token of each. What writing takes depends on
the number of pages and not on what they hold, and a million tokens take an hour to read: so a text is read
once, and its pages are laid behind themselves until there are enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from statistics import mean

import mlx.core as mx
import numpy as np

from ..cache import EdgeCache
from ..training.recalling import check_recall
from ..wording import count
from .sides import UNTIMED, Ours, Recalling, by_turns, decode, prefilling
from .tables import markdown

READ = 8192  # tokens of the text
AT_FIRST = "read"  # what is told of that, among what is told by tokens on disk


def costs(side: Recalling, plain: Ours, tokens: list[int], lengths: list[int]) -> Iterator[tuple[str, dict]]:
    """Tokens/s with recall and without: read AT_FIRST, and written by tokens on disk, with the bytes there.

    Raises:
        StoreError: the pages cannot be written or read.
    """
    cache, prompt = side.make_cache(), tokens[: READ - 1]
    # What comes before the first fold is the same on both sides, and the first to be timed.
    timed = len(prompt) - side.chunk(cache)
    seconds = by_turns(prefilling(side, prompt, cache), prefilling(plain, prompt, plain.make_cache()))
    yield AT_FIRST, _named(timed / sum(each[1:]) for each in seconds)
    pages = cache[0].recall.pages
    own = pages.pages(0)
    for length in sorted(lengths):
        for number, layer in enumerate(cache):
            _lay(number, layer, own, length)
        yield str(length), _speeds(side, cache, tokens[READ - 1]) | {"disk_bytes": pages.bytes_used}


def _lay(number: int, layer: EdgeCache, own: int, length: int) -> None:
    """Append a layer's first pages again until it has so many tokens on disk."""
    recall = layer.recall
    wanted = np.broadcast_to(np.arange(own), (recall.pages.shape.kv_heads, own))
    keys, values = (mx.array(part)[None] for part in recall.pages.gather(number, wanted))
    while (missing := length - recall.index.tokens) > 0:
        recall.append(keys[:, :, :missing], values[:, :, :missing])
        recall.flush()
        check_recall([layer])


def _speeds(side: Recalling, cache: list[EdgeCache], token: int) -> dict[str, float]:
    """Tokens/s written from a fork with recall and from one without."""
    with side.branch(cache) as recalling, side.branch(cache) as plain:
        for layer in plain:
            layer.recall = None
        seconds = by_turns(*(decode(side.model, token, branch) for branch in (recalling, plain)))
    return _named(1 / mean(steps[1 + UNTIMED :]) for steps in seconds)


def _named(speeds: Iterable[float]) -> dict[str, float]:
    return dict(zip(("with", "without"), speeds, strict=True))


def table(entries: dict[str, dict]) -> str:
    """Markdown: by tokens on disk, how fast an answer is written."""
    lines = [["tokens on disk", "GB", "written with recall, tokens/s", "without", "with over without"]]
    written = {int(length): entry for length, entry in entries.items() if length != AT_FIRST}
    for length, entry in sorted(written.items()):
        lines.append([
            count(length), f"{entry['disk_bytes'] / 1e9:.2f}", f"{entry['with']:.1f}",
            f"{entry['without']:.1f}", f"{entry['with'] / entry['without']:.2f}",
        ])  # fmt: skip
    return markdown(lines)


def reading_line(entries: dict[str, dict]) -> str:
    """What recall costs while a text is read, in a sentence."""
    speed = entries[AT_FIRST]["with"] / entries[AT_FIRST]["without"]
    return f"With recall, {count(READ)} tokens are read at {speed:.2f} times the speed without, by turns."
