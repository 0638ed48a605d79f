from __future__ import annotations

import io
import json
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mlx_edgeinf.cli import main
from mlx_edgeinf.cli import sitting as room
from mlx_edgeinf.cli.console import stoppable
from mlx_edgeinf.engine import Engine
from mlx_edgeinf.library import Library, reader
from mlx_edgeinf.pieces import Piece


@pytest.fixture
def book(tmp_path) -> Path:
    """A text of more tokens than the tiny model reads exactly."""
    path = tmp_path / "whale.txt"
    path.write_text("\n\n".join(f"Chapter {n}. The whale swam past ship number {n}." for n in range(8)))
    return path


@pytest.fixture
def run(tmp_path, model_folder, gates_folder):
    """Run a command with the tiny model and a library of its own."""

    def command(name: str, *options: object) -> int:
        usual = ["--library", tmp_path / "library"]
        if name in ("summarize", "chat"):
            usual += ["--model", model_folder, "--adapter", gates_folder, "--max-tokens", 8]
        return main([name, *map(str, usual), *map(str, options)])

    return command


@pytest.fixture
def library(tmp_path):
    """The library of the commands, opened anew."""
    return lambda: Library(tmp_path / "library")


def test_a_summary_goes_to_stdout_and_its_receipt_beside_it(run, book, capsys, library):
    assert run("summarize", book) == 0
    printed = capsys.readouterr()
    (entry,) = library().entries()
    (summary,) = library().summaries(entry.id)
    assert printed.out == f"{summary.text}\n" and summary.receipt.sentence() in printed.err
    assert entry.name == "whale.txt" and library().original(entry.id).read_bytes() == book.read_bytes()


