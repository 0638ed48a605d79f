from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from http.client import HTTPConnection

import httpx
import openai
import pytest
from serving import WHALE, client_of, served
from tiny import llama_model, save_model, without_end

from mlx_edgeinf.cli import main
from mlx_edgeinf.server import guard
from mlx_edgeinf.server.answers import events
from mlx_edgeinf.server.jobs import Jobs
from mlx_edgeinf.server.serve import ServerError, api_key, is_local
from mlx_edgeinf.server.wire import ChatRequest, Completion

KEY = "a long and random key"


@pytest.fixture(scope="module")
def address(engine, tmp_path_factory):
    with served(engine, tmp_path_factory.mktemp("open")) as address:
        yield address


@pytest.fixture
def ask(engine, address):
    """Ask what is to be refused; returns the refusal."""

    def refused(status: int, **changes) -> dict:
        body = {"model": engine.name, "messages": [{"role": "user", "content": "Who?"}], "max_tokens": 2}
        # ASCII: half a character can be written there.
        body = json.dumps(body | changes)
        headers = {"Content-Type": "application/json"}
        response = httpx.post(f"{address}/v1/chat/completions", content=body, headers=headers, timeout=60)
        error = response.json()["error"]
        assert response.status_code == status and set(error) == {"message", "type", "param", "code"}
        assert error["message"].endswith(".") and error["message"].count(". ") == 0
        return error

    return refused


# -- who may ask ---------------------------------------------------------------------


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "[", ""])
def test_no_name_of_a_web_page_leads_here(address, host):
    response = httpx.get(f"{address}/v1/files", headers={"Host": host})
    assert response.status_code in (400, 403)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "[::1]:8080", "127.0.0.1:1"])
