"""What a summary rests on, as rows of facts and as a Markdown file that can be taken along."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..summarize import PART_ANSWER_TOKENS, PART_TOKENS, STRATEGIES
from ..wording import count, counted, duration, page_ranges, size

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
    blank = receipt.without_text or page_ranges(receipt.pages_without_text) or "none"
    rows = facts(receipt) | {"Pages without text": blank, "Model": receipt.model}
    if kept and kept.model == receipt.model:
        rows |= {part.capitalize(): value for part, value in kept.identity.items()}
    rows |= settings(receipt)
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


def settings(receipt: Receipt) -> dict[str, str]:
    """What the summary was made with; nothing for one that an earlier version made."""
    if receipt.settings is None:
        return {}
    length = f"at most {counted(receipt.max_tokens, 'token')}"
    if receipt.strategy == "map-reduce":
        length += f"; parts of {count(PART_TOKENS)}, each in at most {PART_ANSWER_TOKENS}"
    return receipt.settings.facts() | {"Length of the summary": length}


def _left_out(receipt: Receipt) -> dict[str, str]:
    """The pages that the summary or the whole reading never saw, and those that may be misread."""
    rows = {}
    if receipt.summary_pages < receipt.pages:
        rows["Not in the summary"] = f"pages {_rest(receipt.summary_pages, receipt.pages)}"
    if receipt.pages_recognised:
        rows["Recognised in pictures"] = f"pages {page_ranges(receipt.pages_recognised)}"
    unread = "none"
    if receipt.pages_read < receipt.pages:
        tokens = count(receipt.tokens - receipt.tokens_read)
        unread = f"pages {_rest(receipt.pages_read, receipt.pages)} were not read ({tokens} tokens)"
    return rows | {"Truncation": unread}


def _rest(seen: int, pages: int) -> str:
    return page_ranges(range(seen + 1, pages + 1))
