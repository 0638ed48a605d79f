"""One file for another machine: all of it arrives, and nothing of what was made to do harm."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from unittest.mock import Mock

import pytest
from shelf import BOOK, files, read, receipt
from test_engine import same, state

from mlx_edgeinf import atomic
from mlx_edgeinf.atomic import SaveError
from mlx_edgeinf.chat import Turn
from mlx_edgeinf.documents import Page, read_document
from mlx_edgeinf.events import Finished
from mlx_edgeinf.library import Library, LibraryError, archive


@pytest.fixture
def elsewhere(tmp_path):
    """Another machine's library."""
    library = Library(tmp_path / "elsewhere")
    yield library
    library.close()


@pytest.fixture(scope="module")
def exported(engine, tmp_path_factory) -> Path:
    """A document with a whole reading, one of its summaries, two summaries, a chat and its original."""
    folder = tmp_path_factory.mktemp("exported")
    path = folder / "Moby Dick.md"
    path.write_text(BOOK.text)
    library = Library(folder / "library")
    document = replace(BOOK, name="Moby Dick.md", sha256=read_document(path).sha256)
    id = library.add(document, path).id
    library.finish(engine, id, Finished("A whale is hunted.", receipt(), read(engine, document)))
    part = replace(document, pages=(Page(1, "In short, a whale."),))
    library.finish(engine, id, Finished("A whale.", receipt(strategy="map-reduce"), read(engine, part)))
    chat = library.begin_chat(library.readings(id)[1].id)
    library.add_turn(chat, Turn("Who?", "Ishmael.", consulted=(1,)))
    library.export(id, folder / "book.zip", with_original=True)
    library.export(id, folder / "bare.zip")
    library.close()
    return folder / "book.zip"


def test_everything_arrives_on_another_machine(engine, exported, elsewhere):
    entry = elsewhere.take_over(exported)
    assert elsewhere.entries() == [entry] and entry.name == "Moby Dick.md"
    assert elsewhere.document(entry.id).pages == BOOK.pages
    assert elsewhere.original(entry.id).read_text() == BOOK.text
    whole, part = elsewhere.readings(entry.id)
    assert same(state(elsewhere.open(engine, whole.id)), state(read(engine)))
    assert elsewhere.open(engine, part.id).document.text == "In short, a whale."
    assert elsewhere.reading_of(engine, entry.id) == whole and whole.complete and not part.whole
    assert [(s.text, s.reading) for s in elsewhere.summaries(entry.id)] == [
        ("A whale is hunted.", whole.id), ("A whale.", part.id),
    ]  # fmt: skip
    assert elsewhere.summaries(entry.id)[0].receipt == receipt()
    [chat] = elsewhere.chats(entry.id)
    assert (chat.reading, chat.turns) == (part.id, (Turn("Who?", "Ishmael.", consulted=(1,)),))
    assert files(elsewhere) == {whole.memory, part.memory, entry.original}
    assert len(elsewhere.search("whale")) == 2


def test_the_original_goes_along_only_if_asked(exported, elsewhere):
    entry = elsewhere.take_over(exported.with_name("bare.zip"))
    assert entry.original is None and elsewhere.original(entry.id) is None and len(files(elsewhere)) == 2
    assert not any("original" in name for name in zipfile.ZipFile(exported.with_name("bare.zip")).namelist())


def test_a_document_that_nobody_has_read_can_be_exported(library, elsewhere, tmp_path):
    library.export(library.add(BOOK).id, tmp_path / "book.zip")
    assert elsewhere.document(elsewhere.take_over(tmp_path / "book.zip").id) == BOOK


def test_a_document_that_is_there_already_is_not_imported_again(exported, elsewhere):
    elsewhere.take_over(exported)
    before = files(elsewhere)
    with pytest.raises(LibraryError, match="^Moby Dick.md is in the library already: delete it"):
        elsewhere.take_over(exported)
    assert len(elsewhere.entries()) == 1 and files(elsewhere) == before


def test_a_reading_of_another_model_arrives_and_is_refused_with_its_reason(engine, exported, elsewhere):
    id = elsewhere.take_over(changed(exported, with_gates)).id
    with pytest.raises(LibraryError, match="^Moby Dick.md was read by model, with another gates than"):
        elsewhere.open(engine, elsewhere.readings(id)[0].id)
    assert elsewhere.reading_of(engine, id) is None and len(elsewhere.summaries(id)) == 2


def with_gates(members: dict[str, bytes]) -> None:
    """Other gates in manifest and memories alike."""
    own = json.loads(members["manifest.json"])["readings"][0]["identity"]["gates"].encode()
    for name in members:
        members[name] = members[name].replace(own, b"f" * len(own))


