"""The layout of the page, and which handler each of its buttons calls."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial

import gradio as gr

from ..summarize import STRATEGIES, Strategy
from . import desk, handlers, librarian, models, picking
from .room import Room
from .session import Session
from .tabs import stay
from .view import View, render

# Uploads are looked at every hour, go after a day, and all go when the server ends.
DELETE_UPLOADS = (3600, 86400)

# No Gradio spinners, and nothing to call but through the page. The engine lets several pages
# take turns by the segment, so that none waits in a queue for the half hour of another.
QUIET = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}

MASTHEAD = """<p class="gone" role="alert"></p>
<header class="masthead">
<button type="button" class="quiet drawer" aria-expanded="false" aria-controls="library">Library</button>
<h1>mlx_edgeinf</h1>
<p>A private reader for very long documents</p>
</header>"""

FOOTER = "<footer>Nothing leaves this machine.</footer>"

# Buttons and forms in HTML say in data-do what they wish; see `librarian.act`.
WISHES = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-do]");
  if (button) trigger("click", { ...button.dataset });
});
element.addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.target;
  trigger("click", { ...form.dataset, ...Object.fromEntries(new FormData(form)) });
});
"""

Parts = dict[str, gr.components.Component]


def build(room: Room) -> gr.Blocks:
    """Lay out the page around a model that is being prepared and a library."""
    # Gradio's own folder for uploads can be read by every user of the machine.
    os.environ["GRADIO_TEMP_DIR"] = room.uploads.name
    start = render(Session())
    with gr.Blocks(title="mlx_edgeinf", analytics_enabled=False, delete_cache=DELETE_UPLOADS) as page:
        # A function, as Gradio takes a dataclass given by itself for a value to be shown.
        session = gr.State(lambda: Session(), delete_callback=Session.close)
        # Made when it is first asked for; Gradio would put another one in its place as the page is loaded.
        session.load_event_to_attach = None
        with gr.Row(elem_id="top"):
            _html(MASTHEAD)
            model = _html(desk.model_preparing("Preparing the model"))
            opener = _html(models.OPENER)
        with gr.Column(elem_id="models"):
            panel = [_html(""), _html("")]
        with gr.Row(elem_id="room"):
            with gr.Column(elem_id="library"):
                parts = _library(start)
            with gr.Column(elem_id="desk"):
                parts |= _desk(start)
            with gr.Column(elem_id="sheet"):
                parts |= _sheet(start)
        _html(FOOTER)
        view = [parts[name] for name in View._fields]
        _wire_model_and_visits(page, room, session, model, view)
        _wire_desk(room, session, model, parts, view)
        _wire_library(room, session, parts, view)
        _wire_models(room, session, [opener, *panel], [*panel, model, *view])
    return page


def _html(value: str) -> gr.HTML:
    return gr.HTML(value, apply_default_css=False, js_on_load=WISHES)


def _library(start: View) -> Parts:
    """Where what was read is found again."""
    return {
        "search": gr.Textbox(
            label="Search the library",
            show_label=False,
            container=False,
            placeholder="Search the library",
            max_lines=1,
            elem_id="search",
        ),
        "shelf": _html(start.shelf),
    }


def _desk(start: View) -> Parts:
    """Where a document is handed in and its reading is watched."""
    return {
        # Of any type: what cannot be read is told apart, and told why, where it is opened.
        "upload": gr.File(label="Document", file_count="multiple", height=132, elem_id="upload"),
        "pasted": gr.Textbox(
            label="Text", placeholder="Paste a text", lines=6, max_lines=12, visible=False, elem_id="pasted"
        ),
        "paste": gr.Button(start.paste["value"], size="sm", elem_id="paste", elem_classes="quiet"),
        "strategy": gr.Radio(
            [(_choice(strategy), name) for name, strategy in STRATEGIES.items()],
            value=next(iter(STRATEGIES)),
            label="How to summarise",
            elem_id="strategy",
        ),
        "recall": gr.Checkbox(
            True, label="Exact recall", info="Keeps all that was read on disk, to look details up",
            elem_id="recall",
        ),
        "notice": _html(start.notice),
        "password": gr.Textbox(type="password", label="Password", visible=False, elem_id="password"),
        "read": gr.Button("Read", variant="primary", elem_id="read"),
        "progress": _html(start.progress),
        "stop": gr.Button("Stop", visible=False, elem_id="stop"),
        "memory": _html(start.memory),
        "insight": _html(start.insight),
    }


