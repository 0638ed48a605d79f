from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import openai
import pytest
from fakes import small_pdf
from serving import WHALE, about, client_of, served

from mlx_edgeinf.document_memory import DocumentMemory
from mlx_edgeinf.documents import Page, read_document
from mlx_edgeinf.engine import Engine
from mlx_edgeinf.library import Library

ASK = [{"role": "user", "content": "Who swam?"}]


@pytest.fixture
def address(engine, tmp_path):
    with served(engine, tmp_path / "library") as address:
        yield address


@pytest.fixture
def client(address):
    with client_of(address) as client:
        yield client


@pytest.fixture
def whale(client):
    return client.files.create(file=("whale.txt", WHALE), purpose="user_data")


@pytest.fixture
def segments(monkeypatch):
    """Where in its document each segment that was read began."""
    places, read = [], Engine._read_segment
    monkeypatch.setattr(
        Engine, "_read_segment", lambda self, memory: places.append(memory.position) or read(self, memory)
    )
    return places


def text(completion) -> str:
    return completion.choices[0].message.content


# -- models and answers --------------------------------------------------------------


def test_the_one_model_is_listed(client, engine):
    (model,) = client.models.list()
    assert model.id == engine.name == client.models.retrieve(model.id).id


def test_an_answer_is_the_engines_own(ask, engine):
    completion = ask(ASK)
    pieces = list(engine.answer(["Who swam?"], max_tokens=8))
    assert text(completion) == "".join(piece.text for piece in pieces) != ""
    usage, ended = completion.usage, pieces[-1]
    assert (usage.prompt_tokens, usage.completion_tokens) == (ended.prompt_tokens, ended.tokens)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert completion.choices[0].finish_reason == ended.finish_reason == "length"


def test_a_streamed_answer_is_the_plain_one_in_pieces(ask):
    plain = ask(ASK)
    chunks = list(ask(ASK, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant" and len(chunks) > 4
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks[:-1]]
    assert "".join(pieces) == text(plain)
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].choices == [] and chunks[-1].usage == plain.usage


def test_usage_is_streamed_only_where_it_is_asked_for(ask):
    assert all(chunk.usage is None for chunk in ask(ASK, stream=True))