# -- files made to do harm -------------------------------------------------------------


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as source:
        return {name: source.read(name) for name in source.namelist()}


def packed(path: Path, members: dict[str, bytes], files: int = zipfile.ZIP_STORED) -> Path:
    """A zip with the text compressed, and the files as told."""
    with zipfile.ZipFile(path, "w") as target:
        for name, content in members.items():
            target.writestr(name, content, zipfile.ZIP_DEFLATED if name.endswith(".json") else files)
    return path


def changed(exported: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The same file with other members."""
    members = members_of(exported)
    change(members)
    return packed(exported.with_name("changed.zip"), members)


def in_json(name: str, change: Callable) -> Callable[[dict[str, bytes]], None]:
    """A change of what a member of JSON says."""

    def apply(members: dict[str, bytes]) -> None:
        content = json.loads(members[name])
        change(content)
        members[name] = json.dumps(content).encode()

    return apply


def refused(library: Library, path: Path, match: str) -> None:
    """One sentence, and nothing of it is in the library."""
    with pytest.raises(LibraryError, match=match) as caught:
        library.take_over(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200
    assert not library.entries() and not files(library) and not library.search("whale")


DAMAGED = "^changed.zip was not exported from a library, or it is damaged: export it again. Nothing of it"
MANIFEST = "manifest.json"
HOSTILE = {
    "no manifest": lambda members: members.pop(MANIFEST),
    "no pages": lambda members: members.pop("pages.json"),
    "no memory": lambda members: members.pop("memories/0.safetensors"),
    "a manifest that is no JSON": lambda members: members.update({MANIFEST: b"\xff{"}),
    "deep JSON": lambda members: members.update({"pages.json": b"[" * 100_000}),
    "another manifest": lambda members: members.update({MANIFEST: b'{"format": 1, "hello": "world"}'}),
    "a path for a digest": in_json(MANIFEST, lambda manifest: manifest.update(sha256="../" * 21 + "x")),
    "a path for an ending": in_json(MANIFEST, lambda manifest: manifest.update(original="/../../evil")),
    "another original": lambda members: members.update({"original.md": b"else"}),
    "another identity": in_json(MANIFEST, lambda m: m["readings"][0]["identity"].update(gates="0" * 16)),
    "more read than there is": in_json(MANIFEST, lambda m: m["readings"][0].update(position=10**6)),
    "a huge number": in_json(MANIFEST, lambda m: m["readings"][0].update(pages_read=10**30)),
    "pages twice": in_json("pages.json", lambda pages: pages.append(pages[0])),
    "no page at all": in_json("pages.json", lambda pages: pages.clear()),
    "half a character": lambda members: members.update(
        {"pages.json": b'[{"number": 1, "text": "\\ud83d"}]'}
    ),
    "a chat about nothing": in_json("chats.json", lambda chats: chats[0].update(reading=7)),
    "pages looked up that are not there": in_json(
        "chats.json", lambda chats: chats[0]["turns"][0].update(consulted=[0])
    ),
    "a question about a page that is not there": in_json(
        "chats.json", lambda chats: chats[0]["turns"][0].update(page=10**30)
    ),
    **{
        f"a receipt with {field} of {value}": in_json(
            "summaries.json", lambda summaries, new={field: value}: summaries[0]["receipt"].update(new)
        )
        for field, value in [
            ("strategy", "newest"), ("seconds", float("inf")), ("seconds", float("nan")), ("pages", 10**12),
            ("pages_read", 10**12), ("state_bytes", 10**400), ("pages_without_text", [0]), ("tokens", -1),
        ]
    },
    "a summary of nothing": in_json("summaries.json", lambda summaries: summaries[0].update(reading=2)),
    "a summary of a reading that is not there": lambda members: (
        in_json(MANIFEST, lambda manifest: manifest.update(readings=[]))(members),
        in_json("chats.json", list.clear)(members),
        [members.pop(name) for name in list(members) if name.startswith("memories/")],
        in_json("summaries.json", lambda summaries: summaries[0].update(reading=0))(members),
    ),
    "a receipt without fields": in_json("summaries.json", lambda summaries: summaries[0].update(receipt={})),
    "a memory that is none": lambda members: members.update({"memories/0.safetensors": b"rubbish"}),
    "memories swapped for others": lambda members: members.update(
        {"memories/1.safetensors": b"\x02" + bytes(7) + b"{}"}
    ),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_contradicts_itself_is_refused(exported, elsewhere, change):
    refused(elsewhere, changed(exported, change), DAMAGED)


@pytest.mark.parametrize("name", [
    "../../evil.txt", "/etc/passwd", "files/x", "C:\\evil", "memories/../../x", "é",
])  # fmt: skip
def test_no_path_in_the_file_is_followed(exported, elsewhere, tmp_path, name):
    path = changed(exported, lambda members: members.update({name: b"evil"}))
    before = sorted(tmp_path.rglob("*"))
    refused(elsewhere, path, "^changed.zip holds .* which no library exports: nothing was imported")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_of_a_newer_version_says_what_to_do(exported, elsewhere):
    path = changed(exported, in_json(MANIFEST, lambda manifest: manifest.update(format=2)))
    refused(elsewhere, path, "^changed.zip was exported by a newer version of this program: update it")


def test_text_that_unpacks_to_too_much_is_not_unpacked(exported, elsewhere, monkeypatch):
    monkeypatch.setattr(archive, "MOST_TEXT", 1_000_000)
    members = members_of(exported) | {"pages.json": b" " * 1_000_001}
    path = packed(exported.with_name("changed.zip"), members)
    refused(elsewhere, path, "^changed.zip would unpack to more than 1 MB of text, which no document has")


def test_text_that_lies_about_its_length_is_read_no_further(exported, elsewhere, monkeypatch):
    """The directory says 100 bytes; deflated, there are a million."""
    members = members_of(exported) | {"pages.json": b" " * 1_000_000}
    path = packed(exported.with_name("changed.zip"), members)
    content = path.read_bytes().replace((1_000_000).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    path.write_bytes(content)
    refused(elsewhere, path, DAMAGED)


def test_files_that_are_compressed_are_refused(exported, elsewhere):
    """A memory or an original could unpack to any size; ours are stored as they are."""
    path = packed(exported.with_name("changed.zip"), members_of(exported), zipfile.ZIP_DEFLATED)
    refused(elsewhere, path, DAMAGED)


def test_a_member_that_is_there_twice_is_refused(exported, elsewhere):
    path = changed(exported, lambda members: None)
    with zipfile.ZipFile(path, "a") as target, pytest.warns(UserWarning, match="Duplicate name"):
        target.writestr("pages.json", "[]")
    refused(elsewhere, path, DAMAGED)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_file_that_was_cut_short_is_refused(exported, elsewhere, share):
    content = exported.read_bytes()
    path = exported.with_name("changed.zip")
    path.write_bytes(content[: int(share * len(content))])
    refused(elsewhere, path, DAMAGED)


def test_a_member_where_no_file_has_a_place_is_damage(exported, elsewhere, monkeypatch):
    path = changed(exported, lambda members: None)
    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "open", Mock(side_effect=OSError(22, "Invalid argument")))
        refused(elsewhere, path, DAMAGED)


def test_any_damage_is_refused_or_harmless(engine, exported, elsewhere):
    """Bytes changed at random: either one sentence, or what arrives is what was exported."""
    whole, random, taken = exported.read_bytes(), Random(0), 0
    path = exported.with_name("changed.zip")
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(random.choice((1, 3))):
            content[random.randrange(len(content))] = random.randrange(256)
        path.write_bytes(content)
        try:
            id = elsewhere.take_over(path).id
        except LibraryError:
            assert not elsewhere.entries() and not files(elsewhere)
            continue
        taken += 1
        assert elsewhere.document(id).pages == BOOK.pages and len(elsewhere.summaries(id)) == 2
        assert same(state(elsewhere.open(engine, elsewhere.readings(id)[0].id)), state(read(engine)))
        elsewhere.delete(id)
    assert taken < 50


@pytest.mark.parametrize("make", [
    lambda path: None, lambda path: path.mkdir(),
], ids=["missing", "a folder"])  # fmt: skip
def test_a_path_that_is_no_file_is_named(elsewhere, tmp_path, make):
    make(tmp_path / "changed.zip")
    refused(elsewhere, tmp_path / "changed.zip", "^changed.zip cannot be opened \\(.*\\): choose it again")


def test_a_disk_that_fills_up_meanwhile_leaves_nothing_behind(exported, elsewhere, monkeypatch):
    syncs = []

    def full_at_the_third(descriptor: int) -> None:
        syncs.append(descriptor)
        if len(syncs) > 2:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "fsync", full_at_the_third)
        with pytest.raises(SaveError, match="No space left on device"):
            elsewhere.take_over(exported)
    assert not elsewhere.entries() and not files(elsewhere)
    assert elsewhere.take_over(exported)


def full(descriptor: int) -> None:
    raise OSError(28, "No space left on device")


def test_an_export_that_fails_leaves_the_earlier_one(library, tmp_path, monkeypatch):
    id, path = library.add(BOOK).id, tmp_path / "book.zip"
    library.export(id, path)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "fsync", full)
        with pytest.raises(SaveError, match="book.zip could not be written"):
            library.export(id, path)
    assert path.read_bytes() == before and {p.name for p in tmp_path.iterdir()} == {"library", "book.zip"}