def _choice(strategy: Strategy) -> str:
    """Name and description, which the style tells apart by the line they are on."""
    return f"{strategy.label}\n{strategy.description}"


def _sheet(start: View) -> Parts:
    """Where the summary is written and questions are answered."""
    with gr.Column(elem_id="reading"):
        summary, tools = _html(start.summary), _html(start.tools)
        export = gr.DownloadButton("Save the file", visible=False, elem_id="export")
    with gr.Column(elem_id="talk"):
        chat = _html(start.chat)
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
        "tools": tools,
        "export": export,
        "chat": chat,
        "question": question,
        "ask": ask,
        "stop_answer": stop_answer,
        "leaf": _html(start.leaf),
    }


def _wire_model_and_visits(
    page: gr.Blocks, room: Room, session: gr.State, model: gr.HTML, view: list[gr.components.Component]
) -> None:
    """The line about the model, and what an open page holds: let go of when its tab is closed."""

    def enter(session: Session, request: gr.Request) -> View:
        room.enter(request.session_hash, session)
        return librarian.enter(room, session)

    def leave(request: gr.Request) -> None:
        room.leave(request.session_hash)

    page.load(partial(handlers.show_model, room.preparation), None, model, **QUIET)
    page.load(enter, session, view, queue=False, **QUIET)
    page.load(stay, **QUIET)
    page.unload(leave)


def _wire_desk(
    room: Room, session: gr.State, model: gr.HTML, parts: Parts, view: list[gr.components.Component]
) -> None:
    """Handing in, reading and asking."""
    at_once = {"queue": False, **QUIET}
    upload, pasted, strategy = parts["upload"], parts["pasted"], parts["strategy"]
    choosing = gr.on(
        [upload.upload, upload.clear, upload.delete],
        partial(librarian.choose, room),
        [session, upload],
        view,
        **QUIET,
    )
    parts["paste"].click(librarian.paste, session, view, **at_once)
    strategy.change(librarian.choose_strategy, [session, strategy], view, **at_once)
    parts["recall"].change(librarian.choose_recall, [session, parts["recall"]], None, **at_once)
    reading = gr.on(
        [parts["read"].click, parts["password"].submit],
        partial(handlers.read, room),
        [session, upload, pasted, parts["password"], strategy],
        view,
        **QUIET,
    )
    question = parts["question"]
    answering = gr.on(
        [parts["ask"].click, question.submit], partial(handlers.ask, room), [session, question], view, **QUIET
    )
    gr.on([parts["stop"].click, parts["stop_answer"].click], handlers.stop, session, view, **at_once)
    for work in (choosing, reading, answering):
        work.failure(handlers.broken, session, view, **at_once)
    reading.then(partial(handlers.show_model, room.preparation), None, model, **QUIET)


def _wire_library(
    room: Room, session: gr.State, parts: Parts, view: list[gr.components.Component]
) -> None:
    """Finding, opening and tending what was read."""

    def search(session: Session, words: str) -> str:
        return librarian.search(room, session, words).shelf

    def act(session: Session, wish: gr.EventData) -> Iterator[View]:
        yield from librarian.act(room, session, wish._data)

    # Not `input`, which Gradio 6.31 does not send for a field of one line.
    parts["search"].change(search, [session, parts["search"]], parts["shelf"], queue=False, **QUIET)
    clicks: list[Callable] = [parts[name].click for name in ("shelf", "tools", "summary", "chat", "leaf")]
    acting = gr.on(clicks, act, session, view, **QUIET)
    acting.failure(handlers.broken, session, view, queue=False, **QUIET)


def _wire_models(
    room: Room, session: gr.State, buttons: list[gr.HTML], shown: list[gr.components.Component]
) -> None:
    """Choosing the model; what goes on is followed, and ended by a button beside it: so several at once."""

    def act(session: Session, wish: gr.EventData) -> Iterator[picking.Shown]:
        yield from picking.act(room, session, wish._data)

    gr.on([each.click for each in buttons], act, session, shown, trigger_mode="multiple", **QUIET)
