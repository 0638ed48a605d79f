"""What stands on the sheet, as HTML: the summary, the receipt of what it covers, the chat."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from textwrap import shorten
from typing import TYPE_CHECKING

from ..chat import Turn
from ..wording import count, counted, page_places, read_pages
from . import asof, recognising
from .links import LEGEND
from .prose import prose
from .record import facts, file_name, record
from .session import Form, Session, Stage

if TYPE_CHECKING:
    from ..events import Finished, Receipt
    from .links import Links

EXCERPT_CHARACTERS = 180

INVITATION = """<article class="invitation">
<h2>Bring a long document.</h2>
<p>It is read once, page by page, in memory that does not grow; you watch it being read, get
a summary with a receipt of what it covers, and can then ask about it. It stays in your library.</p>
</article>"""

COPY = '<button type="button" class="quiet" data-copy="summary-text">Copy summary</button>'


def summary(session: Session) -> str:
    """The summary as far as it is written, with the receipt when it is finished."""
    if session.document is None:
        return INVITATION
    return f"""<article class="summary" aria-busy="{str(session.under_way).lower()}">
<header>
<p class="eyebrow">{escape(_eyebrow(session))}</p>
<h2>{escape(session.entry.name)}</h2>
{_blank_pages(session)}
</header>
<div class="written" id="summary-text">{_written(session)}</div>
{_taking_along(session) if session.finished and session.draft else _now_reading(session)}
{_receipt(session.finished.receipt) if session.finished else ""}
</article>"""


def tools(session: Session) -> str:
    """What can be done with the document on show; nothing while it is being read."""
    if session.entry is None or session.busy:
        return ""
    name = escape(session.entry.name)
    if session.form is Form.RENAME:
        return f"""<form class="tools" data-do="rename">
<label>Name <input name="name" value="{name}" required autocomplete="off"></label>
<button class="quiet">Rename</button> {_form_button("NONE", "Cancel")}
</form>"""
    if session.form is Form.DELETE:
        return f"""<p class="tools" role="alert">
<span>Delete <bdi>{name}</bdi> with its summaries, its questions and all that was read?
This cannot be undone.</span>
<button type="button" class="quiet danger" data-do="delete">Delete for good</button>
{_form_button("NONE", "Keep it")}
</p>"""
    return f"""<p class="tools">{_form_button("RENAME", "Rename")}
<button type="button" class="quiet" data-do="export">Export</button>
{_form_button("DELETE", "Delete")}</p>"""


def chat(session: Session) -> str:
    """The questions and answers so far, under what they are based on."""
    busy = str(session.stage is Stage.ANSWERING).lower()
    return f"""<section class="chat" aria-label="Questions and answers">
<h2>Ask about it</h2>
<p class="basis">{escape(_basis(session))}</p>
<div role="log" aria-busy="{busy}">{_turns(session)}</div>
{asof.choices(session)}
</section>"""


def _form_button(form: str, label: str) -> str:
    return f'<button type="button" class="quiet" data-do="form" data-form="{form}">{label}</button>'


def _eyebrow(session: Session) -> str:
    if session.finished:
        return _coverage(session)
    if session.draft is None:
        return _unsummarised(session)
    if session.draft.final:
        return "Summary, being written"
    page = session.draft.page
    place = f"after page {count(page)}" if page else "within page 1"
    return f"Draft {place}; another follows as the reading goes on"


def _unsummarised(session: Session) -> str:
    if session.at_work:
        return "The summary appears here"
    read = session.reading.pages_read if session.reading else 0
    return f"Read {read_pages(read, len(session.document.pages))}, no summary yet" if read else "Not read yet"


def _coverage(session: Session) -> str:
    """What the finished summary is of: after Stop it may be of less than was read."""
    receipt = session.finished.receipt
    reached = f", stopped at page {count(receipt.pages_read)}" if receipt.stopped else ""
    if session.draft is None:
        return f"No summary{reached}"
    return f"Summary of {read_pages(session.draft.page, receipt.pages)}{reached}"


def _written(session: Session) -> str:
    if session.draft and session.finished:
        return session.links.linked(session.draft.text)
    if session.draft:
        return prose(session.draft.text)
    return prose("It was stopped before a summary was begun.") if session.finished else ""


def _taking_along(session: Session) -> str:
    """Copying the summary, and saving it with its receipt as a file that the browser makes."""
    text = record(session.entry.name, _cited(session), session.kept)
    name = escape(file_name(session.entry.name, ".md"))
    return f"""<p class="legend">{LEGEND}</p>
<p class="along">{COPY}
<button type="button" class="quiet" data-save="summary-record" data-name="{name}">Save as Markdown</button>
</p>
<pre id="summary-record" hidden>{escape(text)}</pre>"""


def _cited(session: Session) -> Finished:
    """The end of the run, with pages in its summary."""
    return replace(session.finished, summary=session.links.cited(session.finished.summary))


def _blank_pages(session: Session) -> str:
    pages, blank = session.document.pages, session.document.pages_without_text
    if not blank:
        return ""
    verb = "has" if len(blank) == 1 else "have"
    return (
        f'<p class="blank" role="note">{count(len(blank))} of '
        f"{counted(len(pages), 'page')} {verb} no text ({escape(page_places(pages, blank))}): "
        f"blank or scanned, and so not in the summary. {recognising.offer(session)}</p>"
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
    rows = "".join(
        f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts(receipt).items()
    )
    return f"""<section class="receipt" aria-labelledby="receipt-title">
<h3 id="receipt-title">What this covers</h3>
<p>{escape(receipt.sentence())}</p>
<dl>{rows}</dl>
</section>"""


def _basis(session: Session) -> str:
    """What answers are based on, or why there can be none."""
    if session.document is None or session.under_way:
        return "Once something was read, you can ask about it here; nothing is read twice."
    if session.obstacle:
        return "Its memory cannot be opened here: read it anew to ask about it."
    if session.memory is None:
        waiting = session.kept is not None and session.kept.position > 0
        return (
            "Its memory is opened as soon as the model is ready." if waiting
            else "Nothing was read, so there is nothing to ask about."
        )  # fmt: skip
    if session.as_of:
        return asof.basis(session)
    pages = read_pages(_pages_in_memory(session), len(session.document.pages))
    return f"Answered from what was kept of {pages}; nothing is read twice."


def _pages_in_memory(session: Session) -> int:
    """Pages that the memory has read; where it read their summaries alone, those that these cover."""
    if session.kept and session.kept.whole:
        return session.kept.pages_read
    return session.finished.receipt.pages_read if session.finished else session.memory.pages_read


def _turns(session: Session) -> str:
    """Each question with its answer, which has links once it is finished.

    A list inside of what is read out as it grows: one element cannot be both.
    """
    turns = [*session.earlier, *session.turns]
    growing = session.stage is Stage.ANSWERING
    shown = [_turn(turn, session.links, growing and turn is turns[-1]) for turn in turns]
    return f"<ol>{''.join(shown)}</ol>" if turns else ""


def _turn(turn: Turn, links: Links, growing: bool) -> str:
    return f"""<li>
<p class="question">{escape(turn.question)}</p>
{asof.asked_at(turn.page)}
<div class="written answer">{prose(turn.answer) if growing else links.linked(turn.answer)}</div>
{links.consulted(turn.consulted)}
</li>"""