def test_a_summary_names_the_pages_that_support_its_sentences(run, tmp_path, capsys, monkeypatch):
    path = tmp_path / "bees.txt"
    path.write_text("The whale swam past the ship.\fAnna kept forty jars of honey for the fair. It was May.")
    text, summarize = "Anna kept jars of honey. It was sold to a submarine.", room.Sitting.summarize
    monkeypatch.setattr(
        room.Sitting, "summarize", lambda *options: replace(summarize(*options), summary=text)
    )
    assert run("summarize", path) == 0
    assert capsys.readouterr().out == "Anna kept jars of honey. (p. 2) It was sold to a submarine.\n"
    assert run("summarize", path, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["summary"] == text and [each["pages"] for each in told["support"]] == [[2], []]
    assert " ".join(each["sentence"] for each in told["support"]) == text


def test_nobody_can_ask_about_a_document_without_text(run, tmp_path, capsys):
    (tmp_path / "empty.txt").write_text("\n\f\n")
    assert run("chat", tmp_path / "empty.txt", "--question", "Who?") == 1
    printed = capsys.readouterr()
    assert "empty.txt has no text on any page" in printed.err and not printed.out


def test_pages_that_no_answer_can_know_are_named(run, tmp_path, capsys):
    (tmp_path / "gaps.txt").write_text("The whale swam past the ship.\f\n\fIt was the month of May.")
    assert run("chat", tmp_path / "gaps.txt", "--question", "Who?") == 0
    assert "Pages without text: 2." in capsys.readouterr().err


@pytest.mark.parametrize("lasting", [True, False])
def test_what_ends_recall_while_something_is_asked_is_told(run, book, capsys, monkeypatch, lasting):
    """Once, if it is ended for good; of one answer alone, for each."""
    failing = lambda memory: "Answers come without exact recall from now on."  # noqa: E731
    asked = room.ask

    def ask(engine, memory, *options):
        monkeypatch.setattr(type(memory), "without_recall", property(failing))
        monkeypatch.setattr(type(memory), "has_recall", not lasting)
        return asked(engine, memory, *options)

    monkeypatch.setattr(room, "ask", ask)
    assert run("chat", book, "--question", "Who?", "--question", "When?") == 0
    assert capsys.readouterr().err.count("without exact recall") == (1 if lasting else 2)


def test_for_another_program_it_is_json(run, book, capsys):
    assert run("summarize", book, "--json", "--strategy", "rolling") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["receipt"]["strategy"] == "rolling" and not told["receipt"]["stopped"]
    assert told["receipt"]["tokens_read"] == told["receipt"]["tokens"] > 0


def test_nothing_is_read_twice(run, book, capsys, monkeypatch):
    assert run("summarize", book) == 0
    monkeypatch.setattr(Engine, "_read_segment", lambda *_: 1 / 0)
    assert run("summarize", book) == run("chat", book, "--question", "Who?") == 0


def test_questions_are_answered_in_the_light_of_those_before(run, book, capsys, monkeypatch, library):
    asked, answer = [], Engine.answer
    monkeypatch.setattr(
        Engine, "answer", lambda self, texts, *rest: asked.append(texts) or answer(self, texts, *rest)
    )
    assert run("chat", book, "--question", "Who swam?", "--question", "Where?", "--json") == 0
    turns = json.loads(capsys.readouterr().out)
    assert [turn["question"] for turn in turns] == ["Who swam?", "Where?"]
    assert asked == [["Who swam?"], ["Who swam?", turns[0]["answer"], "Where?"]]
    (chat,) = library().chats(1)
    assert [turn.answer for turn in chat.turns] == [turn["answer"] for turn in turns]


def test_pages_that_were_looked_up_are_told(run, book, capsys, monkeypatch, library):
    pieces = [Piece("A whale.", 9, 2, "stop", consulted=(0,))]
    monkeypatch.setattr(Engine, "answer", lambda *_: iter(pieces))
    assert run("chat", book, "--question", "Who?") == 0
    told = capsys.readouterr()
    assert told.out == "A whale.\n" and "Looked up by exact recall: 1." in told.err
    assert run("chat", book, "--question", "Who?", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["consulted"] == [1]
    assert [chat.turns[0].consulted for chat in library().chats(1)] == [(1,), (1,)]


def test_questions_are_typed_until_the_input_ends(run, book, capsys, monkeypatch, library):
    monkeypatch.setattr(sys, "stdin", io.StringIO("Who?\n\nWhere?\n"))
    assert run("chat", book) == 0
    (chat,) = library().chats(1)
    assert [turn.question for turn in chat.turns] == ["Who?", "Where?"]
    assert capsys.readouterr().out.splitlines()


def test_it_can_be_asked_as_of_a_page(run, tmp_path, capsys, monkeypatch, library):
    """The latest that was kept and knows nothing later; of a page before all of them it is refused."""
    monkeypatch.setattr(reader, "MARK_SHARE", 1e9)
    asked, answer = [], Engine.answer
    monkeypatch.setattr(
        Engine, "answer", lambda self, texts, memory, *rest: asked.append(memory.position)
        or answer(self, texts, memory, *rest)
    )  # fmt: skip
    book = tmp_path / "whale.txt"
    book.write_text("\f".join(f"Chapter {n}. The whale swam past the ship." for n in range(6)))
    assert run("chat", book, "--question", "Who?", "--by-page", 4) == 0
    (chat,) = library().chats(1)
    kept = {each.page: each.position for each in library().past.checkpoints(chat.reading)}
    page = max(each for each in kept if each <= 4)
    assert asked == [kept[page]] and chat.turns[0].page == page
    assert f"Asked as of page {page}." in capsys.readouterr().err
    assert run("chat", book, "--question", "Who?", "--by-page", 1) == 1
    refusal = f"as of page 1 was not kept: ask as of one of these pages ({min(kept)}, "
    assert refusal in capsys.readouterr().err
    assert run("chat", book, "--question", "Who?", "--by-page", 6) == 0
    assert library().chats(1)[-1].turns[0].page is None


def test_text_comes_through_a_pipe_and_files_make_a_collection(run, book, tmp_path, monkeypatch, library):
    other = tmp_path / "ship.md"
    other.write_text("# A ship\n\nIt sailed.")
    piped = io.BytesIO("Call me Ishmaël. ".encode("cp1252") * 20)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(piped))
    assert run("summarize", "-") == run("summarize", book, other) == 0
    names = [entry.name for entry in library().entries()]
    assert names[0] == "whale.txt and 1 more" and names[1].startswith("Call me Ishmaël.")


def test_a_stopped_reading_goes_on_where_it_was(run, book, capsys, monkeypatch):
    read, segments = Engine._read_segment, []

    def stopping(self, memory):
        segments.append(memory.position)
        if len(segments) == 3:
            room.stoppable.cancel.set()
        read(self, memory)

    class Stoppable:
        """In place of Ctrl-C."""

        def __enter__(self):
            from threading import Event

            room.stoppable.cancel = Event()
            return room.stoppable.cancel

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(room, "stoppable", Stoppable)
    monkeypatch.setattr(Engine, "_read_segment", stopping)
    assert run("summarize", book) == 130
    assert "goes on from there" in capsys.readouterr().err
    assert run("summarize", book) == 0
    assert segments == sorted(set(segments)) and len(segments) > 3


def test_ctrl_c_asks_to_stop_and_a_second_one_does_not_ask(capsys):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), stoppable() as cancel:
            signal.raise_signal(signal.SIGINT)
            assert cancel.is_set()
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert "Ctrl-C again" in capsys.readouterr().err


