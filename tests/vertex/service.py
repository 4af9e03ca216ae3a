"""Vertex AI's job service on loopback: REST as the real client speaks it, trials that really run, faults on demand.

    python -m tests.vertex.service 8080 [FOLDER]      # then: alphard submit … endpoint=http://127.0.0.1:8080

What the trials leave goes to FOLDER/<job>/output in place of the job's gs:// folder; where STORAGE_EMULATOR_HOST is
set, to the job's own.
"""

import collections
import contextlib
import itertools
import json
import os
import random
import re
import signal
import socket
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from google.cloud.aiplatform_v1.types import CustomJob, HyperparameterTuningJob
from google.protobuf import json_format

from tests.conftest import ROOT
from vertex_ai.engine import Engine
from vertex_ai.places import Direct, Place
from vertex_ai.played import stamp

PROJECT_NUMBER = "123456789012"  # the service names a job by its project's number, whatever was posted
MESSAGES = {"hyperparameterTuningJobs": HyperparameterTuningJob, "customJobs": CustomJob}
PATH = re.compile(r"/v1/projects/([^/]+)/locations/([^/]+)/(hyperparameterTuningJobs|customJobs)(?:/(\d+))?(?::(\w+))?")
FILTER = re.compile(r'display_name="([^"]*)"')
STATUSES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED",
            500: "INTERNAL", 503: "UNAVAILABLE"}  # fmt: skip
Json = dict[str, Any]


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, code: int, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code, self.message, self.details = code, message, details


@dataclass
class Fault:
    """What happens to one request: an error's `code`; the connection `dropped` before or after the work was done; or
    an answer that comes `seconds` late."""

    code: int = 0
    dropped: str = ""
    seconds: float = 0.0

    def refuse(self) -> None:
        if self.code:
            raise Refusal(self.code, f"{STATUSES[self.code].lower()}, as this test wants it")


@dataclass
class Resource:
    """One job that was created.

    state: what is shown in place of the engine's state: a name, or a number that nobody knows.
    stale: answers after the job's end that show its last trial as it was before.
    """

    job: Json
    kind: str
    name: str
    engine: Engine
    created: str
    state: str | int | None = None
    stale: int = 0
    started: str = ""
    ended: str = ""
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """In a thread of its own, until no process is left."""
        self.started = stamp()
        try:
            self.engine.run()
        finally:
            self.ended = stamp()
            self.over.set()

    def told(self, trials: bool) -> Json:
        """The resource as REST gives it."""
        if self.engine.state not in ("JOB_STATE_PENDING", "JOB_STATE_RUNNING", "JOB_STATE_CANCELLING"):
            self.over.wait()  # so that it is over in all respects
        state = self.engine.state if self.state is None else self.state
        told = {**self.job, "name": self.name, "state": state, "createTime": self.created, "updateTime": stamp()}
        told |= {"startTime": self.started} if self.started else {}
        told |= {"endTime": self.ended} if self.over.is_set() else {}
        told |= {"error": self.engine.error} if self.over.is_set() and self.engine.error else {}
        if trials and self.kind == "hyperparameterTuningJobs":
            told["trials"] = self._trials()
        return told

    def _trials(self) -> list[Json]:
        found = self.engine.trials
        if self.over.is_set() and self.stale > 0 and found:
            self.stale -= 1
            kept = {key: value for key, value in found[-1].items() if key in ("id", "parameters", "startTime")}
            found[-1] = kept | {"state": "ACTIVE"}
        random.Random(len(found)).shuffle(found)  # they come in no order
        return found


