"""The app as it is served: what a stranger on the network, another page in the browser and a large upload meet."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

_LISTENING = "0A"
# what settings of the user might say: the command line is stronger
_LOOSE = {
    "STREAMLIT_SERVER_HEADLESS": "true",
    "STREAMLIT_SERVER_ADDRESS": "0.0.0.0",
    "STREAMLIT_SERVER_ENABLE_XSRF_PROTECTION": "false",
    "STREAMLIT_SERVER_ENABLE_CORS": "false",
    "STREAMLIT_SERVER_MAX_UPLOAD_SIZE": "100000",
    "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "true",
}


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Serve the app; gives its port."""
    root = tmp_path_factory.mktemp("served")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        number = int(free.getsockname()[1])
    command = [sys.executable, "-m", "medidistill", "app", "--root", str(root / "runs"), "--port", str(number)]
    app = subprocess.Popen(command, env={**os.environ, **_LOOSE}, stdout=subprocess.DEVNULL, start_new_session=True)
    until = time.monotonic() + 240
    while True:
        try:
            if request(number, "GET", "/_stcore/health")[0] == 200:
                break
        except OSError:
            assert app.poll() is None
            assert time.monotonic() < until
            time.sleep(0.3)
    yield number
    os.killpg(app.pid, signal.SIGTERM)
    app.wait(60)


def request(port: int, method: str, path: str, **headers: str) -> tuple[int, http.client.HTTPMessage]:
    """Return status and headers of an answer; header names are given with `_` for `-`."""
    connection = http.client.HTTPConnection("localhost", port, timeout=60)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.headers
    finally:
        connection.close()


def test_nobody_but_this_machine_is_listened_to(port):
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    addresses = {line[1].split(":")[0] for line in lines if line[3] == _LISTENING and line[1].endswith(f":{port:04X}")}
    assert addresses
    assert addresses <= {"0100007F", "00000000000000000000000001000000"}


def handshake(port: int, **headers: str) -> int:
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "13"}
    key = {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec_WebSocket_Protocol": "streamlit"}
    return request(port, "GET", "/_stcore/stream", **upgrade, **key, **headers)[0]


def test_other_names_and_other_pages_cannot_talk_to_it(port):
    own = f"localhost:{port}"
    assert handshake(port, Host=own, Origin=f"http://{own}") == 101
    assert handshake(port, Host="rebound.example", Origin=f"http://{own}") == 403
    assert handshake(port, Host=own, Origin="https://elsewhere.example") == 403


def test_uploads_need_the_token_and_are_capped(port):
    with connect(
        f"ws://localhost:{port}/_stcore/stream",
        subprotocols=["streamlit"],
        origin=f"http://localhost:{port}",
        max_size=None,
    ) as session:
        message = BackMsg()
        message.rerun_script.page_name = ""
        session.send(message.SerializeToString())
        while True:
            answer = ForwardMsg.FromString(session.recv(timeout=240))
            if answer.WhichOneof("type") == "new_session":
                break
        first = answer.new_session.initialize
        assert not answer.new_session.config.gather_usage_stats
        path, size = f"/_stcore/upload_file/{first.session_id}/one", str(201 * 2**20)
        assert request(port, "PUT", path, Content_Length=size)[0] == 403
        cookie = request(port, "GET", "/_stcore/health")[1]["Set-Cookie"].split(";")[0]
        token = cookie.partition("=")[2]
        assert request(port, "PUT", path, Content_Length=size, Cookie=cookie, X_Xsrftoken="x")[0] == 403
        assert request(port, "PUT", path, Content_Length=size, Cookie=cookie, X_Xsrftoken=token)[0] == 413


def test_programs_are_not_served(port):
    assert request(port, "POST", "/_stcore/agent/interact", Content_Length="0")[0] in (403, 404, 405)