def test_an_answer_ends_before_a_stop(ask):
    whole = text(ask(ASK))
    stop = whole[3:5]
    before = whole[: whole.index(stop)]
    ended = ask(ASK, stop=[stop, "never said"])
    assert text(ended) == before and ended.choices[0].finish_reason == "stop"
    streamed = ask(ASK, stop=stop, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == before


def test_the_newer_name_of_the_length_is_understood(ask):
    assert ask(ASK, max_completion_tokens=3, max_tokens=None).usage.completion_tokens == 3


def test_what_was_said_before_and_what_the_system_says_is_read(ask, engine):
    messages = [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who swam?"},
        {"role": "assistant", "content": "A whale."}, {"role": "user", "content": "Where?"},
    ]  # fmt: skip
    pieces = engine.answer(["Be brief.\n\nWho swam?", "A whale.", "Where?"], max_tokens=8)
    assert text(ask(messages)) == "".join(piece.text for piece in pieces)


def test_a_text_longer_than_the_short_path_is_read_through_the_memory(ask, engine):
    long = [{"role": "user", "content": WHALE.decode() * 3}]
    assert ask(long).usage.prompt_tokens > 3 * len(WHALE) > 128
    assert text(ask(long)) == text(ask(long)) != ""


# -- documents -----------------------------------------------------------------------


def test_files_are_kept_in_the_library_and_deleted_from_it(client, whale, tmp_path):
    assert whale.filename == "whale.txt" and whale.bytes == len(WHALE)
    assert [file.id for file in client.files.list()] == [whale.id]
    assert client.files.retrieve(whale.id) == whale
    assert client.files.content(whale.id).read() == WHALE
    (entry,) = Library(tmp_path / "library").entries()
    assert entry.name == "whale.txt" and whale.id == f"file-{entry.sha256}"
    assert client.files.delete(whale.id).deleted
    assert not list(client.files.list()) and not Library(tmp_path / "library").entries()
    with pytest.raises(openai.NotFoundError, match="There is no file"):
        client.files.retrieve(whale.id)


def test_files_are_listed_a_page_at_a_time(client):
    made = [client.files.create(file=(f"{n}.txt", WHALE + b"%d" % n), purpose="assistants") for n in range(3)]
    ids = [file.id for file in made]
    assert [file.id for file in client.files.list(limit=1, order="asc")] == ids
    first = client.files.list(limit=2)
    assert first.has_more and [file.id for file in first.data] == ids[:0:-1]
    client.files.delete(ids[1])
    with pytest.raises(openai.BadRequestError, match="list from the beginning"):
        client.files.list(after=ids[1])


def test_a_second_question_about_a_document_reads_nothing(ask, whale, segments):
    first = ask(about(whale.id))
    assert segments == sorted(set(segments)) and len(segments) > 20
    assert first.usage.prompt_tokens_details.cached_tokens == 0
    read = len(segments)
    second = ask(about(whale.id, "Which ship?"))
    assert len(segments) == read
    cached = second.usage.prompt_tokens_details.cached_tokens
    assert len(WHALE) - 8 < cached < second.usage.prompt_tokens
    assert text(ask(about(whale.id))) == text(first)


def test_a_restarted_server_reads_nothing_again(ask, whale, segments, engine, tmp_path):
    first, read = ask(about(whale.id)), len(segments)
    with served(engine, tmp_path / "library") as address, client_of(address) as client:
        again = client.chat.completions.create(model=engine.name, messages=about(whale.id), max_tokens=8)
    assert text(again) == text(first) and len(segments) == read


def test_a_document_in_the_request_itself_is_the_uploaded_one(ask, whale, segments):
    first, read = ask(about(whale.id)), len(segments)
    for prefix in ("", "data:text/plain;base64,"):
        data = prefix + base64.b64encode(WHALE).decode()
        messages = about("")
        messages[0]["content"][0]["file"] = {"file_data": data, "filename": "whale.txt"}
        assert text(ask(messages)) == text(first) and len(segments) == read


def test_what_ends_recall_is_told_where_the_server_runs(ask, whale, monkeypatch, capsys):
    told = property(lambda memory: "Answers come without exact recall from now on.")
    monkeypatch.setattr(DocumentMemory, "without_recall", told)
    for question in ("Who swam?", "Where?"):
        assert text(ask(about(whale.id, question)))
    assert capsys.readouterr().err.count("whale.txt: Answers come without exact recall") == 1


def test_an_answer_names_the_pages_that_recall_went_back_to(ask, client, engine, monkeypatch):
    monkeypatch.setattr(engine, "recall_bytes", 10**9)
    pages = [WHALE[start : start + len(WHALE) // 4] for start in range(0, len(WHALE), len(WHALE) // 4)]
    file = client.files.create(file=("whale.txt", b"\f".join(pages)), purpose="user_data")
    named = ask(about(file.id)).model_extra["pages_consulted"]
    assert 0 < len(named) <= 5 and set(named) <= set(range(1, len(pages) + 1))
    *_, last = ask(about(file.id), stream=True)
    assert last.choices[0].finish_reason and last.model_extra["pages_consulted"] == named


def test_pages_are_named_by_what_the_user_asks_and_not_by_instructions(ask, engine, whale, monkeypatch):
    asked, named = [], engine._lexicon.named
    monkeypatch.setattr(
        engine._lexicon, "named", lambda *told: asked.append(list(told[1])) or named(*told)
    )
    ask([{"role": "system", "content": "Speak as a sailor would."}, *about(whale.id)])
    assert asked == [["Who swam?"]]


def test_where_nothing_is_recalled_no_pages_are_named(ask, whale):
    for messages in (ASK, about(whale.id)):
        assert "pages_consulted" not in ask(messages).model_extra


def test_several_documents_are_one_collection(ask, client, whale, segments):
    other = client.files.create(file=("ship.md", b"# A ship\n\nIt sailed the sea."), purpose="user_data")
    messages = about(whale.id)
    messages[0]["content"].insert(0, {"type": "file", "file": {"file_id": other.id}})
    both, read = ask(messages), len(segments)
    assert both.usage.prompt_tokens > ask(about(whale.id)).usage.prompt_tokens
    assert "ship.md and 1 more" in [file.filename for file in client.files.list()]
    segments.clear()
    assert text(ask(messages)) == text(both) and read and not segments


def test_of_several_documents_the_text_is_asked_as_it_is_now(ask, client, whale, tmp_path):
    """Some may have been recognised since."""
    other = client.files.create(file=("ship.md", b"# A ship\n\nIt sailed."), purpose="user_data").id
    messages = about(whale.id)
    messages[0]["content"].insert(0, {"type": "file", "file": {"file_id": other}})
    before = ask(messages).usage.prompt_tokens
    with closing(Library(tmp_path / "library")) as library:
        ship = library.find(other.removeprefix("file-"))
        pages = (Page(1, "A ship sailed the sea for years and years."),)
        library.revise(ship.id, replace(library.document(ship.id), pages=pages))
    assert ask(messages).usage.prompt_tokens > before


def test_text_that_was_recognised_in_a_collection_stays(ask, client, whale, tmp_path):
    text = b"A ship sailed the sea for years.\f\fThen it came home to Bergen."
    scan = client.files.create(file=("scan.txt", text), purpose="user_data").id
    messages = about(whale.id)
    messages[0]["content"].insert(0, {"type": "file", "file": {"file_id": scan}})
    ask(messages)
    with closing(Library(tmp_path / "library")) as library:
        [together] = [entry for entry in library.entries() if "and 1 more" in entry.name]
        document = library.document(together.id)
        read = "It nearly sank off Bergen."
        pages = tuple(page if page.text else replace(page, text=read) for page in document.pages)
        library.revise(together.id, replace(document, pages=pages))
        ask(messages)
        assert not library.document(together.id).pages_without_text


def test_a_scan_that_the_page_keeps_is_not_asked_about(ask, client, tmp_path):
    """Before its text is recognised an answer would be made of nothing."""
    path = small_pdf(tmp_path / "scan.pdf", ["", ""])
    with closing(Library(tmp_path / "library")) as library:
        entry = library.add(read_document(path), path)
    with pytest.raises(openai.BadRequestError, match=r"scan.pdf has no text on any page"):
        ask(about(f"file-{entry.sha256}"))
    with pytest.raises(openai.BadRequestError, match=r"scan.pdf has no text on any page"):
        client.files.create(file=("scan.pdf", path.read_bytes()), purpose="user_data")


def test_only_so_many_memories_stay_open(ask, client, engine, monkeypatch):
    restored, restore = [], Engine.restore
    monkeypatch.setattr(
        Engine, "restore", lambda self, *rest: restored.append(rest) or restore(self, *rest)
    )
    files = [client.files.create(file=(f"{n}.txt", WHALE + b"%d" % n), purpose="user_data") for n in range(5)]
    for file in files:
        ask(about(file.id))
    ask(about(files[4].id))
    assert not restored
    ask(about(files[0].id))
    assert len(restored) == 1


def test_what_cannot_be_read_is_one_sentence(client, tmp_path):
    scan = small_pdf(tmp_path / "scan.pdf", ["", ""]).read_bytes()
    for name, data, reason in (
        ("scan.pdf", scan, "scan.pdf has no text on any page"),
        ("broken.pdf", b"%PDF-1.4 rubbish", "broken.pdf"),
        ("../../etc/x.bin", b"\0\1\2", "x.bin is of a kind that cannot be read"),
        ("empty.txt", b"", "empty.txt is empty"),
    ):
        with pytest.raises(openai.BadRequestError, match=reason) as refused:
            client.files.create(file=(name, data), purpose="user_data")
        assert refused.value.body["type"] == "invalid_request_error"
    assert not list(client.files.list())


# -- several at once -----------------------------------------------------------------


def test_four_clients_at_once_get_the_answers_they_get_alone(ask, client, whale, segments):
    other = client.files.create(file=("other.txt", WHALE[::-1]), purpose="user_data")
    asked = [about(whale.id), about(other.id), about(whale.id, "Which ship?"), ASK]
    with ThreadPoolExecutor(4) as clients:
        together = list(clients.map(lambda messages: text(ask(messages)), asked))
    assert len(set(together)) == 4
    read = list(segments)
    assert [text(ask(messages)) for messages in asked] == together and segments == read
    assert sorted(read) == sorted(2 * sorted(set(read)))
