from __future__ import annotations

import asyncio

import httpx
import pytest
from browsing import served

from mlx_edgeinf.ui.tabs import MOST_TABS, Tabs

MAIN, FURTHER = 7860, (40001, 40002)
HEARTBEAT = "/gradio_api/heartbeat/a"


async def page(scope, receive, send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def tabs() -> Tabs:
    return Tabs(page, FURTHER)


def asked(tabs: Tabs, port: int = MAIN, path: str = "/", method: str = "GET") -> int:
    """Ask for a path behind a secret; returns the port that one is left on or sent to."""
    sent = []

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": method, "path": f"/secret{path}", "root_path": "/secret", "headers": [],
        "server": ("127.0.0.1", port),
    }  # fmt: skip
    asyncio.run(tabs(scope, None, send))
    if sent[0]["status"] == 200:
        return port
    location = dict(sent[0]["headers"])[b"location"].decode()
    assert location.startswith("http://127.0.0.1:") and location.endswith("/secret/")
    return int(location.split(":")[2].split("/")[0])


def opened(tabs: Tabs) -> int:
    """Open a tab as a browser does, which goes where it is sent; returns its port."""
    port = asked(tabs)
    return port if port == MAIN else asked(tabs, port)


def test_tabs_are_dealt_out_to_ports_once_the_first_has_enough(tabs):
    ports = [opened(tabs) for _ in range(3 * MOST_TABS)]
    assert ports[:MOST_TABS] == [MAIN] * MOST_TABS
    assert {port: ports.count(port) for port in ports} == dict.fromkeys((MAIN, *FURTHER), MOST_TABS)
    # More than that are not turned away.
    assert opened(tabs) in (MAIN, *FURTHER)


def test_a_tab_that_is_closed_makes_room(tabs):
    for _ in range(MOST_TABS):
        opened(tabs)
    asked(tabs, MAIN, HEARTBEAT)
    assert opened(tabs) == MAIN != opened(tabs)


def test_only_the_page_itself_is_sent_on(tabs):
    for _ in range(MOST_TABS):
        opened(tabs)
    for path, method in (("/config", "GET"), ("/", "HEAD"), ("/gradio_api/queue/join", "POST")):
        assert asked(tabs, MAIN, path, method) == MAIN


def test_every_port_serves_the_page_under_its_secret(room):
    with served(room) as address:
        root, secret = address.rstrip("/").rsplit("/", 1)
        answers = [httpx.get(address, follow_redirects=True) for _ in range(MOST_TABS + 1)]
        assert [answer.status_code for answer in answers] == [200] * (MOST_TABS + 1)
        further = str(answers[-1].url)
        assert not further.startswith(root) and further.endswith(f"/{secret}/")
        assert httpx.get(further.removesuffix(f"{secret}/")).status_code == 403
    for each in (address, further):
        with pytest.raises(httpx.ConnectError):
            httpx.get(each)
