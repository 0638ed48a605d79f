"""What the memory was seen to do, as HTML: what was new to it by page, and how far its gates opened."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from ..wording import count, percent
from .chart import tick_values

if TYPE_CHECKING:
    from ..documents import Page
    from ..insight import Insight
    from .session import Session

WIDTH, LEFT, RIGHT, TOP, BAR_HEIGHT = 320, 44, 318, 8, 96
MOST_BARS, MOST_NAMED = 120, 3
# A page of which fewer tokens were folded says little.
LEAST_TOKENS = 32
MAP_HEIGHT, LEAST_ROW, MOST_ROW = 190, 4, 14


def insight(session: Session) -> str:
    """The disclosure; empty where nothing was folded into memory, as with short documents."""
    if session.asked is None or session.at_work or session.asked.insight.openings is None:
        return ""
    seen, pages = session.asked.insight, session.asked.document.pages
    return f"""<details class="insight">
<summary>Insight</summary>
{strength_chart(seen, pages)}
{gate_map(seen)}
</details>"""


def strength_chart(seen: Insight, pages: Sequence[Page]) -> str:
    """Bars of the write strength by page; empty before anything was measured."""
    size = math.ceil(len(pages) / MOST_BARS)
    bars = _bars(seen, size)
    if not bars:
        return ""
    step = (RIGHT - LEFT) / math.ceil(len(pages) / size)
    ticks = tick_values(max(value for _, _, value in bars))
    bottom = TOP + BAR_HEIGHT
    drawn = "".join(
        f'<rect x="{LEFT + step * at:.1f}" width="{max(step - 0.6, 0.6):.1f}"'
        f' y="{bottom - BAR_HEIGHT * value / ticks[-1]:.1f}" height="{BAR_HEIGHT * value / ticks[-1]:.1f}">'
        f"<title>{escape(_span(span, pages))}: {percent(value)} new</title></rect>"
        for at, span, value in bars
    )
    return f"""<figure class="strength">
<figcaption><strong>What was new, by page</strong> {escape(_most_new(seen, pages))}</figcaption>
<svg viewBox="0 0 {WIDTH} {bottom + 24}" role="img" aria-labelledby="strength-title strength-desc">
<title id="strength-title">Write strength by page</title>
<desc id="strength-desc">{escape(_described(seen, pages))}</desc>
{"".join(_grid(value, bottom - BAR_HEIGHT * value / ticks[-1]) for value in ticks)}
<g class="bars">{drawn}</g>
<text x="{LEFT}" y="{bottom + 18}">page 1</text>
<text x="{RIGHT}" y="{bottom + 18}" text-anchor="end">page {count(len(pages))}</text>
</svg>
<p class="hint">0 %: the memory already held as much. 100 %: as if it had held nothing; more: it held
something else in its place. The first pages, written to an empty memory, and the last, still held word
for word, have no bar.</p>
</figure>"""


def gate_map(seen: Insight) -> str:
    """A row for each layer, a cell for each head: the darker, the more of its answer came from memory."""
    layers, heads = seen.openings.shape
    height = min(max(MAP_HEIGHT // layers, LEAST_ROW), MOST_ROW)
    bottom = TOP + layers * height
    when = "while the last answer was written" if seen.answering else "over the last segment read"
    rows = "".join(_row(layer, row, height) for layer, row in enumerate(seen.openings))
    return f"""<figure class="gates">
<figcaption><strong>Gates, by layer and head</strong> {_opened(seen.openings, when)}</figcaption>
<svg viewBox="0 0 {WIDTH} {bottom + 24}" role="img" aria-labelledby="gates-title gates-desc">
<title id="gates-title">Opening of the memory gates by layer and head, {when}</title>
<desc id="gates-desc">{_opened(seen.openings, when)}</desc>
<rect class="ground" x="{LEFT}" y="{TOP}" width="{RIGHT - LEFT}" height="{layers * height}"/>
{rows}
<text x="{LEFT - 6}" y="{TOP + 9}" text-anchor="end">layer 1</text>
<text x="{LEFT - 6}" y="{bottom}" text-anchor="end">{layers}</text>
<text x="{LEFT}" y="{bottom + 18}">head 1</text>
<text x="{RIGHT}" y="{bottom + 18}" text-anchor="end">head {heads}</text>
</svg>
<p class="hint">Full colour: everything that head answered came from memory.</p>
</figure>"""


def most_new(seen: Insight) -> list[int]:
    """The pages, counted from 0, that were newest to the memory, the newest first."""
    strengths = np.where(seen.pages[:, 1] >= LEAST_TOKENS, seen.strengths, -math.inf)
    best = np.argsort(-strengths, kind="stable")[:MOST_NAMED]
    return [int(page) for page in best if math.isfinite(strengths[page])]


def _bars(seen: Insight, size: int) -> list[tuple[int, slice, float]]:
    """The place, the pages, so many together, and the strength of each bar that was measured."""
    bars = []
    for at, first in enumerate(range(0, len(seen.pages), size)):
        span = slice(first, min(first + size, len(seen.pages)))
        total, tokens = seen.pages[span].sum(axis=0)
        if tokens:
            bars.append((at, span, total / tokens))
    return bars


def _span(span: slice, pages: Sequence[Page]) -> str:
    first, last = pages[span.start].place, pages[span.stop - 1].place
    return f"Page {first}" if first == last else f"Pages {first} to {last}"


def _most_new(seen: Insight, pages: Sequence[Page]) -> str:
    named = [pages[page].place for page in most_new(seen)]
    if not named:
        return "Too little was written to say which pages were newest."
    listed = ", ".join(named[:-1]) + f" and {named[-1]}" if len(named) > 1 else named[0]
    return f"Most new to the memory: page{'s' if len(named) > 1 else ''} {listed}."


def _described(seen: Insight, pages: Sequence[Page]) -> str:
    total, tokens = seen.pages.sum(axis=0)
    return f"On average {percent(total / tokens)} of what was written was new. {_most_new(seen, pages)}"


def _opened(openings: np.ndarray, when: str) -> str:
    layers = openings.mean(axis=1)
    widest = int(layers.argmax())
    return (
        f"On average {percent(openings.mean())} of what attention answered {when} came from memory; most in "
        f"layer {widest + 1} ({percent(layers[widest])})."
    )


def _row(layer: int, row: np.ndarray, height: int) -> str:
    width = (RIGHT - LEFT) / len(row)
    cells = "".join(
        f'<rect x="{LEFT + width * head:.1f}" y="{TOP + layer * height}" width="{width:.1f}"'
        f' height="{height}" fill-opacity="{opening:.2f}"/>'
        for head, opening in enumerate(row)
    )
    widest = int(row.argmax())
    label = f"Layer {layer + 1}: {percent(row.mean())}, most in head {widest + 1} ({percent(row[widest])})"
    return f'<g class="cells"><title>{label}</title>{cells}</g>'


def _grid(value: float, y: float) -> str:
    return (
        f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{percent(value)}</text>'
    )
