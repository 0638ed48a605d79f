"""A text that grows: its bytes as pages, and where they come from."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlx_edgeinf.documents import Arrival, DocumentError, LiveText, Page, Pipe, Tail, known_bytes, opened
from mlx_edgeinf.documents.plain import PAGE, text_pages

LINES = [f"Line {n} of a talk about whales, é and 漢字, {'so it went on ' * (n % 7)}." for n in range(200)]
TEXT = "\n".join(LINES)


def fed(pieces: list[bytes]) -> list[Page]:
    live = LiveText("talk.txt")
    return [page for piece in pieces for page in live.add(piece)] + live.end()


def cut_at_random(data: bytes, seed: int) -> list[bytes]:
    """The bytes in pieces of which many end inside a line, and some inside a character."""
    places = sorted(random.Random(seed).sample(range(1, len(data)), 60))
    return [data[start:stop] for start, stop in zip([0, *places], [*places, len(data)])]


# -- pages ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_the_pages_do_not_depend_on_how_the_text_came(seed):
    pages = fed(cut_at_random(TEXT.encode(), seed))
    assert pages == fed([TEXT.encode()]) and len(pages) > 3
    assert [page.text for page in pages] == text_pages(TEXT, markdown=False)
    assert [page.number for page in pages] == list(range(1, len(pages) + 1))


def test_a_line_without_end_is_cut_into_pages_on_the_way():
    words = " ".join(f"word{n}" for n in range(2000))
    pages = fed(cut_at_random(words.encode(), 1))
    assert pages == fed([words.encode()]) and all(len(page.text) <= PAGE for page in pages)
    assert " ".join(page.text for page in pages) == words
    live = LiveText("talk.txt")
    assert any(live.add(piece) for piece in cut_at_random(words.encode(), 1))


def test_the_page_under_way_can_be_looked_at_without_its_unfinished_line():
    live = LiveText("talk.txt")
    assert live.add(b"One.\nTwo.\nThr") == [] and live.rest == [Page(1, "One.\nTwo.")]
    assert live.rest == live.rest and live.end() == [Page(1, "One.\nTwo.\nThr")] and live.end() == []


def test_what_comes_behind_known_pages_begins_a_page_of_its_own():
    live = LiveText("talk.txt", [Page(1, "One."), Page(2, "Two.")])
    live.add(b"Three.")
    assert live.end() == [Page(3, "Three.")]


def test_a_text_that_ends_in_mid_line_is_not_joined_with_the_next():
    live = LiveText("talk.txt")
    live.add("Caf\u00e9 at the en".encode()[:-1])
    live.break_line()
    live.add("\ufeffAnother text.\n".encode())
    assert live.end() == [Page(1, "Caf\u00e9 at the e\nAnother text.")]


def test_other_encodings_are_read_from_where_they_show():
    pieces = "Ein Café.\nNoch eins.".encode("cp1252")
    assert fed([pieces[:7], pieces[7:]]) == [Page(1, "Ein Café.\nNoch eins.")]


def test_a_text_after_one_in_another_encoding_is_unicode_again():
    live = LiveText("talk.txt")
    live.add("Ein Café.\n".encode("cp1252"))
    live.break_line()
    live.add("naïve café\n".encode())
    assert live.end() == [Page(1, "Ein Café.\nnaïve café")]


def test_a_coloured_line_of_a_log_is_text_however_it_comes():
    line, rest = b"\x1b[31mError\x1b[0m: disk\n", b"All is well again, and went on for a while.\n" * 40
    pages = fed([line, rest])
    assert pages == fed([line + rest]) and known_bytes(line + rest, pages) == len(line + rest)


def test_what_is_no_text_is_refused():
    with pytest.raises(DocumentError, match="^talk.txt is not text in UTF-8, so it cannot be followed"):
        fed([bytes(range(32)) * 20])


# -- a file that was read before -----------------------------------------------------


@pytest.mark.parametrize("end", [1000, 5003, 5010, len(TEXT.encode())])
def test_a_file_that_grew_is_known_by_its_beginning(end):
    data = TEXT.encode()
    before = fed([data[:end].decode(errors="ignore").encode()])
    at = known_bytes(data, before)
    rest = LiveText("talk.txt", before)
    pages = [*before, *rest.add(data[at:]), *rest.end()]
    squeezed = lambda text: "".join(text.split())  # noqa: E731
    assert squeezed("".join(page.text for page in pages)) == squeezed(TEXT)


def test_the_place_in_an_endless_line_is_found_at_once():
    words = " ".join(f"wörd{n}" for n in range(60_000)).encode()
    end = len(words) // 2
    start = time.monotonic()
    assert known_bytes(words, fed([words[:end]])) == end
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("data", [TEXT.encode()[:3000], b"Another text.\n" + TEXT.encode(), b""])
def test_a_file_that_begins_otherwise_is_not_known(data):
    assert known_bytes(data, fed([TEXT.encode()])) is None


# -- the end of a file ---------------------------------------------------------------


@pytest.fixture
def talk(tmp_path) -> Path:
    path = tmp_path / "talk.txt"
    path.write_bytes(b"One.\n")
    return path


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_what_is_added_to_a_file_comes(talk):
    tail = Tail(talk)
    assert tail.next(0) == Arrival(b"One.\n") and tail.next(0) == Arrival()
    append(talk, b"Two.\n")
    assert tail.next(0) == Arrival(b"Two.\n")
    tail.close()
    assert Tail(talk, start=5).next(0) == Arrival(b"Two.\n")


def test_a_file_that_is_cut_short_is_read_again_and_that_is_said(talk):
    tail = Tail(talk)
    tail.next(0)
    talk.write_bytes(b"New\n")
    arrival = tail.next(0)
    assert arrival.breaks and arrival.notice.startswith("talk.txt was cut short: it is read again from")
    assert tail.next(0) == Arrival(b"New\n")


def test_a_file_that_is_replaced_is_read_to_its_end_first(talk, tmp_path):
    tail = Tail(talk)
    tail.next(0)
    append(talk, b"The end.\n")
    os.rename(talk, tmp_path / "talk.txt.1")
    talk.write_bytes(b"Longer than the one before it was.\n")
    assert tail.next(0).data == b"The end.\n"
    arrival = tail.next(0)
    assert arrival.breaks and arrival.notice.startswith("talk.txt was replaced by another file")
    assert tail.next(0).data.startswith(b"Longer")


def test_a_file_that_is_gone_is_waited_for_and_that_is_said_once(talk):
    tail = Tail(talk)
    tail.next(0)
    talk.unlink()
    assert tail.next(0).notice.startswith("talk.txt is gone") and tail.next(0) == Arrival()
    talk.write_bytes(b"Again.\n")
    assert tail.next(0).breaks and tail.next(0).data == b"Again.\n"


def test_an_empty_file_can_be_followed_and_a_missing_one_cannot(tmp_path):
    (tmp_path / "empty.txt").touch()
    assert Tail(opened(tmp_path / "empty.txt")).next(0) == Arrival()
    with pytest.raises(DocumentError, match="^no.txt does not exist"):
        opened(tmp_path / "no.txt")
    with pytest.raises(DocumentError, match="is a folder"):
        opened(tmp_path)


# -- a pipe --------------------------------------------------------------------------


def test_a_pipe_brings_what_was_written_and_then_its_end():
    reading, writing = os.pipe()
    pipe = Pipe(os.fdopen(reading, "rb"))
    assert pipe.next(0.01) == Arrival()
    os.write(writing, b"One.\nTw")
    assert pipe.next(30) == Arrival(b"One.\nTw")
    os.close(writing)
    assert pipe.next(30) == Arrival(ended=True)


def test_a_program_ends_though_more_may_come_through_its_pipe():
    waiting = "import sys; from mlx_edgeinf.documents import Pipe; Pipe(sys.stdin.buffer).next(0.2)"
    with subprocess.Popen([sys.executable, "-c", waiting], stdin=subprocess.PIPE) as program:
        assert program.wait(60) == 0


def test_a_pipe_that_is_empty_has_ended():
    assert Pipe(io.BufferedReader(io.BytesIO())).next(30).ended
