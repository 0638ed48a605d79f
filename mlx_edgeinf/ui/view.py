"""Everything on the page that changes, rendered from a session in one place."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from . import panels
from .session import Session, Stage

Update = dict[str, Any]


class View(NamedTuple):
    """What each changing part of the page is to show; the page has a component for each."""

    read: Update
    stop: Update
    password: Update
    notice: str
    progress: str
    summary: str
    chat: str
    question: Update
    ask: Update
    stop_answer: Update


def render(session: Session) -> View:
    """Show a session."""
    answering = session.stage is Stage.ANSWERING
    reading = session.busy and not answering
    return View(
        read=_read_button(session, reading),
        stop=_stop_button(session, reading),
        password=_password_field(session),
        notice=panels.notice(session),
        progress=panels.progress(session),
        summary=panels.summary(session),
        chat=panels.chat(session),
        question=gr.update(
            interactive=session.can_chat, placeholder=panels.question_hint(session)
        ),
        ask=gr.update(visible=not answering, interactive=session.can_chat),
        stop_answer=_stop_button(session, answering),
    )


def with_empty_question(view: View) -> View:
    """The same view with the question field emptied, as its question has been taken."""
    return view._replace(question={**view.question, "value": ""})


def _read_button(session: Session, reading: bool) -> Update:
    label = "Unlock and read" if session.wants_password else "Read"
    return gr.update(value=label, visible=not reading, interactive=not session.busy)


def _stop_button(session: Session, visible: bool) -> Update:
    label = "Stopping …" if session.stopping else "Stop"
    return gr.update(value=label, visible=visible, interactive=not session.stopping)


def _password_field(session: Session) -> Update:
    """A field that is out of sight is emptied: no password waits for the next document."""
    if session.wants_password:
        return gr.update(visible=True)
    return gr.update(visible=False, value="")
