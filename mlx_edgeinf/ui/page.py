"""The layout of the page, and which handler each of its buttons calls."""

from __future__ import annotations

from functools import partial

import gradio as gr

from mlx_edgeinf.summarize import STRATEGIES, Strategy
from mlx_edgeinf.ui import handlers, panels
from mlx_edgeinf.ui.preparation import Preparation
from mlx_edgeinf.ui.session import Session
from mlx_edgeinf.ui.view import View, render

# Uploads are looked at every hour, go after a day, and all go when the server ends.
DELETE_UPLOADS = (3600, 86400)

# One model, one piece of work at a time; reading and answering wait for each other.
MODEL = {"concurrency_id": "model", "concurrency_limit": 1}
QUIET = {"show_progress": "hidden", "api_visibility": "private"}


def build(preparation: Preparation) -> gr.Blocks:
    """Lay out the page around a model that is being prepared."""
    start = render(Session())
    with gr.Blocks(
        title="mlx_edgeinf", analytics_enabled=False, delete_cache=DELETE_UPLOADS
    ) as page:
        session = gr.State(Session, delete_callback=Session.close)
        with gr.Row(elem_id="top"):
            gr.HTML(panels.MASTHEAD)
            model = gr.HTML(panels.model_preparing("Preparing the model"))
        with gr.Row(elem_id="room"):
            with gr.Column(elem_id="desk"):
                desk = _desk(start)
            with gr.Column(elem_id="paper"):
                paper = _paper(start)
        gr.HTML(panels.FOOTER)
        parts = {**desk, **paper}
        _wire(page, preparation, session, model, parts)
    return page


def _desk(start: View) -> dict[str, gr.components.Component]:
    """Where a document is handed in and its reading is watched."""
    return {
        "upload": gr.File(label="Document", file_types=[".pdf", ".txt", ".md"], height=150),
        "strategy": gr.Radio(
            [(_choice(strategy), name) for name, strategy in STRATEGIES.items()],
            value=next(iter(STRATEGIES)),
            label="How to summarise",
            elem_id="strategy",
        ),
        "password": gr.Textbox(type="password", label="Password", visible=False),
        "read": gr.Button("Read", variant="primary"),
        "stop": gr.Button("Stop", visible=False),
        "notice": gr.HTML(start.notice),
        "progress": gr.HTML(start.progress),
    }


def _choice(strategy: Strategy) -> str:
    """Name and description, which the style tells apart by the line they are on."""
    return f"{strategy.label}\n{strategy.description}"


def _paper(start: View) -> dict[str, gr.components.Component]:
    """Where the summary is written and questions are answered."""
    summary = gr.HTML(start.summary)
    chat = gr.HTML(start.chat)
    with gr.Row(elem_id="asking"):
        question = gr.Textbox(
            label="Your question",
            show_label=False,
            container=False,
            placeholder=start.question["placeholder"],
            interactive=False,
            max_lines=4,
        )
        ask = gr.Button("Ask", variant="primary", interactive=False, min_width=80, scale=0)
        stop_answer = gr.Button("Stop", visible=False, min_width=80, scale=0)
    return {
        "summary": summary,
        "chat": chat,
        "question": question,
        "ask": ask,
        "stop_answer": stop_answer,
    }


def _wire(page, preparation, session, model, parts) -> None:
    view = [parts[name] for name in View._fields]
    show_model = partial(handlers.show_model, preparation)
    page.load(show_model, None, model, concurrency_limit=None, **QUIET)
    gr.on(
        [parts["upload"].upload, parts["upload"].clear],
        handlers.choose,
        session,
        view,
        queue=False,
        **QUIET,
    )
    reading = gr.on(
        [parts["read"].click, parts["password"].submit],
        partial(handlers.read, preparation),
        [session, parts["upload"], parts["password"], parts["strategy"]],
        view,
        **MODEL,
        **QUIET,
    )
    answering = gr.on(
        [parts["ask"].click, parts["question"].submit],
        partial(handlers.ask, preparation),
        [session, parts["question"]],
        view,
        **MODEL,
        **QUIET,
    )
    gr.on(
        [parts["stop"].click, parts["stop_answer"].click],
        handlers.stop,
        session,
        view,
        queue=False,
        **QUIET,
    )
    for work in (reading, answering):
        work.failure(handlers.broken, session, view, queue=False, **QUIET)
    reading.then(show_model, None, model, concurrency_limit=None, **QUIET)
