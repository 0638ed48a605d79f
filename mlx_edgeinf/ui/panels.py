"""The written parts of the page, as HTML from a session. Every text of others is escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from ..chat import Turn
from ..summarize import STRATEGIES
from .chart import memory_chart
from .prose import prose
from .session import Session, Stage
from .wording import (
    count,
    counted,
    duration,
    page_ranges,
    percent,
    size,
    time_left,
)

if TYPE_CHECKING:
    from ..documents import Document
    from ..engine import Stats
    from ..events import Receipt
    from .preparation import Preparation

EXCERPT_CHARACTERS = 180

MASTHEAD = """<header class="masthead">
<h1>mlx_edgeinf</h1>
<p>A private reader for very long documents</p>
</header>"""

FOOTER = "<footer>Nothing leaves this machine.</footer>"

INVITATION = """<article class="invitation">
<h2>Bring a long document.</h2>
<p>It is read once, page by page, in memory that does not grow; you watch it being read, get
a summary with a receipt of what it covers, and can then ask about it.</p>
</article>"""

COPY = '<button type="button" class="copy" data-copy="summary-text">Copy summary</button>'


def model_preparing(step: str) -> str:
    """The line about the model while it is being made ready."""
    return _model_line("preparing", step)


def model_settled(preparation: Preparation) -> str:
    """The line about the model once it is ready or cannot be."""
    if preparation.problem:
        return _model_line("failed", f"{preparation.problem} Press Read to try again.")
    return _model_line("ready", f"{preparation.engine.name} is ready")


def notice(session: Session) -> str:
    """What went wrong or is asked for; empty if nothing is."""
    if not session.problem:
        return ""
    kind = "asking" if session.wants_password else "problem"
    return f'<p class="{kind}" role="alert">{escape(session.problem)}</p>'


def progress(session: Session) -> str:
    """What is going on, how far it is and what memory it takes; empty before the first time."""
    status = _status(session)
    if not (status or session.history):
        return ""
    answering = session.stage is Stage.ANSWERING
    busy = f'data-busy="{"answering" if answering else "reading"}"' if session.busy else ""
    return f"""<section class="progress" aria-label="Progress" {busy} {_tab_title(session)}>
<p class="status" role="status">{escape(status)}</p>
{_measurements(session, session.history[-1]) if session.history else ""}
</section>"""


def summary(session: Session) -> str:
    """The summary as far as it is written, with the receipt when it is finished."""
    if session.document is None:
        return INVITATION
    written = _written(session)
    return f"""<article class="summary" aria-busy="{str(session.busy).lower()}">
<header>
<p class="eyebrow">{escape(_eyebrow(session))}</p>
<h2>{escape(session.document.name)}</h2>
{_blank_pages(session.document)}
</header>
<div class="prose" id="summary-text">{prose(written)}</div>
{COPY if session.finished else _now_reading(session)}
{_receipt(session.finished.receipt) if session.finished else ""}
</article>"""


def chat(session: Session) -> str:
    """The questions and answers so far, under what they are based on."""
    turns = "\n".join(map(_turn, session.turns))
    busy = str(session.stage is Stage.ANSWERING).lower()
    return f"""<section class="chat" aria-label="Questions and answers">