def test_the_library_is_listed_searched_tended_and_carried_away(run, book, tmp_path, capsys, library):
    run("summarize", book)
    run("chat", book, "--question", "Who?")
    capsys.readouterr()

    def printed(*options: object) -> str:
        assert run("library", *options) == 0
        return capsys.readouterr().out

    assert "whale.txt: 1 page, 100 % read, 1 summary" in printed()
    assert "whale.txt, page 1: " in printed("search", "ship", "swam")
    assert "> Who?" in printed("show", 1)
    assert json.loads(printed("rename", 1, "The whale", "--json"))["name"] == "The whale"
    assert printed("export", 1, tmp_path / "whale.parcel") == ""
    assert json.loads(printed("delete", 1, "--json"))["id"] == 1
    assert printed() == "" and not library().entries()
    assert "The whale" in printed("import", tmp_path / "whale.parcel")
    (entry,) = json.loads(printed("--json"))
    assert entry["name"] == "The whale" and entry["read"] == 1 and entry["summaries"] == 1
    assert json.loads(printed("search", "whale", "--json"))[0]["document"] == entry["id"]


def test_an_export_never_takes_the_place_of_another_file(run, book, capsys):
    run("summarize", book)
    assert run("library", "export", 1, book) == 1
    assert "exists already" in capsys.readouterr().err and book.read_text().startswith("Chapter")


@pytest.mark.parametrize(
    "options, reason",
    [
        (["summarize", "nothing.pdf"], "nothing.pdf does not exist"),
        (["chat", "nothing.pdf"], "nothing.pdf does not exist"),
        (["library", "delete", "7"], "no longer in the library"),
        (["library", "show", "7"], "no longer in the library"),
        (["library", "rename", "7", "It"], "no longer in the library"),
    ],
    ids=["summarize", "chat", "delete", "show", "rename"],
)
def test_what_cannot_be_done_is_one_sentence(run, capsys, options, reason):
    assert run(*options) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and reason in printed.err and printed.err.count("\n") == 1
    assert printed.err.startswith(f"mlx-edgeinf {options[0]}: ")


def test_a_model_that_cannot_be_used_is_named(run, book, tmp_path, capsys):
    assert run("summarize", book, "--adapter", tmp_path) == 1
    assert "mlx-edgeinf summarize: No adapter found" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [["summarize"], ["chat", "-"], ["summarize", "it.txt", "--max-tokens", "0"]],
    ids=["no file", "two things from stdin", "no tokens"],
)
def test_wrong_options_are_told_apart_from_failures(run, options):
    with pytest.raises(SystemExit) as ended:
        run(*options)
    assert ended.value.code == 2


def test_a_stopped_answer_ends_the_questions_and_those_answered_are_printed(run, book, capsys, monkeypatch):
    answer = Engine.answer

    def stopping(self, texts, memory, max_tokens, cancel):
        for piece in answer(self, texts, memory, max_tokens, cancel):
            yield piece
            if texts[-1] == "Where?":
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Engine, "answer", stopping)
    questions = ["--question", "Who?", "--question", "Where?", "--question", "Why?"]
    assert run("chat", book, "--json", *questions) == 130
    turns = json.loads(capsys.readouterr().out)
    assert [turn["question"] for turn in turns] == ["Who?", "Where?"]


def test_a_model_that_cannot_be_used_leaves_no_document_behind(run, book, tmp_path, library):
    assert run("summarize", book, "--adapter", tmp_path) == 1
    assert not library().entries()
