from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# First of all: MLX binds to the BLAS that is loaded before it, and test modules import MLX.
import mlx_edgeinf  # noqa: F401

# What stands on MLX is imported where it is used: the tests of documents need none of it.


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", type=Path, metavar="FOLDER", help="Where a test that measures keeps it.")


@pytest.fixture(autouse=True)
def _drafts_of_short_documents(monkeypatch) -> None:
    """Tests read documents of some hundred tokens."""
    monkeypatch.setattr("mlx_edgeinf.summarize.APART", 1)


@pytest.fixture
def recorded(request) -> Path | None:
    """Where to keep what is measured, if it is wanted."""
    return request.config.getoption("record")


@pytest.fixture
def file(tmp_path) -> Callable[[str, bytes], Path]:
    """Writes a file and returns its path."""

    def write(name: str, data: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


@pytest.fixture
def children(monkeypatch) -> list[subprocess.Popen]:
    """The processes that are started."""
    started = []

    class Recorded(subprocess.Popen):
        def __init__(self, *arguments, **options) -> None:
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    return started


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    """A tiny model on disk, in mlx-lm's format."""
    from tiny import llama_model, save_model

    return save_model(llama_model(), tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def gates_folder(model_folder) -> Path:
    """Untrained gates for it: 2 sinks, and a window and a segment of 16 tokens."""
    from tiny import save_gates

    return save_gates(
        model_folder, model_folder.parent / "gates", sinks=2, window=16, segment=16, features=4
    )


@pytest.fixture(scope="module")
def engine(model_folder, gates_folder) -> Iterator:
    """An engine to which documents of more than 112 tokens are long, without recall."""
    from mlx_edgeinf import engine as home

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(home, "ANSWER_TOKENS", 16)
        engine = home.Engine(str(model_folder), str(gates_folder), recall_gb=0)
        yield engine
        engine.close()


@pytest.fixture
def tiny_subject(monkeypatch) -> None:
    """A tiny model in place of the starter model, and no gates that ship for it."""
    from tiny import byte_tokenizer, llama_model

    from mlx_edgeinf.measure import subject

    monkeypatch.setattr(subject, "load_base", lambda _: (llama_model(), byte_tokenizer()))
    monkeypatch.setattr(subject, "found_gates", lambda *_: None)


@pytest.fixture
def fake():
    """An engine without a model."""
    from fakes import FakeEngine

    return FakeEngine()


@pytest.fixture
def library(tmp_path) -> Iterator:
    """An empty library."""
    from mlx_edgeinf.library import Library

    library = Library(tmp_path / "library")
    yield library
    library.close()


@pytest.fixture
def room(fake, library):
    """What the pages share: the engine without a model, and a library of its own."""
    from mlx_edgeinf.ui.preparation import Preparation
    from mlx_edgeinf.ui.room import Room

    return Room(Preparation(lambda note: fake), library)


@pytest.fixture
def session():
    """What one open page knows."""
    from mlx_edgeinf.ui.session import Session

    return Session()


@pytest.fixture(scope="module")
def chromium() -> Iterator:
    """A browser, or the test is skipped."""
    from browsing import launched

    with launched() as browser:
        yield browser or pytest.skip("Chromium is not installed: the page is not tried in a browser")


@pytest.fixture
def page_address(room) -> Iterator[str]:
    """The page, served with a reader that has no model."""
    from browsing import served

    with served(room) as address:
        yield address


@pytest.fixture
def pdf(tmp_path) -> Path:
    """A short story of four pages, two of them without text."""
    from browsing import STORY
    from fakes import small_pdf

    return small_pdf(tmp_path / "honey.pdf", STORY)


@pytest.fixture
def ask(client, engine) -> Callable:
    """Ask a server for an answer of eight tokens; `client` is the test's own."""

    def asked(messages: list[dict], **options):
        options = {"model": engine.name, "max_tokens": 8} | options
        return client.chat.completions.create(messages=messages, **options)

    return asked
