"""Ports for servers that tests start in a moment."""

import itertools
import os
import socket

# Below 32768, from where on Linux gives ports to whoever connects; 1,000 for each of pytest-xdist's workers, begun
# anywhere, for other tests may run on this machine.
FIRST, SPAN = 12_000, 1_000
_next = itertools.count(os.getpid())


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has now, and no other call gives soon."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for number in itertools.islice(_next, SPAN):
        port = FIRST + SPAN * (worker % 20) + number % SPAN
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
