"""The chart of memory while reading: what was measured, beside what a full KV cache needs.

Both lines are the whole program, model included, so they start at one point: the second is
the first with the constant state taken out and a full KV cache of the same tokens put in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..wording import size

if TYPE_CHECKING:
    from ..stats import Stats

WIDTH, HEIGHT = 320, 170
LEFT, RIGHT, TOP, BOTTOM = 54, 318, 8, 142
MOST_POINTS = 150
MOST_STEPS = 4

Point = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """Tokens and bytes to places in the picture; both axes begin at zero."""

    tokens: float
    bytes: float

    def place(self, point: Point) -> Point:
        """Return x and y, y downwards as in SVG, of a point (tokens, bytes)."""
        tokens, size_ = point
        x = LEFT + (RIGHT - LEFT) * tokens / self.tokens
        y = BOTTOM - (BOTTOM - TOP) * size_ / self.bytes
        return round(x, 1), round(y, 1)


def memory_chart(history: Sequence[Stats]) -> str:
    """Draw a reading so far as a figure: legend and inline SVG. `history` is not empty."""
    now = history[-1]
    ticks = tick_values(max(*map(measured, history), projected(now)))
    scale = Scale(now.tokens_total, ticks[-1])
    shown = thinned(history)
    ahead = [(now.tokens, with_full_cache(now)), (now.tokens_total, projected(now))]
    return f"""<figure class="memory">
<figcaption>
{_legend("measured", measured(now), "memory, measured")}
{_legend("full", with_full_cache(now), "a full KV cache would need")}
</figcaption>
<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="memory-title memory-desc">
<title id="memory-title">Memory while reading</title>
<desc id="memory-desc">{_description(now)}</desc>
{"".join(_grid_line(value, scale) for value in ticks)}
{_line("ahead", ahead, scale)}
{_line("full", [(stats.tokens, with_full_cache(stats)) for stats in shown], scale)}
{_line("measured", [(stats.tokens, measured(stats)) for stats in shown], scale)}
<text x="{LEFT}" y="{HEIGHT - 10}">page 1</text>
<text x="{RIGHT}" y="{HEIGHT - 10}" text-anchor="end">page {now.pages_total}</text>
</svg>
</figure>"""


def measured(stats: Stats) -> int:
    """Bytes in use by the program, model included."""
    return stats.active_bytes


def with_full_cache(stats: Stats) -> int:
    """Bytes the program would use with a full KV cache in the place of its constant state."""
    return stats.active_bytes - stats.state_bytes + stats.full_cache_bytes


def projected(stats: Stats) -> float:
    """Bytes it would use with a full KV cache at the document's end; a KV cache is linear."""
    per_token = stats.full_cache_bytes / stats.tokens
    return with_full_cache(stats) + per_token * (stats.tokens_total - stats.tokens)


def tick_values(top: float) -> list[float]:
    """Round numbers from 0 to at least `top`, in at most four steps of 1, 2, 2.5 or 5."""
    magnitude = 10 ** math.floor(math.log10(top / MOST_STEPS))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude * MOST_STEPS >= top)
    return [step * index for index in range(math.ceil(top / step) + 1)]


def thinned(history: Sequence[Stats]) -> list[Stats]:
    """At most about 150 of the measurements, the first and the last among them."""
    stride = math.ceil(len(history) / MOST_POINTS)
    return [*history[:-1:stride], history[-1]]


def _description(now: Stats) -> str:
    return (
        f"After page {now.pages} of {now.pages_total}, {size(measured(now))} are in use, "
        f"measured. With a full KV cache it would be {size(with_full_cache(now))}, and "
        f"{size(projected(now))} at the end of the document."
    )


def _legend(line: str, value: float, caption: str) -> str:
    return f'<p class="{line}"><strong>{size(value)}</strong> <span>{caption}</span></p>'


def _grid_line(value: float, scale: Scale) -> str:
    _, y = scale.place((0, value))
    label = size(value) if value else "0"
    return (
        f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y}" y2="{y}"/>'
        f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{label}</text>'
    )


def _line(name: str, points: Sequence[Point], scale: Scale) -> str:
    """A line with a dot at its end, which is all there is to see of a single measurement."""
    places = [scale.place(point) for point in points]
    x, y = places[-1]
    drawn = " ".join(f"{x},{y}" for x, y in places)
    return f'<g class="{name}"><polyline points="{drawn}"/><circle cx="{x}" cy="{y}" r="3"/></g>'
