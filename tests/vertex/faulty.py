"""A proxy on loopback before the bucket's emulator that does what stores and networks do on a bad day."""

import contextlib
import http.client
import random
import re
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, cast

Kind = Literal["status", "reset", "silent", "slow", "truncated", "lost"]


@dataclass
class Fault:
    """What happens to the next `times` requests of a method whose path, and what is sent, match.

    status:    an answer of that number, the store never asked
    reset:     the connection is reset, the store never asked
    lost:      the store is asked, and the connection reset before its answer is told
    silent:    nothing is said for `seconds`, and then the connection closes
    slow:      the answer comes after `seconds`
    truncated: half the body is told, and the connection closes
    """

    kind: Kind
    method: str = ".*"
    path: str = ""
    body: bytes = b""
    skip: int = 0  # so many are spared at first
    times: int = 1_000_000
    status: int = 503
    said: str = "backend is unwell"
    seconds: float = 0.0


@dataclass
class Faulty:
    """A proxy; what it was asked, and how often it did wrong.

    chaos: with a seed and a share, that share of all requests meets a fault by chance.
    """

    port: int
    faults: list[Fault] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    done: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    dice: random.Random | None = None
    share: float = 0.0

    def __call__(self, kind: Kind, **more: object) -> Fault:
        """From now on."""
        fault = Fault(kind, **more)  # type: ignore[arg-type]  # a test's own
        self.faults.append(fault)
        return fault

    def chaos(self, seed: int, share: float) -> None:
        """From now on, by chance; six in sequence, at which a client gives up, come once in 1/share**6 requests."""
        self.dice, self.share = random.Random(seed), share

    def well(self) -> None:
        """From now on nothing is done wrong."""
        self.faults.clear()
        self.dice = None

    def count(self, method: str, path: str = "") -> int:
        return sum(bool(re.fullmatch(method, m) and re.search(path, p)) for m, p in self.asked)

    def meets(self, method: str, path: str, body: bytes) -> Fault | None:
        with self.lock:
            self.asked.append((method, path))
            for fault in self.faults:
                asked = re.fullmatch(fault.method, method) and re.search(fault.path, path)
                if fault.times > 0 and asked and re.search(fault.body, body):
                    if fault.skip > 0:
                        fault.skip -= 1
                        continue
                    fault.times -= 1
                    self.done += 1
                    return fault
            if self.dice is None or self.dice.random() >= self.share:
                return None
            self.done += 1
            kind = self.dice.choice(["status", "reset", "lost", "slow", "truncated"])
            return Fault(cast(Kind, kind), status=self.dice.choice([429, 500, 502, 503, 504]), seconds=0.2)


@contextlib.contextmanager
def faulty(upstream: int) -> Iterator[Faulty]:
    """A proxy before the server at a port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = state.meets(self.command, self.path, body)
            kind = fault.kind if fault else None
            if kind == "reset":
                self.reset()
                return
            if fault and kind == "status":
                self.tell(fault.status, [("Content-Type", "text/plain")], fault.said.encode())
                return
            if fault and kind in ("silent", "slow"):
                stopping.wait(fault.seconds)
                if kind == "silent":
                    self.close_connection = True
                    return
            status, headers, content = self.ask(body)
            if kind == "lost":
                self.reset()
            else:
                self.tell(status, headers, content, half=kind == "truncated")

        def ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            there = http.client.HTTPConnection("127.0.0.1", upstream, timeout=60)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("connection", "accept-encoding")}
            there.request(self.command, self.path, body, headers)
            answer = there.getresponse()
            content = answer.read()
            there.close()
            passed = [(k, v) for k, v in answer.getheaders() if k.lower() not in HOPS]
            return answer.status, passed, content

        def tell(self, status: int, headers: list[tuple[str, str]], content: bytes, half: bool = False) -> None:
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if half else content)
            self.close_connection |= half

        def reset(self) -> None:
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = answer  # noqa: N815  # the names that http.server calls

        def finish(self) -> None:
            with contextlib.suppress(OSError, ValueError):  # who asked has gone, or was sent away
                super().finish()

        def handle(self) -> None:
            with contextlib.suppress(OSError, ValueError):
                super().handle()

        def log_message(self, *_: object) -> None:
            pass

    stopping = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state = Faulty(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield state
    finally:
        stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()


HOPS = {"connection", "transfer-encoding", "content-length", "keep-alive", "date", "server"}
