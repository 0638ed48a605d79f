"""What stands on the sheet, as HTML: the summary, the receipt of what it covers, the chat."""

from __future__ import annotations

from html import escape
from textwrap import shorten
from typing import TYPE_CHECKING

from ..chat import Turn
from ..summarize import STRATEGIES
from ..wording import count, counted, duration, page_ranges, read_pages, size
from .prose import prose
from .session import Session, Stage

if TYPE_CHECKING:
    from ..documents import Document
    from ..events import Receipt

EXCERPT_CHARACTERS = 180

INVITATION = """<article class="invitation">
<h2>Bring a long document.</h2>
<p>It is read once, page by page, in memory that does not grow; you watch it being read, get
a summary with a receipt of what it covers, and can then ask about it.</p>
</article>"""

COPY = '<button type="button" class="copy" data-copy="summary-text">Copy summary</button>'


def summary(session: Session) -> str:
    """The summary as far as it is written, with the receipt when it is finished."""
    if session.document is None:
        return INVITATION
    return f"""<article class="summary" aria-busy="{str(session.under_way).lower()}">
<header>
<p class="eyebrow">{escape(_eyebrow(session))}</p>
<h2>{escape(session.document.name)}</h2>
{_blank_pages(session.document)}
</header>
<div class="written" id="summary-text">{prose(_written(session))}</div>
{COPY if session.finished and session.draft else _now_reading(session)}
{_receipt(session.finished.receipt) if session.finished else ""}
</article>"""


def chat(session: Session) -> str:
    """The questions and answers so far, under what they are based on."""
    busy = str(session.stage is Stage.ANSWERING).lower()
    return f"""<section class="chat" aria-label="Questions and answers">
<h2>Ask about it</h2>
<p class="basis">{escape(_basis(session))}</p>
<ol role="log" aria-busy="{busy}">{"".join(map(_turn, session.turns))}</ol>
</section>"""


def _eyebrow(session: Session) -> str:
    if session.finished:
        return _coverage(session)
    if session.draft is None:
        return "The summary appears here"
    if session.draft.final:
        return "Summary, being written"
    return f"Draft after page {count(session.draft.page)}, revised as the reading goes on"


def _coverage(session: Session) -> str:
    """What the finished summary is of: after Stop it may be of less than was read."""
    receipt = session.finished.receipt
    reached = f", stopped at page {count(receipt.pages_read)}" if receipt.stopped else ""
    if session.draft is None:
        return f"No summary{reached}"
    return f"Summary of {read_pages(session.draft.page, receipt.pages)}{reached}"


def _written(session: Session) -> str:
    if session.draft:
        return session.draft.text
    return "It was stopped before a summary was begun." if session.finished else ""


def _blank_pages(document: Document) -> str:
    blank = document.pages_without_text
    if not blank:
        return ""
    verb = "has" if len(blank) == 1 else "have"
    return (
        f'<p class="blank" role="note">{count(len(blank))} of '
        f"{counted(len(document.pages), 'page')} {verb} no text ({page_ranges(blank)}): "
        "blank or scanned, and so not in the summary.</p>"
    )


def _now_reading(session: Session) -> str:
    """A line of the page being read: a sign of life during a long wait."""
    if session.stage is not Stage.READING:
        return ""
    pages = session.document.pages
    page = pages[min(session.history[-1].pages, len(pages) - 1)]
    excerpt = shorten(page.text, EXCERPT_CHARACTERS, placeholder=" …") or "has no text"
    return f"""<p class="now-reading" aria-hidden="true">
<span>Page {escape(page.place)}</span> {escape(excerpt)}</p>"""


def _receipt(receipt: Receipt) -> str:
    rows = {
        "Pages": f"{count(receipt.pages_read)} of {count(receipt.pages)}",
        "Tokens": f"{count(receipt.tokens_read)} of {count(receipt.tokens)}",
        "Time": duration(receipt.seconds),
        "Memory of the document": size(receipt.state_bytes),
        "Peak memory": size(receipt.peak_bytes),
        "Strategy": STRATEGIES[receipt.strategy].label,
    }
    facts = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in rows.items())
    return f"""<section class="receipt" aria-labelledby="receipt-title">
<h3 id="receipt-title">What this covers</h3>
<p>{escape(receipt.sentence())}</p>
<dl>{facts}</dl>
</section>"""


def _basis(session: Session) -> str:
    """What answers are based on, or why there can be none."""
    if session.finished is None:
        return "Once something was read, you can ask about it here; nothing is read twice."
    if session.finished.memory is None:
        return "Nothing was read, so there is nothing to ask about."
    receipt = session.finished.receipt
    pages = read_pages(receipt.pages_read, receipt.pages)
    return f"Answered from what was kept of {pages}; nothing is read twice."


def _turn(turn: Turn) -> str:
    return f"""<li>
<p class="question">{escape(turn.question)}</p>
<div class="written answer">{prose(turn.answer)}</div>
</li>"""
