"""The benchmark as a picture: two panels of lines, drawn as plain SVG.

Ours beside stock mlx-lm against length: peak memory, and time to first token.
The picture follows the reader's light or dark theme.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

from .results import Results

WIDTH, HEIGHT = 860, 340
PANEL_WIDTH, TOP, BOTTOM = 330, 92, 286
LEFTS = (62, 486)
TICKS = 4

STYLE = """
  :root {
    --ink: #1f2328; --soft: #667078; --grid: #e4e8eb; --paper: #ffffff;
    --ours: #0b7a75; --stock: #b4552d;
  }
  @media (prefers-color-scheme: dark) {
    :root {
      --ink: #e6edf3; --soft: #9aa4ad; --grid: #2b3238; --paper: #0d1117;
      --ours: #4fd1c5; --stock: #f0955f;
    }
  }
  text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: var(--soft); }
  .title { font-size: 16px; font-weight: 600; fill: var(--ink); }
  .end { text-anchor: end; } .middle { text-anchor: middle; }
  .grid { stroke: var(--grid); }
  .line { fill: none; stroke-width: 2.5; stroke-linejoin: round; stroke-linecap: round; }
  .ours { stroke: var(--ours); } .stock { stroke: var(--stock); }
  .dot { fill: var(--paper); stroke-width: 2; }
  text.ours { fill: var(--ours); stroke: none; font-weight: 600; }
  text.stock { fill: var(--stock); stroke: none; font-weight: 600; }
"""

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """One chart: what it shows, where it stands, and the ends of its axes (both start at 0)."""

    title: str
    left: int
    longest: float
    highest: float

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a value stands in the picture."""
        return (
            round(self.left + PANEL_WIDTH * x / self.longest, 1),
            round(BOTTOM - (BOTTOM - TOP) * y / self.highest, 1),
        )


def draw(results: Results) -> str:
    """The SVG of a benchmark's results."""
    memory = _lines(results, "peak_bytes", 1e9)
    waiting = _lines(results, "ttft", 60)
    longest = max(results.setup["lengths"])
    panels = [
        (Panel("Peak memory, GB", LEFTS[0], longest, _ceiling(memory)), memory),
        (Panel("Time to first token, minutes", LEFTS[1], longest, _ceiling(waiting)), waiting),
    ]
    body = "\n".join(_panel(panel, lines) for panel, lines in panels)
    title = "Memory and waiting against the length of the text"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{title}">\n<title>{title}</title>\n<desc>{escape(_words(results))}</desc>\n'
        f"<style>{STYLE}</style>\n{body}\n</svg>\n"
    )


def _lines(results: Results, key: str, unit: float) -> dict[str, Points]:
    """Points (tokens, value) of each side, by its name in the style sheet."""
    return {
        side: sorted((int(length), entry[key] / unit) for length, entry in results.group(side).items())
        for side in ("stock", "ours")
        if results.group(side)
    }


def _ceiling(lines: dict[str, Points]) -> float:
    """A round number just above all points that divides into round ticks."""
    top = max(y for points in lines.values() for _, y in points)
    power = 10 ** math.floor(math.log10(top / TICKS))
    steps = (power * factor for factor in (1, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10))
    return TICKS * next(step for step in steps if TICKS * step >= top)


def _panel(panel: Panel, lines: dict[str, Points]) -> str:
    parts = [f'<text class="title" x="{panel.left}" y="36">{escape(panel.title)}</text>']
    for tick in range(TICKS + 1):
        parts += _height(panel, panel.highest * tick / TICKS)
        parts.append(_length(panel, panel.longest * tick / TICKS))
    for side, points in lines.items():
        parts += _line(panel, side, points)
    return "\n".join(parts)


def _height(panel: Panel, value: float) -> list[str]:
    """A level of the vertical axis: its line and number."""
    x, y = panel.at(0, value)
    return [
        f'<line class="grid" x1="{x}" y1="{y}" x2="{x + PANEL_WIDTH}" y2="{y}"/>',
        f'<text class="end" x="{x - 10}" y="{y + 4}">{value:g}</text>',
    ]


def _length(panel: Panel, tokens: float) -> str:
    """A number of the horizontal axis."""
    x, y = panel.at(tokens, 0)
    label = f"{tokens / 1024:g}k" if tokens else "0 tokens"
    return f'<text class="middle" x="{x}" y="{y + 24}">{label}</text>'


def _line(panel: Panel, side: str, points: Points) -> list[str]:
    """One side: its line, its dots, and its name at the last of them."""
    places = [panel.at(x, y) for x, y in points]
    x, y = places[-1]
    name, place = {"stock": ("mlx-lm", "middle"), "ours": ("ours", "end")}[side]
    return [
        f'<polyline class="line {side}" points="{" ".join(f"{a},{b}" for a, b in places)}"/>',
        *(f'<circle class="dot {side}" cx="{a}" cy="{b}" r="3.5"/>' for a, b in places),
        f'<text class="{side} {place}" x="{x}" y="{y - 12}">{name}</text>',
    ]


def _words(results: Results) -> str:
    """The picture for those who cannot see it."""
    sides = {"stock": "mlx-lm", "ours": "ours"}
    return " ".join(
        f"{sides[side]} at {int(length):,} tokens: {entry['peak_bytes'] / 1e9:.2f} GB, {entry['ttft']:.0f} s."
        for side in sides
        for length, entry in results.group(side).items()
    )
