"""What a summary rests on, as rows of facts and as a Markdown file that can be taken along."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..summarize import STRATEGIES
from ..wording import count, duration, page_ranges, size

if TYPE_CHECKING:
    from ..events import Finished, Receipt
    from ..library import Reading


def facts(receipt: Receipt) -> dict[str, str]:
    """The numbers of a receipt, each by its name for people."""
    rows = {
        "Pages read": f"{count(receipt.pages_read)} of {count(receipt.pages)}",
        "Tokens read": f"{count(receipt.tokens_read)} of {count(receipt.tokens)}",
        "Time": duration(receipt.seconds),
        "Memory of the document": size(receipt.state_bytes),
        "Peak memory": size(receipt.peak_bytes),
        "Strategy": STRATEGIES[receipt.strategy].label,
    }
    return rows | _left_out(receipt)


def record(name: str, finished: Finished, kept: Reading | None) -> str:
    """A summary with its receipt as Markdown.

    Args:
        name: of the document. kept: the reading it was asked of, which knows the gates and settings.
    """
    receipt = finished.receipt
    blank = page_ranges(receipt.pages_without_text) or "none"
    rows = facts(receipt) | {"Pages without text": blank, "Model": receipt.model}
    if kept and kept.model == receipt.model:
        rows |= {part.capitalize(): value for part, value in kept.identity.items()}
    lines = "\n".join(f"- {fact}: {value}" for fact, value in rows.items())
    heading = " ".join(name.split())
    return (
        f"# {heading}\n\n{finished.summary}\n\n## What this covers\n\n{receipt.sentence()}\n\n{lines}\n"
    )


def file_name(name: str, suffix: str) -> str:
    """A name for a file that every system takes, whatever the document is called."""
    # No longer than file systems take it, which count bytes.
    plain = re.sub(r"[^\w .()-]", "_", name).encode()[:160].decode(errors="ignore").strip(". ")
    return f"{plain or 'document'}{suffix}"


def _left_out(receipt: Receipt) -> dict[str, str]:
    """The pages that the summary or the whole reading never saw."""
    rows = {}
    if receipt.summary_pages < receipt.pages:
        rows["Not in the summary"] = f"pages {_rest(receipt.summary_pages, receipt.pages)}"
    if receipt.pages_read < receipt.pages:
        unread = count(receipt.tokens - receipt.tokens_read)
        rows["Not read"] = f"pages {_rest(receipt.pages_read, receipt.pages)} ({unread} tokens)"
    return rows


def _rest(seen: int, pages: int) -> str:
    return page_ranges(range(seen + 1, pages + 1))
