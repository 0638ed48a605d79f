"""What the desk says, as HTML: the model, what goes on, how far it is, what went wrong."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from ..wording import count, counted, duration, percent, read_pages, size, time_left
from .session import Session, Stage

if TYPE_CHECKING:
    from ..stats import Stats
    from .preparation import Preparation


def model_preparing(step: str) -> str:
    """The line about the model while it is being made ready."""
    return _model_line("preparing", step)


def model_settled(preparation: Preparation) -> str:
    """The line about the model once it is ready or cannot be."""
    if preparation.problem:
        return _model_line("failed", f"{preparation.problem} Press Read to try again.")
    return _model_line("ready", f"{preparation.engine.name} is ready")


def notice(session: Session) -> str:
    """What went wrong or is asked for, or why the memory cannot be asked; empty if nothing is."""
    text = session.problem or session.obstacle
    if not text or (session.at_work and not session.problem):
        return ""
    kind = "asking" if session.locked else "problem"
    return f'<p class="{kind}" role="alert">{escape(text)}</p>'


def progress(session: Session) -> str:
    """What goes on and how far it is; empty before the first time."""
    status = _status(session)
    if not status:
        return ""
    return f"""<section class="progress" aria-label="Progress" {_marks(session)}>
<p class="status" role="status">{escape(status)}{_spoken_share(session)}</p>
{_measurements(session, session.history[-1]) if session.measured else ""}
</section>"""


def _model_line(state: str, text: str) -> str:
    return f'<p class="model {state}" role="status">{escape(text)}</p>'


def _status(session: Session) -> str:
    if session.stopping:
        return "Stopping at the end of this segment" if session.under_way else "Stopping"
    match session.stage:
        case Stage.OPENING | Stage.PREPARING | Stage.READING:
            return session.step
        case Stage.WRITING:
            return "Writing the summary" if session.draft.final else "Writing a draft"
        case Stage.ANSWERING:
            return "Answering"
    return _outcome(session)


def _outcome(session: Session) -> str:
    if session.finished is None or not session.history:
        return ""
    receipt = session.finished.receipt
    return "Stopped" if receipt.stopped else f"Read {read_pages(receipt.pages_read, receipt.pages)}"


def _marks(session: Session) -> str:
    """What page.js and the style go by: what the page is busy with, and the title of its tab."""
    if not session.busy:
        return ""
    if not session.under_way:
        return f'data-busy="{"reading" if session.at_work else "answering"}"'
    title = f"{_share(session.history[-1])} · {session.entry.name}"
    return f'data-busy="reading" data-title="{escape(title)}"'


def _share(stats: Stats) -> str:
    return percent(stats.tokens / stats.tokens_total)


def _spoken_share(session: Session) -> str:
    """For screen readers alone, which speak the status when it changes: every tenth."""
    if not session.under_way:
        return ""
    now = session.history[-1]
    return f'<span class="spoken">, {10 * (10 * now.tokens // now.tokens_total)} % read</span>'


def _measurements(session: Session, stats: Stats) -> str:
    return f"""<p class="where"><strong>{count(stats.pages)}</strong> of \
{counted(stats.pages_total, "page")}</p>
<progress max="{stats.tokens_total}" value="{stats.tokens}" aria-label="Share read">\
{_share(stats)}</progress>
{f"<p>{time_left(stats.seconds_left)}</p>" if session.under_way else ""}
<p class="pace">{stats.tokens_per_second:,.0f} tokens/s for {duration(stats.seconds)}</p>
{_disk(stats)}
{'<p class="hint">Stop whenever you like: what was read stays.</p>' if session.under_way else ""}"""


def _disk(stats: Stats) -> str:
    """What exact recall takes on disk, and will take in the end."""
    if not stats.disk_bytes_total:
        return ""
    end = "" if stats.disk_bytes >= stats.disk_bytes_total else f" of {size(stats.disk_bytes_total)}"
    return f'<p class="pace">{size(stats.disk_bytes)}{end} on disk for exact recall</p>'
