"""The panel of models without a browser: switching, fetching and training as the buttons do it."""

from __future__ import annotations

import shutil
import threading
import time

import pytest
from fakes import FakeEngine

from mlx_edgeinf.catalogue.choice import chosen_model
from mlx_edgeinf.catalogue.download import Cancelled
from mlx_edgeinf.documents import Document, Page
from mlx_edgeinf.ui import handlers, picker, picking
from mlx_edgeinf.ui.picker import TRAINING
from mlx_edgeinf.ui.session import Session, Stage

BOOK = Document("book.pdf", "0" * 64, tuple(Page(n, f"Page {n}. " + "word " * 4000) for n in (1, 2, 3, 4)))


@pytest.fixture
def folder(model_folder, tmp_path):
    return shutil.copytree(model_folder, tmp_path / "other")


@pytest.fixture
def loaded(room, tmp_path):
    """What was loaded, by the name of its folder; engines have that name."""
    names = []

    def load(model, note):
        names.append(model and model.rsplit("/")[-1])
        return FakeEngine(names[-1] or "starter", has_gates=model is None)

    room.picker.load, room.picker.home = load, tmp_path / "home"
    return names


def do(room, session, **wish) -> tuple[str, str, str]:
    """Press a button and wait for the end: how far, the last panel, and the line about the model."""
    room.preparation.engine  # noqa: B018 - waits
    progress, panel, line = "", "", ""
    for shown in picking.act(room, session, wish):
        progress, panel, line = (
            new if isinstance(new, str) else old for new, old in zip(shown[:3], (progress, panel, line))
        )
    return progress, panel, line


def last_panel(shown) -> str:
    return [each[1] for each in shown if isinstance(each[1], str)][-1]


def read(room, session) -> None:
    entry = room.library.add(BOOK)
    session.open(entry, room.library.document(entry.id))
    for _ in handlers.read(room, session, None, "", "", "one-shot"):
        pass


def test_the_list_is_shown_and_what_is_in_use_is_marked(room, session, loaded):
    progress, panel, line = do(room, session, do="models")
    assert progress == "" and "is ready" in line
    current = panel.split('aria-current="true"')[1].split("</li>")[0]
    assert "SmolLM2-135M-Instruct" in current and "In use" in current
    assert panel.count("data-do=\"download\"") == 7 and "Llama 3.2 Community License" in panel


def test_a_folder_that_is_no_model_is_one_sentence_and_nothing_changes(room, session, loaded, tmp_path):
    _, panel, line = do(room, session, do="name", name=str(tmp_path))
    assert 'class="problem"' in panel and "no model for mlx-lm" in panel
    assert loaded == [] and chosen_model(room.library.folder) is None and "is ready" in line


def test_switching_loads_the_model_and_remembers_it(room, session, loaded, folder):
    _, panel, line = do(room, session, do="name", name=str(folder))
    assert loaded == ["other"] and "other is ready" in line
    assert chosen_model(room.library.folder) == str(folder)
    assert "This model has no gates yet" in panel and "Train gates" in panel
    do(room, session, do="use")
    assert loaded == ["other", None] and chosen_model(room.library.folder) is None


def test_a_model_that_fails_to_load_is_not_remembered(room, session, loaded, folder):
    def fail(model, note):
        raise ValueError("its weights are damaged")

    room.picker.load = fail
    _, _, line = do(room, session, do="name", name=str(folder))
    assert "its weights are damaged" in line and chosen_model(room.library.folder) is None


def test_after_switching_documents_of_the_other_model_say_why_they_cannot_be_asked(
    room, session, loaded, folder
):
    other = Session()
    room.visits.update(one=session, two=other)
    read(room, session)
    read(room, other)
    assert session.can_chat and other.can_chat
    do(room, session, do="name", name=str(folder))
    assert not session.can_chat and "choose that again, or read" in session.obstacle
    assert not other.can_chat and other.problem == picking.CHANGED


def test_a_question_that_comes_while_the_model_is_changed_is_not_asked(room, session):
    read(room, session)
    asking = threading.Thread(target=lambda: list(handlers.ask(room, session, "Who did it?")))
    with room.picker.changing:
        asking.start()
        time.sleep(0.2)
        assert not session.busy
        session.memory = None
    asking.join(10)
    assert session.turns == [] and not session.busy


def test_after_switching_nothing_of_the_other_model_is_asked(room, session, loaded, folder):
    """Nor the memory as of a page."""
    other = Session()
    room.visits.update(one=session, two=other)
    read(room, other)
    other.past, other.as_of = other.memory, object()
    do(room, session, do="name", name=str(folder))
    assert other.asked is None and other.as_of is None