<h2>Ask about it</h2>
<p class="basis">{escape(_basis(session))}</p>
<ol role="log" aria-busy="{busy}">{turns}</ol>
</section>"""


def question_hint(session: Session) -> str:
    """The placeholder of the question field."""
    return "Your question" if session.can_chat else "Nothing to ask about yet"


def _model_line(state: str, text: str) -> str:
    return f'<p class="model {state}" role="status">{escape(text)}</p>'


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


def _status(session: Session) -> str:
    if session.stopping:
        return "Stopping at the end of this segment"
    match session.stage:
        case Stage.OPENING | Stage.PREPARING | Stage.READING:
            return session.step
        case Stage.WRITING:
            return "Writing the summary" if session.draft.final else "Revising the draft"
        case Stage.ANSWERING:
            return "Answering"
    return _outcome(session)


def _outcome(session: Session) -> str:
    if session.finished is None:
        return ""
    return "Stopped" if session.finished.receipt.stopped else "Read to the end"


def _tab_title(session: Session) -> str:
    """For page.js: how far the reading is, in the title of a tab that waits elsewhere."""
    if session.stage not in (Stage.READING, Stage.WRITING) or not session.history:
        return ""
    return f'data-title="{_share(session.history[-1])} · {escape(session.document.name)}"'


def _share(stats: Stats) -> str:
    return percent(stats.tokens / stats.tokens_total)


def _measurements(session: Session, stats: Stats) -> str:
    reading = session.stage in (Stage.READING, Stage.WRITING)
    left = f'<p class="left">{time_left(stats.seconds_left)}</p>' if reading else ""
    return f"""<p class="where"><strong>{count(stats.pages)}</strong> of \
{counted(stats.pages_total, "page")}</p>
<progress max="{stats.tokens_total}" value="{stats.tokens}" aria-label="Share read">\
{_share(stats)}</progress>
{left}
<p class="pace">{stats.tokens_per_second:,.0f} tokens/s for {duration(stats.seconds)}</p>
{memory_chart(session.history)}"""


def _eyebrow(session: Session) -> str:
    if session.finished:
        receipt = session.finished.receipt
        return f"Summary of {_pages_read(receipt)}"
    if session.draft is None:
        return "The summary appears here"
    if session.draft.final:
        return "Summary, being written"
    return f"Draft after page {count(session.draft.page)}, revised as the reading goes on"


def _written(session: Session) -> str:
    if session.finished:
        return session.finished.summary or "Stopped before a summary was begun."
    return session.draft.text if session.draft else ""


def _now_reading(session: Session) -> str:
    """A line of the page being read: a sign of life during a long wait."""
    if session.stage is not Stage.READING or not session.history:
        return ""
    page = session.document.pages[max(session.history[-1].pages, 1) - 1]
    excerpt = " ".join(page.text[:EXCERPT_CHARACTERS].split())
    return f"""<p class="now-reading" aria-hidden="true">
<span>Page {page.number}</span> {escape(excerpt)} …</p>"""


def _receipt(receipt: Receipt) -> str:
    rows = {
        "Pages": f"{count(receipt.pages_read)} of {count(receipt.pages)}",
        "Tokens": f"{count(receipt.tokens_read)} of {count(receipt.tokens)}",
        "Time": duration(receipt.seconds),
        "Memory of the document": size(receipt.state_bytes),
        "Peak memory": size(receipt.peak_bytes),
        "Strategy": STRATEGIES[receipt.strategy].label,
    }
    facts = "".join(
        f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in rows.items()
    )
    return f"""<section class="receipt" aria-labelledby="receipt-title">
<h3 id="receipt-title">What this covers</h3>
<p>{escape(receipt.sentence())}</p>
<dl>{facts}</dl>
</section>"""


def _pages_read(receipt: Receipt) -> str:
    if receipt.pages_read == receipt.pages:
        return "the whole document"
    return f"pages 1–{receipt.pages_read}" if receipt.pages_read > 1 else "the first page"


def _basis(session: Session) -> str:
    """What answers are based on, or why there can be none."""
    if session.finished is None:
        return "Once something was read, you can ask about it here; nothing is read twice."
    if session.finished.memory is None:
        return "Nothing was read, so there is nothing to ask about yet."
    pages = _pages_read(session.finished.receipt)
    return f"Answered from what was kept of {pages}; nothing is read twice."


def _turn(turn: Turn) -> str:
    return f"""<li>
<p class="question">{escape(turn.question)}</p>
<div class="prose answer">{prose(turn.answer)}</div>
</li>"""
