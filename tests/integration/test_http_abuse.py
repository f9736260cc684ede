"""The HTTP endpoint among clients that mean it no good, while usage is counted: they cost neither memory nor time, and
who asks properly is answered."""
import contextlib
import pathlib
import re
import resource
import socket
import threading
import time

import pytest
from stack import wait_until

CONNECTIONS = 1000


@pytest.fixture(autouse=True)
def many_files():
    """For our ends of them."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before, min(most, 4096)), most))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


@pytest.fixture
def running(make_scene):
    scene = make_scene().migrate()
    return scene, scene.usagebox.start()


def connect(process, timeout_s=5):
    host, port = process.http_address.split(":")
    return socket.create_connection((host, int(port)), timeout=timeout_s)


def answer_to(process, request):
    """Its status; 0: the connection was closed without a word."""
    with connect(process) as client, contextlib.suppress(ConnectionError):
        with contextlib.suppress(ConnectionError):
            client.sendall(request)
        head = b""
        while b"\r\n" not in head and (more := client.recv(4096)):
            head += more
        return int(head.split()[1]) if head else 0
    return 0


def memory_kib(process):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{process.pid}/status").read_text())[1])


class Crowd:
    """Opens as many connections as it may and sends a piece on each, over and over, until it is told to stop. Those that
    were closed are opened again."""

    def __init__(self, process, pieces):
        self.process, self.pieces = process, pieces
        self.clients = []
        self.opened = 0
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self._crowd, args=(n,)) for n in range(4)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def _crowd(self, number):
        clients = {}
        while not self.stopped.is_set():
            if len(clients) < CONNECTIONS // len(self.threads):
                with contextlib.suppress(OSError):
                    client = connect(self.process, timeout_s=0.2)
                    client.setblocking(False)
                    clients[client] = 0
                    self.opened += 1
            for client in list(clients)[-20:]:
                self._send(clients, client, number)
        for client in clients:
            client.close()

    def _send(self, clients, client, number):
        try:
            client.send(self.pieces[(number + clients[client]) % len(self.pieces)])
            clients[client] += 1
        except BlockingIOError:
            pass
        except OSError:
            client.close()
            del clients[client]


def test_each_kind_of_nonsense_gets_its_status_and_closes_the_connection(running):
    _, process = running
    for request, status in {
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n": 200,
        b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n": 200,
        b"GET /metrics?" + b"x" * 500 + b" HTTP/1.1\r\nHost: x\r\n\r\n": 200,
        b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\nx": 405,
        b"POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n": 405,
        b"DELETE / HTTP/1.1\r\nHost: x\r\n\r\n": 405,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n": 404,
        b"GET /%2e%2e/%00 HTTP/1.1\r\nHost: x\r\n\r\n": 404,
        b"GET /metrics HTTP/1.1\r\n\r\n": 400,
        b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: x\r\n\r\n": (414, 431),
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100000 + b"\r\n\r\n": 431,
        b"GET /metrics HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(20000)) + b"\r\n": (413, 431),
        b"GET /metrics HTTP/9.9\r\nHost: x\r\n\r\n": (400, 505),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200 + b"\r\n\r\n": (0, 400, 404, 405),
    }.items():
        got = answer_to(process, request)
        assert got in (status if isinstance(status, tuple) else (status,)), f"{request[:60]}: {got}"


def test_pipelined_requests_are_answered_once(running):
    _, process = running
    with connect(process) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while more := client.recv(65536):
                answer += more
    assert answer.count(b"HTTP/1.1 200") <= 1


@pytest.mark.parametrize("pieces", [
    [b""], [b"G", b"E", b"T", b" "], [b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"], [b"X: " + b"y" * 3000 + b"\r\n"],
], ids=["silent", "dripping", "asking and never reading", "endless headers"])
def test_a_thousand_connections_hold_up_neither_counting_nor_who_asks_properly(running, pieces):
    scene, process = running
    before_kib = memory_kib(process)
    with Crowd(process, pieces) as crowd:
        for number in range(10):
            scene.produce(*[{"event_id": f"{number}-{n}", "customer_id": f"c{n % 7}", "meter": "m", "quantity": 1}
                            for n in range(100)])
            time.sleep(0.05)
        scene.wait_consumed(timeout_s=10)
        asked = time.monotonic()
        wait_until(lambda: process.http("/healthz", timeout_s=10)[0] == 200, 10, "an answer to who asks properly")
        waited_s = time.monotonic() - asked
    assert scene.value("SELECT count(*) FROM usage_event") == 1000
    assert crowd.opened > 64
    assert waited_s < 6
    assert memory_kib(process) - before_kib < 32 << 10
    wait_until(lambda: process.http("/readyz")[0] == 200, 10, "readiness once they are gone")
    assert len(list(pathlib.Path(f"/proc/{process.pid}/fd").iterdir())) < 200
