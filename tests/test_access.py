"""Who may use the page and look into its folders: a second user of the machine may not."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mlx_edgeinf.documents import read_document
from mlx_edgeinf.library import Library
from mlx_edgeinf.ui import access
from mlx_edgeinf.ui import open as door

NOBODY = 65534
LETTER = ("letter.txt", b"Dear Anna, the honey is for you alone.")


def as_nobody(*command: str) -> subprocess.CompletedProcess:
    """Run a command as another user of the machine."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")
    return subprocess.run(command, user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, text=True)


def refused(response: httpx.Response, sentence: str) -> bool:
    return response.status_code == 403 and response.text == sentence


# -- the address --------------------------------------------------------------------------


def test_who_does_not_know_the_secret_is_told_one_sentence(page_address):
    root = page_address.rsplit("/", 2)[0]
    for path in (
        "", "config", "theme.css", "gradio_api/info", "gradio_api/queue/data?session_hash=a", "monitoring",
        "gradio_api/file=/etc/passwd", "gradio_api/upload_progress?upload_id=a", "favicon.ico/", "//", "%2e/",
    ):  # fmt: skip
        assert refused(httpx.get(f"{root}/{path}"), access.STRANGER)
        assert refused(httpx.post(f"{root}/{path}"), access.STRANGER)


def test_no_other_secret_will_do(page_address):
    root, secret = page_address.rstrip("/").rsplit("/", 1)
    for wrong in (secret[:-1], secret + "x", secret.swapcase(), f"x/{secret}", "é", ""):
        assert refused(httpx.get(f"{root}/{wrong}/"), access.STRANGER)
    assert httpx.get(page_address).status_code == httpx.get(page_address + "config").status_code == 200
    assert len(secret) >= 22 and access.new_secret() != access.new_secret()


def test_what_is_answered_without_the_secret_tells_nothing(page_address):
    root, secret = page_address.rstrip("/").rsplit("/", 1)
    page, started = httpx.head(root), httpx.get(f"{root}/gradio_api/startup-events")
    assert page.text == "" and started.json() in (True, False)
    assert secret not in f"{page.headers}{started.headers}"
    assert httpx.get(f"{root}/favicon.ico").headers["Content-Type"] == "image/svg+xml"


def test_no_other_site_can_send_anything_here(page_address):
    url, upload, own = f"{page_address}gradio_api/upload", {"files": LETTER}, page_address.rsplit("/", 2)[0]
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", "http://[", ""):
        assert refused(httpx.post(url, files=upload, headers={"Origin": origin}), access.ELSEWHERE)
    assert httpx.post(url, files=upload, headers={"Origin": own}).status_code == 200


def test_the_address_is_told_in_the_terminal_and_not_in_the_list_of_processes(monkeypatch, capsys, tmp_path):
    opened = []
    monkeypatch.setattr(access.webbrowser, "open", opened.append)
    monkeypatch.setattr("gradio.Blocks.block_thread", lambda page: page.close())
    monkeypatch.setattr(door, "Preparation", lambda load: None)
    monkeypatch.setattr(door, "serve", lambda page, port: "http://127.0.0.1:7860/secret/")
    door.open_page(None, None, None, 8, tmp_path / "library", None, True)
    assert "http://127.0.0.1:7860/secret/ " in capsys.readouterr().out
    assert opened[0].startswith("file://") and "secret" not in opened[0]


def test_the_browser_is_led_to_the_address_by_a_file(monkeypatch, tmp_path):
    opened = []
    monkeypatch.setattr(access.webbrowser, "open", opened.append)
    access.open_in_browser("http://127.0.0.1:7860/secret/", tmp_path)
    way = Path(opened[0].removeprefix("file://"))
    assert 'content="0; url=http://127.0.0.1:7860/secret/"' in way.read_text()


# -- the folders ---------------------------------------------------------------------


def test_what_is_handed_in_is_where_no_other_user_can_look(room, page_address):
    sent = httpx.post(f"{page_address}gradio_api/upload", files={"files": LETTER})
    kept = Path(sent.json()[0])
    assert kept.read_bytes() == LETTER[1]
    folder = Path(room.uploads.name)
    assert folder in kept.parents and folder.stat().st_mode & 0o777 == 0o700
    assert as_nobody("cat", str(kept)).returncode != 0
    assert as_nobody("ls", str(folder)).returncode != 0


def test_what_is_handed_in_goes_when_the_program_ends():
    program = (
        "from mlx_edgeinf.ui.room import Room; from pathlib import Path; room = Room(None, None); "
        "Path(room.uploads.name, 'letter').write_text('Anna'); print(room.uploads.name)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() and not Path(ended.stdout.strip()).exists()


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that everybody may look into, as homes are on many machines."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_everything_in_the_library_is_for_its_owner_alone(shared, fake, tmp_path):
    original = tmp_path / LETTER[0]
    original.write_bytes(LETTER[1])
    document = read_document(original)
    mask = os.umask(0)
    try:
        library = Library(shared / "library")
        entry = library.add(document, original)
        memory = fake.open(document)
        list(fake.ingest(memory, threading.Event()))
        library.save(fake, entry.id, memory)
        with library.under_way(entry.id):
            modes = {path: path.stat().st_mode & 0o777 for path in (shared / "library").rglob("*")}
    finally:
        os.umask(mask)
    assert len(list((shared / "library" / "files").iterdir())) == 2
    assert all(mode == (0o700 if path.is_dir() else 0o600) for path, mode in modes.items()), modes
    kept = library.original(entry.id)
    assert as_nobody("cat", str(kept)).returncode != 0
    assert as_nobody("find", str(shared), "-type", "f").stdout == ""
    library.close()
