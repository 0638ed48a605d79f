"""How fast an answer is written, by how many tokens are on disk.

What that takes depends on the number of pages and not on what they hold, and a million tokens take an
hour to read: so a text is read once, and its pages are laid behind themselves until there are enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import mean

import mlx.core as mx
import numpy as np

from ..cache import EdgeCache
from ..wording import count
from .readings import check_recall
from .sides import UNTIMED, Recalling, decode, prefill
from .tables import markdown

READ = 8192  # tokens of the text


def written(side: Recalling, tokens: list[int], lengths: list[int]) -> Iterator[tuple[int, dict]]:
    """Tokens on disk; tokens/s written with recall and, from the same reading, without; bytes on disk.

    Raises:
        StoreError: the pages cannot be written or read.
    """
    cache = side.make_cache()
    prefill(side, tokens[: READ - 1], cache)
    pages = cache[0].recall.pages
    own = pages.pages(0)
    for length in sorted(lengths):
        for number, layer in enumerate(cache):
            _lay(number, layer, own, length)
        speeds = {"decode": _speed(side, cache, tokens[READ - 1])}
        speeds["without"] = _speed(side, cache, tokens[READ - 1], recalling=False)
        yield length, speeds | {"disk_bytes": pages.bytes_used}


def _lay(number: int, layer: EdgeCache, own: int, length: int) -> None:
    """Append a layer's first pages again until it has so many tokens on disk."""
    recall = layer.recall
    wanted = np.broadcast_to(np.arange(own), (recall.pages.shape.kv_heads, own))
    keys, values = (mx.array(part)[None] for part in recall.pages.gather(number, wanted))
    while (missing := length - recall.index.tokens) > 0:
        recall.append(keys[:, :, :missing], values[:, :, :missing])
        recall.keep()
        check_recall([layer])


def _speed(side: Recalling, cache: list[EdgeCache], token: int, recalling: bool = True) -> float:
    """Tokens/s written from a fork."""
    with side.branch(cache) as branch:
        if not recalling:
            for layer in branch:
                layer.recall = None
        _, *steps = decode(side.model, token, branch)
        check_recall(branch)
    return 1 / mean(steps[UNTIMED:])


def table(entries: dict[str, dict]) -> str:
    """Markdown: by tokens on disk, how fast an answer is written."""
    lines = [["tokens on disk", "GB", "with recall, tokens/s", "without, tokens/s", "with over without"]]
    for length, entry in sorted(entries.items(), key=lambda each: int(each[0])):
        ratio = entry["decode"] / entry["without"]
        lines.append([
            count(int(length)), f"{entry['disk_bytes'] / 1e9:.2f}", f"{entry['decode']:.1f}",
            f"{entry['without']:.1f}", f"{ratio:.2f}",
        ])  # fmt: skip
    return markdown(lines)
