"""A bucket on loopback: gcp-storage-emulator, one for all tests of a session."""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from gcp_storage_emulator.handlers.buckets import create_bucket
from gcp_storage_emulator.handlers.objects import _checksums, _make_object_resource
from gcp_storage_emulator.server import create_server

from alphard.storage import Folder
from tests.vertex.faulty import Faulty, faulty


@dataclass
class Bucket:
    """A bucket of a test's own.  server: the emulator."""

    name: str
    server: Any

    def folder(self, path: str = "") -> Folder:
        """A folder in it."""
        return Folder(f"gs://{self.name}/{path}".rstrip("/"))

    def uri(self, path: str) -> str:
        """A name in it."""
        return f"gs://{self.name}/{path}"

    def fill(self, files: Mapping[str, bytes]) -> None:
        """Put many files into it, past HTTP: each upload there costs as much as all before."""
        storage = self.server._storage
        for path, content in files.items():
            storage._store.write_bytes(storage._object_path(self.name, path), content)
            known = _make_object_resource("", self.name, path, "application/octet-stream", str(len(content)))
            storage.objects.setdefault(self.name, {})[path] = _checksums(content, known)


@pytest.fixture(scope="session")
def emulator() -> Iterator[Any]:
    """The emulator, at a port that was free."""
    server = create_server("127.0.0.1", 0, in_memory=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def bucket(emulator: Any, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A new bucket, which this process and those that it starts see as Google's."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    create_bucket(name, emulator._storage)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{emulator._api._httpd.server_port}")
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    return Bucket(name, emulator)


@pytest.fixture
def unwell(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    """A proxy before the bucket that does wrong when it is told to."""
    with faulty(bucket.server._api._httpd.server_port) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{proxy.port}")
        yield proxy
