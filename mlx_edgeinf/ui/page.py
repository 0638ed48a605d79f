"""The layout of the page, and which handler each of its buttons calls."""

from __future__ import annotations

from functools import partial

import gradio as gr

from ..summarize import STRATEGIES, Strategy
from . import desk, handlers
from .preparation import Preparation
from .session import Session
from .view import View, render

# Uploads are looked at every hour, go after a day, and all go when the server ends.
DELETE_UPLOADS = (3600, 86400)

# No Gradio spinners, and nothing to call but through the page. The engine lets several pages
# take turns by the segment, so that none waits in a queue for the half hour of another.
QUIET = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}

MASTHEAD = """<header class="masthead">
<h1>mlx_edgeinf</h1>
<p>A private reader for very long documents</p>
</header>"""

FOOTER = "<footer>Nothing leaves this machine.</footer>"


def build(preparation: Preparation) -> gr.Blocks:
    """Lay out the page around a model that is being prepared."""
    start = render(Session())
    with gr.Blocks(title="mlx_edgeinf", analytics_enabled=False, delete_cache=DELETE_UPLOADS) as page:
        # A function, as Gradio takes a dataclass given by itself for a value to be shown.
        session = gr.State(lambda: Session(), delete_callback=Session.close)
        with gr.Row(elem_id="top"):
            _html(MASTHEAD)
            model = _html(desk.model_preparing("Preparing the model"))
        with gr.Row(elem_id="room"):
            with gr.Column(elem_id="desk"):
                parts = _desk(start)
            with gr.Column(elem_id="sheet"):
                parts |= _sheet(start)
        _html(FOOTER)
        _wire(page, preparation, session, model, parts)
    return page


def _html(value: str) -> gr.HTML:
    return gr.HTML(value, apply_default_css=False)


def _desk(start: View) -> dict[str, gr.components.Component]:
    """Where a document is handed in and its reading is watched."""
    return {
        # Of any type: what cannot be read is told apart, and told why, where it is opened.
        "upload": gr.File(label="Document", height=132, elem_id="upload"),
        "strategy": gr.Radio(
            [(_choice(strategy), name) for name, strategy in STRATEGIES.items()],
            value=next(iter(STRATEGIES)),
            label="How to summarise",
            elem_id="strategy",
        ),
        "notice": _html(start.notice),
        "password": gr.Textbox(type="password", label="Password", visible=False, elem_id="password"),
        "read": gr.Button("Read", variant="primary", elem_id="read"),
        "progress": _html(start.progress),
        "stop": gr.Button("Stop", visible=False, elem_id="stop"),
        "memory": _html(start.memory),
    }


def _choice(strategy: Strategy) -> str:
    """Name and description, which the style tells apart by the line they are on."""
    return f"{strategy.label}\n{strategy.description}"


def _sheet(start: View) -> dict[str, gr.components.Component]:
    """Where the summary is written and questions are answered."""
    summary, chat = _html(start.summary), _html(start.chat)
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


def _wire(
    page: gr.Blocks,
    preparation: Preparation,
    session: gr.State,
    model: gr.HTML,
    parts: dict[str, gr.components.Component],
) -> None:
    view = [parts[name] for name in View._fields]
    show_model = partial(handlers.show_model, preparation)
    page.load(show_model, None, model, **QUIET)
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
        **QUIET,
    )
    answering = gr.on(
        [parts["ask"].click, parts["question"].submit],
        partial(handlers.ask, preparation),
        [session, parts["question"]],
        view,
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
    reading.then(show_model, None, model, **QUIET)
