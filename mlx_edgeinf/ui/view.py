"""Everything on the page that changes, rendered from a session in one place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from ..summarize import STRATEGIES
from . import desk, sheet, shelf
from .chart import memory_chart
from .insight import insight
from .leaf import leaf
from .meter import context_meter
from .session import Session, Stage

Update = dict[str, Any]


class View(NamedTuple):
    """What each changing part of the page is to show; the page has a component for each."""

    shelf: str
    upload: Update
    pasted: Update
    paste: Update
    read: Update
    stop: Update
    password: Update
    notice: str
    progress: str
    memory: str
    insight: str
    summary: str
    tools: str
    export: Update
    chat: str
    question: Update
    ask: Update
    stop_answer: Update
    leaf: str


def render(session: Session) -> View:
    """Show a session."""
    answering = session.stage is Stage.ANSWERING
    return View(
        shelf=shelf.shelf(session),
        upload=gr.update(visible=not session.pasting),
        pasted=gr.update(visible=session.pasting),
        paste=gr.update(
            value="Choose a file instead" if session.pasting else "Paste text instead",
            visible=not session.at_work,
        ),
        read=gr.update(
            value=read_label(session), visible=not session.at_work, interactive=not session.busy
        ),
        stop=_stop_button(session, session.at_work),
        password=_password_field(session),
        notice=desk.notice(session),
        progress=desk.progress(session),
        memory=_measured(session) if session.measured else "",
        insight=insight(session),
        summary=sheet.summary(session),
        tools=sheet.tools(session),
        export=gr.update(label=f"Save the file, {session.exported}", visible=bool(session.exported)),
        chat=sheet.chat(session),
        question=_question_field(session),
        ask=gr.update(visible=not answering, interactive=session.can_chat),
        stop_answer=_stop_button(session, answering),
        leaf=leaf(session.leaf),
    )


def with_empty_question(view: View) -> View:
    """The same view with the question field emptied, as its question has been taken."""
    return view._replace(question={**view.question, "value": ""})


def with_empty_desk(view: View) -> View:
    """The same view with nothing handed in, as it has been taken."""
    return with_uploads(view, ())._replace(pasted={**view.pasted, "value": ""})


def with_uploads(view: View, uploads: Sequence[str]) -> View:
    """The same view with these files handed in."""
    return view._replace(upload={**view.upload, "value": list(uploads) or None})


def with_export(view: View, path: Path) -> View:
    """The same view with a file to be saved."""
    return view._replace(export={**view.export, "value": str(path)})


def read_label(session: Session) -> str:
    """What the button for reading would do now."""
    if session.locked:
        return "Unlock and read"
    if session.offered or session.entry is None:
        return "Read"
    if session.obstacle:
        return "Read anew"
    whole = session.reading if STRATEGIES[session.strategy].resumes else None
    if whole and whole.position and whole.pages_read < len(session.document.pages):
        return f"Read on from page {session.document.pages[whole.pages_read].place}"
    return "Summarise again" if session.finished else "Read"


def _measured(session: Session) -> str:
    return memory_chart(session.history) + context_meter(session.history[-1])


def _stop_button(session: Session, visible: bool) -> Update:
    label = "Stopping …" if session.stopping else "Stop"
    return gr.update(value=label, visible=visible, interactive=not session.stopping)


def _question_field(session: Session) -> Update:
    hint = "Your question" if session.can_chat else "Nothing to ask about yet"
    return gr.update(interactive=session.can_chat, placeholder=hint)


def _password_field(session: Session) -> Update:
    """A field that is out of sight is emptied: no password waits for the next document."""
    if session.locked:
        return gr.update(visible=True)
    return gr.update(visible=False, value="")
