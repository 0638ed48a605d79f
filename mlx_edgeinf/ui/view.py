"""Everything on the page that changes, rendered from a session in one place."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from . import desk, sheet
from .chart import memory_chart
from .session import Session, Stage

Update = dict[str, Any]


class View(NamedTuple):
    """What each changing part of the page is to show; the page has a component for each."""

    read: Update
    stop: Update
    password: Update
    notice: str
    progress: str
    memory: str
    summary: str
    chat: str
    question: Update
    ask: Update
    stop_answer: Update


def render(session: Session) -> View:
    """Show a session."""
    answering = session.stage is Stage.ANSWERING
    return View(
        read=_read_button(session),
        stop=_stop_button(session, session.reading),
        password=_password_field(session),
        notice=desk.notice(session),
        progress=desk.progress(session),
        memory=memory_chart(session.history) if session.measured else "",
        summary=sheet.summary(session),
        chat=sheet.chat(session),
        question=_question_field(session),
        ask=gr.update(visible=not answering, interactive=session.can_chat),
        stop_answer=_stop_button(session, answering),
    )


def with_empty_question(view: View) -> View:
    """The same view with the question field emptied, as its question has been taken."""
    return view._replace(question={**view.question, "value": ""})


def _read_button(session: Session) -> Update:
    label = "Unlock and read" if session.wants_password else "Read"
    return gr.update(value=label, visible=not session.reading, interactive=not session.busy)


def _stop_button(session: Session, visible: bool) -> Update:
    label = "Stopping …" if session.stopping else "Stop"
    return gr.update(value=label, visible=visible, interactive=not session.stopping)


def _question_field(session: Session) -> Update:
    hint = "Your question" if session.can_chat else "Nothing to ask about yet"
    return gr.update(interactive=session.can_chat, placeholder=hint)


def _password_field(session: Session) -> Update:
    """A field that is out of sight is emptied: no password waits for the next document."""
    if session.wants_password:
        return gr.update(visible=True)
    return gr.update(visible=False, value="")