class Service:
    """The stand-in; `address` is its endpoint.  Use it as a context manager: at the end no process is left.

    folder: for what its jobs leave.
    place:  where trials run.
    base:   what takes the place of a job's output folder: None is folder/<job>/output, "" keeps the job's own.
    page:   jobs in one answer of a list.
    more:   for the engine, as grace=1.0.
    """

    def __init__(
        self, folder: Path, place: Place, base: str | None = None, port: int = 0, page: int = 100, **more: Any
    ) -> None:
        self.folder, self.place, self.base, self.page, self.more = folder, place, base, page, more
        self.jobs: dict[str, Resource] = {}
        self.requests: collections.Counter[str] = collections.Counter()  # of each verb, as they came in
        self.faults: dict[str, collections.deque[Fault]] = collections.defaultdict(collections.deque)
        self.closing = threading.Event()
        self.changed = threading.Condition()
        self._numbers = itertools.count(1001)
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.service = self
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._threads = [threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})]

    def __enter__(self) -> "Service":
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        for resource in self.jobs.values():
            resource.engine.cancel()
        self._server.shutdown()
        self._server.hang_up()
        self._server.server_close()
        for thread in self._threads:
            thread.join()

    def inject(self, verb: str, *faults: Fault) -> None:
        """The next requests of this verb (create, get, list, cancel) each meet one of these."""
        self.faults[verb].extend(faults)

    def wait_for(self, verb: str, count: int, seconds: float = 60.0) -> None:
        """Until so many requests of this verb have come in."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.requests[verb] >= count, seconds), f"no {verb} came"

    def met(self, verb: str) -> Fault:
        """A request of this verb has come in: what happens to it."""
        with self.changed:
            faults = self.faults[verb]
            self.requests[verb] += 1
            self.changed.notify_all()
            return faults.popleft() if faults else Fault()

    def answer(self, verb: str, region: str, kind: str, number: str | None, query: Json, body: bytes) -> Json:
        """The JSON that answers a request, or Refusal."""
        if verb == "create":
            return self._create(region, kind, body)
        if verb == "list":
            return self._list(region, kind, query)
        resource = self.jobs.get(number or "")
        if resource is None or resource.kind != kind or f"/locations/{region}/" not in resource.name:
            raise Refusal(404, f"The {kind} {number} does not exist in {region}.")
        if verb == "cancel":
            if resource.over.is_set():
                raise Refusal(400, f"The job {resource.name} is over and cannot be cancelled.")
            resource.engine.cancel()
            return {}
        return _wire(kind, resource.told(trials=True))

    def _create(self, region: str, kind: str, body: bytes) -> Json:
        try:
            message = json_format.Parse(body, MESSAGES[kind].pb(MESSAGES[kind]()))
        except json_format.ParseError as error:
            raise Refusal(400, str(error).splitlines()[0]) from None
        job = json_format.MessageToDict(message)
        if problems := list(_problems(kind, job)):
            details = {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": problems}
            raise Refusal(400, "List of found errors:", details=[details])
        number = str(next(self._numbers))
        base = self.base if self.base is not None else str(self.folder / number / "output")
        engine = Engine(job, base or None, self.place, self.folder / number / "work", **self.more)
        name = f"projects/{PROJECT_NUMBER}/locations/{region}/{kind}/{number}"
        resource = self.jobs[number] = Resource(job, kind, name, engine, stamp())
        self._threads.append(threading.Thread(target=resource.run))
        self._threads[-1].start()
        return _wire(kind, resource.told(trials=True))

    def _list(self, region: str, kind: str, query: Json) -> Json:
        wanted = query.get("filter", "")
        match = FILTER.fullmatch(wanted)
        if wanted and not match:
            raise Refusal(400, f"The stand-in knows no filter {wanted}.")
        found = [one for one in self.jobs.values() if one.kind == kind and f"/locations/{region}/" in one.name]
        found = [one for one in found if match is None or one.job["displayName"] == match[1]][::-1]
        begin = int(query.get("pageToken") or 0)
        end = begin + min(int(query.get("pageSize") or self.page), self.page)
        answer: Json = {kind: [_wire(kind, one.told(trials=False)) for one in found[begin:end]]}
        return answer | ({"nextPageToken": str(end)} if end < len(found) else {})


class _Server(ThreadingHTTPServer):
    service: Service
    request_queue_size = 64

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.connections: set[socket.socket] = set()
        self.daemon_threads = False  # so that server_close waits for them

    def hang_up(self) -> None:
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, *_: Any) -> None:
        """Nothing: tests read what the client says."""

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def _handle(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        match = PATH.fullmatch(unquote(parts.path))
        verb = match and {("POST", False, None): "create", ("GET", False, None): "list", ("GET", True, None): "get",
                          ("POST", True, "cancel"): "cancel"}.get((method, bool(match[4]), match[5]))  # fmt: skip
        if not match or not verb:
            return self._send(404, _error(404, f"{method} {parts.path} is not known here."))
        service = self.server.service
        fault = service.met(verb)
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        if fault.dropped == "before":
            return self._drop()
        try:
            fault.refuse()
            code, answer = 200, service.answer(verb, match[2], match[3], match[4], query, body)
        except Refusal as refusal:
            code, answer = refusal.code, _error(refusal.code, refusal.message, **refusal.details)
        service.closing.wait(fault.seconds)
        return self._drop() if fault.dropped == "after" else self._send(code, answer)

    def _drop(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, code: int, answer: Json) -> None:
        text = json.dumps(answer).encode()
        with contextlib.suppress(OSError):  # the client has gone
            self.send_response(code)
            self.send_header("Content-Type", "application/json; charset=UTF-8")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)


def _wire(kind: str, told: Json) -> Json:
    """As the service writes it when asked for enums as numbers."""
    message = json_format.ParseDict(told, MESSAGES[kind].pb(MESSAGES[kind]()))
    return json_format.MessageToDict(message, use_integers_for_enums=True)


def _error(code: int, message: str, **details: Any) -> Json:
    return {"error": {"code": code, "message": message, "status": STATUSES[code], **details}}


def _problems(kind: str, job: Json) -> list[Json]:
    """What the service requires of a job beyond its form."""
    tuning = kind == "hyperparameterTuningJobs"
    spec = job.get("trialJobSpec" if tuning else "jobSpec", {})
    pools = spec.get("workerPoolSpecs", [])
    study = job.get("studySpec", {})
    required = {
        "display_name": job.get("displayName"),
        "worker_pool_specs": pools,
        "worker_pool_specs[].machine_spec.machine_type": all(
            "machineType" in one.get("machineSpec", {}) for one in pools
        ),
        "worker_pool_specs[].container_spec.image_uri": all(
            "imageUri" in one.get("containerSpec", {}) for one in pools
        ),
    }
    if tuning:
        required |= {
            "study_spec.metrics": len(study.get("metrics", [])) == 1,
            "study_spec.parameters": study.get("parameters"),
            "max_trial_count": job.get("maxTrialCount", 0) >= 1,
            "parallel_trial_count": 1 <= job.get("parallelTrialCount", 0) <= job.get("maxTrialCount", 0),
            "study_spec.algorithm": study.get("algorithm") != "GRID_SEARCH"
            or not any("doubleValueSpec" in one for one in study.get("parameters", [])),
        }
    return [
        {"field": name, "description": "is missing or out of its range"}
        for name, is_there in required.items()
        if not is_there
    ]


def main(port: int, folder: Path) -> None:
    """Serve until SIGINT or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    base = "" if "STORAGE_EMULATOR_HOST" in os.environ else None
    with Service(folder, Direct(ROOT), base, port) as service:
        print(service.address, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        main(int(sys.argv[1]), Path(sys.argv[2]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(int(sys.argv[1]) if sys.argv[1:] else 0, Path(folder))