def test_while_a_closed_page_keeps_what_it_read_switching_is_refused(room, session, loaded, folder):
    closed = Session()
    room.enter("two", closed)
    closed.begin(Stage.READING)
    room.leave("two")
    _, panel, _ = do(room, session, do="name", name=str(folder))
    assert picking.BUSY in panel and loaded == []
    closed.rest()
    room.leave("two")
    assert not room.visits
    do(room, session, do="name", name=str(folder))
    assert loaded == ["other"]


def test_a_page_that_reads_on_while_texts_are_gathered_keeps_its_model(
    room, session, loaded, folder, monkeypatch
):
    do(room, session, do="name", name=str(folder))
    room.library.add(BOOK)
    reader = Session()
    room.enter("two", reader)
    gather = picker.library_textbook

    def begins_meanwhile(library):
        reader.begin(Stage.READING)
        return gather(library)

    monkeypatch.setattr(picker, "library_textbook", begins_meanwhile)
    _, panel, _ = do(room, session, do="train", texts="")
    assert picking.BUSY in panel and room.picker.stop is None and loaded == ["other"]


@pytest.mark.parametrize("stage", [Stage.READING, Stage.ANSWERING])
def test_while_any_page_is_busy_switching_is_refused(room, session, loaded, folder, stage):
    busy = Session()
    room.visits["two"] = busy
    busy.begin(stage)
    _, panel, _ = do(room, session, do="name", name=str(folder))
    assert picking.BUSY in panel and loaded == []
    busy.rest()
    do(room, session, do="name", name=str(folder))
    assert loaded == ["other"]


def test_a_download_is_followed_cancelled_and_told(room, session, loaded, monkeypatch):
    begun = threading.Event()

    def download(repo, home, note, cancel):
        note(5, 10)
        begun.set()
        assert cancel.wait(10)
        raise Cancelled

    monkeypatch.setattr(picker, "download", download)
    shown = picking.act(room, session, {"do": "download", "repo": "people/model"})
    next(shown)
    begun.wait(10)
    progress = next(shown)[0]
    assert "Downloading people/model 5 bytes of 10 bytes, 50 %" in progress and "Cancel" in progress
    refused = next(picking.act(room, Session(), {"do": "download", "repo": "people/other"}))
    assert "people/model is being downloaded" in refused[1]
    panel = last_panel(picking.act(room, session, {"do": "cancel"}))
    # The last button pressed shows what goes on, and the one before no longer.
    assert list(shown) == []
    assert "Cancelled" in panel and room.picker.fetching is None


def test_training_refuses_readings_and_ends_with_the_model_loaded_again(
    room, session, loaded, folder, monkeypatch
):
    do(room, session, do="name", name=str(folder))
    room.library.add(BOOK)
    began, stopped = threading.Event(), []

    def train_gates(model, corpus, note, stop):
        began.set()
        stopped.append(stop.wait(10))
        return False

    monkeypatch.setattr("mlx_edgeinf.catalogue.gates.train_gates", train_gates)
    shown = picking.act(room, session, {"do": "train", "texts": ""})
    next(shown)
    assert began.wait(10)
    progress = next(shown)[0]
    assert "Training gates" in progress and 'data-do="stop"' in progress
    reader = Session()
    read(room, reader)
    assert reader.problem == TRAINING
    _, panel, _ = next(picking.act(room, Session(), {"do": "use"}))[:3]
    assert TRAINING in panel
    panel = last_panel(picking.act(room, session, {"do": "stop"}))
    assert stopped == [True] and "Stopped" in panel and loaded == ["other", "other"]
    read(room, reader)
    assert reader.can_chat


def test_too_little_text_leaves_the_model_in_place(room, session, loaded, folder):
    do(room, session, do="name", name=str(folder))
    _, panel, line = do(room, session, do="train", texts="")
    assert "too little text" in panel and "other is ready" in line and loaded == ["other"]


def test_the_end_of_the_program_ends_what_goes_on(room, session, loaded, monkeypatch):
    def download(repo, home, note, cancel):
        assert cancel.wait(10)
        raise Cancelled

    monkeypatch.setattr(picker, "download", download)
    room.picker.fetch("people/model")
    room.picker.stop = threading.Event()
    room.picker.close()
    assert room.picker.stop.is_set()
    assert isinstance(room.picker.fetching.work.error, Cancelled)
