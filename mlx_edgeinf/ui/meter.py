"""The context meter: how many tokens are attended to exactly, and how many went into memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..wording import count

if TYPE_CHECKING:
    from ..stats import Stats


def context_meter(now: Stats) -> str:
    """Show what a question would be answered from, at the end of the reading so far."""
    full = f"{count(now.exact_tokens)} of {count(now.exact_capacity)}"
    return f"""<figure class="context">
<figcaption>
<p class="exact"><strong>{full}</strong> <span>tokens word for word</span></p>
<p class="folded">{_folded(now.folded_tokens)}</p>
</figcaption>
<meter aria-label="Context in use" max="{now.exact_capacity}" value="{now.exact_tokens}">{full}</meter>
</figure>"""


def _folded(tokens: int) -> str:
    if not tokens:
        return "<span>All of it so far: nothing had to go into memory.</span>"
    return f"<strong>{count(tokens)}</strong> <span>older tokens in memory, as a gist</span>"