def test_the_machines_own_names_do(address, host):
    assert httpx.get(f"{address}/v1/files", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://["])
def test_no_web_page_can_send_a_form_here(address, origin):
    upload = {"file": ("whale.txt", WHALE)}
    response = httpx.post(
        f"{address}/v1/files", files=upload, data={"purpose": "user_data"}, headers={"Origin": origin}
    )
    assert response.status_code == 403 and "Web pages" in response.json()["error"]["message"]
    assert httpx.get(f"{address}/v1/files").json()["data"] == []
    assert "access-control-allow-origin" not in response.headers


def test_a_key_is_demanded_where_there_is_one(engine, tmp_path):
    with served(engine, tmp_path / "library", key=KEY, any_name=True) as address:
        with client_of(address, KEY) as client:
            assert [model.id for model in client.models.list()] == [engine.name]
        for wrong in (KEY[:-1], KEY + "x", "é"):
            headers = {"Authorization": f"Bearer {wrong}".encode()}
            response = httpx.get(f"{address}/v1/models", headers=headers)
            assert response.status_code == 401
        with client_of(address, "wrong") as client, pytest.raises(openai.AuthenticationError) as refused:
            client.models.list()
        assert refused.value.code == "invalid_api_key" and KEY not in str(refused.value)
        # Without the body being waited for.
        connection = HTTPConnection(address.removeprefix("http://"), timeout=10)
        connection.putrequest("POST", "/v1/files")
        connection.putheader("Content-Length", "1000")
        connection.endheaders()
        assert connection.getresponse().status == 401
        connection.close()


def test_other_names_are_allowed_only_with_the_key(engine, tmp_path):
    with served(engine, tmp_path / "library", key=KEY, any_name=True) as address:
        headers = {"Host": "desk.lan:8080", "Authorization": f"Bearer {KEY}"}
        assert httpx.get(f"{address}/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "desk.lan"])
def test_other_machines_are_let_in_only_with_a_key(host, capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("MLX_EDGEINF_API_KEY", raising=False)
    options = ["serve", "--api", "--host", host, "--library", str(tmp_path / "library")]
    assert main(options) == 1
    assert f"Other machines could reach {host}: set MLX_EDGEINF_API_KEY" in capsys.readouterr().err
    assert not is_local(host) and all(map(is_local, ("localhost", "127.0.0.1", "127.8.0.1", "::1")))


def test_the_key_is_that_of_the_file_before_that_of_the_environment(tmp_path):
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    environment = {"MLX_EDGEINF_API_KEY": "another"}
    assert (api_key(file, environment), api_key(None, environment)) == (KEY, "another")
    assert api_key(None, {}) is None is api_key(None, {"MLX_EDGEINF_API_KEY": " "})
    file.write_text("\n")
    for unusable in (file, tmp_path, tmp_path / "none" / "key"):
        with pytest.raises(ServerError, match="key file"):
            api_key(unusable, environment)


def test_a_key_is_made_once_for_its_owner_alone(tmp_path):
    key = api_key(tmp_path / "key", {})
    assert len(key) >= 43 and key == api_key(tmp_path / "key", {}) != api_key(tmp_path / "other", {})
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


# -- what may be asked ---------------------------------------------------------------


def test_too_much_at_once_is_refused_whether_its_length_is_said_or_not(address, monkeypatch, engine):
    monkeypatch.setattr(guard, "LARGEST_REQUEST", 1000)
    monkeypatch.setattr(guard, "MOST_BYTES", 0)
    monkeypatch.setattr(guard, "WRAPPING", 2000)
    body = b'{"model": "%s"}' % (b" " * 3000)
    for content in (body, iter([body[:500], body[500:]])):
        headers = {"Content-Type": "application/json"}
        response = httpx.post(f"{address}/v1/chat/completions", content=content, headers=headers)
        assert response.status_code == 413 and "larger than 1 kB" in response.json()["error"]["message"]
    upload = {"file": ("whale.txt", WHALE * 9)}
    response = httpx.post(f"{address}/v1/files", files=upload, data={"purpose": "user_data"})
    assert response.status_code == 413 and "larger than 2 kB" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "changes, param",
    [
        ({"n": 2}, "n"), ({"tools": [{"type": "function"}]}, "tools"), ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"modalities": ["text", "audio"]}, "modalities"), ({"audio": {"voice": "ash"}}, "audio"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_would_be_another_answer_is_refused(ask, changes, param):
    error = ask(400, **changes)
    assert error["param"] == param and error["code"] == "unsupported_parameter"


def test_what_steers_chance_or_asks_for_nothing_is_ignored(address, engine):
    with client_of(address) as client:
        client.chat.completions.create(
            model=engine.name, messages=[{"role": "user", "content": "Who?"}], max_tokens=1, n=1, seed=7,
            temperature=0.7, top_p=0.9, user="me", tools=[], response_format={"type": "text"}, stop=None,
            presence_penalty=1, stream=False, logit_bias={}, metadata={"a": "b"}, store=False,
        )  # fmt: skip


def test_half_a_character_is_no_fault_of_the_program(ask, engine):
    half = {"role": "user", "content": "Who \ud800?"}
    assert "no model ? here" in ask(404, model="\ud800", messages=[half])["message"]
    assert ask(400, n=2, messages=[half])["param"] == "n"
    assert list(engine.answer(ChatRequest(model="", messages=[half]).texts(), max_tokens=1))


def test_instructions_open_the_users_text_and_are_not_what_is_asked():
    told = [("system", "Be brief."), ("user", "Who?"), ("assistant", "He."), ("developer", "In French."),
            ("user", "And"), ("user", "why?")]  # fmt: skip
    request = ChatRequest(model="", messages=[{"role": role, "content": text} for role, text in told])
    assert request.texts() == ["Be brief.\n\nWho?", "He.", "In French.\n\nAnd\n\nwhy?"]
    assert request.asked() == ["Who?", "And\n\nwhy?"]
    greeted = ChatRequest(model="", messages=[{"role": role, "content": text} for role, text in told[2:]])
    assert greeted.texts()[:2] == ["", "He."] and greeted.asked() == ["", "And\n\nwhy?"]


IMAGE = {"type": "image_url", "image_url": {"url": "https://evil.example/picture.png"}}


@pytest.mark.parametrize(
    "messages, reason",
    [
        ([], "messages"),
        ([{"role": "user", "content": " "}], "must be a question"),
        ([{"role": "user", "content": "A"}, {"role": "assistant", "content": "B"}], "must be a question"),
        ([{"role": "tool", "content": "A"}], "role"),
        ([{"role": "user", "content": [IMAGE]}], "image_url"),
        ([{"role": "user"}], "content"),
        ([{"role": "user", "content": [{"type": "\ud800"}]}], "does not match"),
        ("Who?", "messages"),
    ],
)
def test_messages_that_cannot_be_read_are_told(ask, messages, reason):
    assert reason in ask(400, messages=messages)["message"]


@pytest.mark.parametrize(
    "file, status, reason",
    [
        ({"file_id": "file-1"}, 404, "There is no file file-1 here"),
        ({"file_id": "../../secret"}, 404, "There is no file"),
        ({"file_data": "not base64", "filename": "a.txt"}, 400, "a.txt is not base64"),
        ({"filename": "a.txt"}, 400, "a.txt is empty"),
        ({"file_data": "AAECAw==", "filename": "../../a.bin"}, 400, "a.bin is of a kind that cannot be read"),
        ({"file_data": "aGk=", "filename": "\x00/..\n"}, 400, "document"),
    ],
)
def test_documents_that_cannot_be_read_are_told(ask, file, status, reason):
    content = [{"type": "file", "file": file}, {"type": "text", "text": "Who?"}]
    assert reason in ask(status, messages=[{"role": "user", "content": content}])["message"]


def test_other_things_that_are_wrong_are_told(ask, address):
    assert ask(404, model="gpt-9")["code"] == "model_not_found"
    assert ask(400, max_tokens=0)["param"] == ask(400, max_tokens=10**9)["param"] == "max_tokens"
    assert ask(400, stop=["a"] * 5)["param"] == "stop"
    for method, path in (("GET", "/v1/nothing"), ("GET", "/docs"), ("PUT", "/v1/files")):
        response = httpx.request(method, address + path)
        assert response.status_code == (405 if method == "PUT" else 404)
        assert response.json()["error"]["code"] == "unknown_url"
    for sent in ({"content": b"{"}, {"content": b"[" * 100_000}, {"data": {"model": "a"}}):
        response = httpx.post(f"{address}/v1/chat/completions", **sent)
        assert response.status_code == 400 and response.json()["error"]["message"]
    nameless, purposeless = {"data": {"purpose": "user_data"}}, {"files": {"file": ("a.txt", b"A")}}
    for upload in (nameless, purposeless, {"content": b"a"}):
        assert httpx.post(f"{address}/v1/files", **upload).status_code == 400


# -- the command ---------------------------------------------------------------------


def test_the_command_serves_and_ctrl_c_ends_it_in_the_middle_of_an_answer(gates_folder, tmp_path):
    endless = save_model(without_end(llama_model()), tmp_path / "endless")
    program = "import sys; from mlx_edgeinf.cli import main; sys.exit(main())"
    options = ["--model", endless, "--adapter", gates_folder, "--library", tmp_path / "library"]
    command = [sys.executable, "-c", program, "serve", "--api", "--port", "0", *map(str, options)]
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"MLX_EDGEINF_API_KEY": KEY},
    )  # fmt: skip
    address = server.stdout.readline().split(" at ")[1].split("/v1")[0]
    with client_of(address, KEY) as client:
        stream = client.chat.completions.create(
            model="endless", messages=[{"role": "user", "content": "Who?"}], max_tokens=60_000, stream=True
        )
        assert next(iter(stream)).model == "endless"
        server.send_signal(signal.SIGINT)
        # Seen once to end without the error that says why; where there is one, it is this.
        try:
            assert len(list(stream)) < 60_000
        except openai.APIError as error:
            assert "The server is being closed" in str(error)
    _, told = server.communicate(timeout=30)
    assert server.returncode == 130 and "Traceback" not in told, told


def test_an_answer_that_is_cut_off_says_that_the_server_is_being_closed():
    async def sent() -> list[str]:
        job = Jobs().begin(lambda cancel: iter(["Ahab"]))
        return [event async for event in events(job, Completion("tiny"), usage=False)]

    *_, word, last = asyncio.run(sent())
    assert "Ahab" in word and "The server is being closed" in last


def test_a_port_that_is_taken_is_told_before_the_model_is_loaded(address, capsys, tmp_path):
    port = address.rpartition(":")[2]
    assert main(["serve", "--api", "--port", port, "--library", str(tmp_path), "--model", "nothing"]) == 1
    assert f"127.0.0.1, port {port} cannot be opened" in capsys.readouterr().err
