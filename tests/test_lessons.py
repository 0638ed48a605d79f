"""Gates trained in the app: begun, stopped, gone on with, and found beside the model."""

from __future__ import annotations

import json
import shutil
from threading import Event

import pytest
from refusals import one_sentence
from tiny import document

from mlx_edgeinf.beside import steps_trained
from mlx_edgeinf.catalogue import ModelRefused, gates, lessons
from mlx_edgeinf.catalogue.gates import Lesson, rough_seconds, train_gates
from mlx_edgeinf.catalogue.home import local_model
from mlx_edgeinf.catalogue.lessons import LETTERS, Textbook, folder_textbook, library_textbook
from mlx_edgeinf.catalogue.offers import Gates, offer_of
from mlx_edgeinf.documents import Document
from mlx_edgeinf.engine import Engine
from mlx_edgeinf.training.corpus import CorpusError
from mlx_edgeinf.ui import picker, picking

LONG = "The sea was calm that day, and the ship lay still. " * 400
TEXTS = Textbook("texts", {"a": LONG})


@pytest.fixture
def short(monkeypatch):
    """Excerpts that just reach the memory, and four steps of which every second one is saved."""
    monkeypatch.setattr(gates, "LENGTH", 1031)
    for name, value in (("ITERATIONS", 4), ("SAVE_EVERY", 2)):
        monkeypatch.setattr(gates, name, value)
    for place in ("catalogue.offers", "ui.picker", "ui.models"):
        monkeypatch.setattr(f"mlx_edgeinf.{place}.ITERATIONS", 4)


def until(step: int, stop: Event, seen: list[Lesson]):
    def note(lesson: Lesson) -> None:
        seen.append(lesson)
        if lesson.step == step:
            stop.set()

    return note


def test_training_is_stopped_gone_on_with_and_found_beside_the_model(model_folder, tmp_path, short):
    folder, stop = shutil.copytree(model_folder, tmp_path / "model"), Event()
    seen: list[Lesson] = []
    assert not train_gates(folder, TEXTS, until(1, stop, seen), stop)
    assert offer_of(folder).gates is Gates.UNFINISHED and offer_of(folder).steps == 1
    assert seen[0].step == 1 and seen[0].loss > 0 and seen[0].seconds_left > 0
    assert train_gates(folder, TEXTS, seen.append, Event())
    assert [lesson.step for lesson in seen] == [1, 2, 3, 4] and seen[-1].seconds_left == 0
    assert steps_trained(folder / "gates") == 4 and offer_of(folder).gates is Gates.BESIDE
    record = (folder / "gates" / "training.json").read_text()
    assert str(tmp_path) not in record and json.loads(record)["data"] == "texts"
    engine = Engine(str(folder))
    assert engine.has_gates
    engine.close()


def test_a_training_that_dies_keeps_its_last_checkpoint(model_folder, tmp_path, short):
    folder = shutil.copytree(model_folder, tmp_path / "model")

    def dying(lesson: Lesson) -> None:
        if lesson.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_gates(folder, TEXTS, dying, Event())
    assert steps_trained(folder / "gates") == 2


def test_a_training_goes_on_with_the_texts_that_it_began_with(model_folder, tmp_path, short):
    folder, stop = shutil.copytree(model_folder, tmp_path / "model"), Event()
    train_gates(folder, TEXTS, until(1, stop, []), stop)
    with pytest.raises(ModelRefused, match=r"begun on other texts \(texts\): train on with those") as refusal:
        train_gates(folder, Textbook("library", {"a": LONG}), print, Event())
    assert one_sentence(refusal) and steps_trained(folder / "gates") == 1


def test_all_texts_are_trained_on(model_folder, tmp_path, short):
    """None is held out, as nothing is validated."""
    folder, stop = shutil.copytree(model_folder, tmp_path / "model"), Event()
    many = Textbook("texts", {str(number): LONG for number in range(10)})
    train_gates(folder, many, until(1, stop, []), stop)
    assert json.loads((folder / "gates" / "training.json").read_text())["documents"] == 10


def test_texts_too_short_for_an_excerpt_are_a_sentence(model_folder, tmp_path, short):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    with pytest.raises(ModelRefused, match="long enough") as refusal:
        train_gates(folder, Textbook("texts", {"a": "Short."}), print, Event())
    assert one_sentence(refusal) and offer_of(folder).gates is Gates.NONE


def test_the_librarys_long_documents_are_the_texts_and_their_titles_are_not_told(library):
    library.add(document(LONG[:100]))
    with pytest.raises(ModelRefused, match="too little text") as refusal:
        library_textbook(library)
    assert one_sentence(refusal)
    half = LETTERS // 2
    pages = document("a" * half, "b" * half).pages
    long = library.add(Document("test.pdf", "1" * 64, pages))
    source, texts = library_textbook(library)
    [(name, text)] = texts.items()
    assert source == "library"
    assert name == f"document {long.id}" and text == "a" * half + "\n\n" + "b" * half


def test_a_folder_of_texts_is_read_or_refused(tmp_path):
    with pytest.raises(ModelRefused, match="no folder") as refusal:
        folder_textbook(str(tmp_path / "nothing"))
    assert one_sentence(refusal)
    (tmp_path / "texts").mkdir()
    with pytest.raises(CorpusError):
        folder_textbook(str(tmp_path / "texts"))
    (tmp_path / "texts" / "a.jsonl").write_text(json.dumps({"text": "A text."}))
    assert folder_textbook(str(tmp_path / "texts")) == ("texts", {"a.jsonl:1": "A text."})


def test_the_rough_estimate_grows_with_the_model_and_shrinks_with_the_speed(model_folder, monkeypatch):
    shape = local_model(model_folder).shape
    assert rough_seconds(shape) > 0
    monkeypatch.setattr(gates, "_operations_per_second", lambda: 1e12)
    fast = rough_seconds(shape)
    monkeypatch.setattr(gates, "_operations_per_second", lambda: 1e11)
    assert rough_seconds(shape) == pytest.approx(10 * fast)
    assert lessons.ITERATIONS % gates.SAVE_EVERY == 0


def test_the_button_trains_stops_goes_on_and_loads_the_model_with_its_gates(
    model_folder, room, session, short, tmp_path, monkeypatch
):
    folder, texts = shutil.copytree(model_folder, tmp_path / "model"), tmp_path / "texts"
    texts.mkdir()
    (texts / "sea.txt").write_text(LONG)

    def press(**wish) -> list[str]:
        """What the panel's line of progress says, until nothing goes on."""
        room.preparation.engine  # noqa: B018 - waits
        return [each[0] for each in picking.act(room, session, wish) if isinstance(each[0], str)]

    press(do="name", name=str(folder))
    untrained = room.preparation.engine
    assert not untrained.has_gates
    with monkeypatch.context() as patch:
        # Pressed in the first step, whose time is being told.
        patch.setattr(picker, "time_left", lambda seconds: room.picker.stop.set() or "soon")
        press(do="train", texts=str(texts))
    assert offer_of(folder).steps == 1 and room.picker.told.startswith("Stopped")
    assert any("Training gates" in progress for progress in press(do="train", texts=str(texts)))
    assert offer_of(folder).gates is Gates.BESIDE and room.picker.told == "The gates are trained."
    trained = room.preparation.engine
    assert (untrained.settings.gates, trained.settings.gates) == ("untrained", "gates")
    assert trained.has_gates and trained.identity["gates"] != untrained.identity["gates"]
    trained.close()
