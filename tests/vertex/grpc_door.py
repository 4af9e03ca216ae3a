"""The stand-in's second door: gRPC behind TLS, as the client calls the service itself, and what hands out its tokens."""

import datetime
import ipaddress
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from google.cloud.aiplatform_v1.types import job_service
from google.protobuf import empty_pb2, json_format

from tests.vertex.service import PATH, Refusal, Service

CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
NOUNS = {"hyperparameterTuningJobs": "HyperparameterTuningJob", "customJobs": "CustomJob"}
FIELDS = {"hyperparameterTuningJobs": "hyperparameterTuningJob", "customJobs": "customJob"}
Pem = tuple[bytes, bytes]  # key and certificate


class Door:
    """`address` is an endpoint of the service; `environment` what a client needs to be let in.

    refuse: the account is not known any more.
    """

    def __init__(self, service: Service, folder: Path) -> None:
        self.service, self.refuse, self.asked = service, False, 0
        self.closing = threading.Event()
        folder.mkdir()
        key, certificate = _certificate()
        self._tokens = ThreadingHTTPServer(("127.0.0.1", 0), self._token_handler())
        self._thread = threading.Thread(target=self._tokens.serve_forever, kwargs={"poll_interval": 0.05})
        self._executor = ThreadPoolExecutor(4)
        self._server = grpc.server(self._executor)
        methods = dict(self._method(verb, kind) for kind in NOUNS for verb in ("create", "get", "list", "cancel"))
        name = "google.cloud.aiplatform.v1.JobService"
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, methods),))
        port = self._server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
        self.address = f"https://127.0.0.1:{port}"
        (folder / "roots.pem").write_bytes(certificate)
        account = {
            "type": "service_account",
            "client_email": "tester@my-project.iam.gserviceaccount.com",
            "private_key": key.decode(),
            "token_uri": f"http://127.0.0.1:{self._tokens.server_port}/token",
        }
        (folder / "account.json").write_text(json.dumps(account))
        self.environment = {
            "GOOGLE_APPLICATION_CREDENTIALS": str(folder / "account.json"),
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(folder / "roots.pem"),
            "GRPC_VERBOSITY": "NONE",
        }

    def __enter__(self) -> "Door":
        self._server.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.stop(0).wait()
        self._executor.shutdown()
        self._tokens.shutdown()
        self._tokens.server_close()
        self._thread.join()

    def _method(self, verb: str, kind: str) -> tuple[str, grpc.RpcMethodHandler]:
        name = f"{verb.title()}{NOUNS[kind]}{'s' if verb == 'list' else ''}"
        request = getattr(job_service, f"{name}Request")
        handler = grpc.unary_unary_rpc_method_handler(
            self._call(verb, kind),
            request_deserializer=request.deserialize,
            response_serializer=lambda message: message.SerializeToString(),
        )
        return name, handler

    def _call(self, verb: str, kind: str) -> Callable[[Any, grpc.ServicerContext], Any]:
        def call(request: Any, context: grpc.ServicerContext) -> Any:
            # The account's token, or one that it signed itself: the client prefers the latter.
            if not dict(context.invocation_metadata()).get("authorization", "").startswith("Bearer "):
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "who is there?")
            fault = self.service.met(verb)
            asked = json_format.MessageToDict(type(request).pb(request))
            place = asked.get("name") or f"{asked['parent']}/{kind}"
            match = PATH.fullmatch(f"/v1/{place}")
            assert match
            try:
                fault.refuse()
                body = json.dumps(asked.get(FIELDS[kind], {})).encode()
                answer = self.service.answer(verb, match[2], kind, match[4], asked, body)
            except Refusal as refusal:
                context.abort(CODES[refusal.code], refusal.message)
            self.closing.wait(fault.seconds)
            return json_format.ParseDict(answer, _answer(verb, kind))

        return call

    def _token_handler(self) -> type[BaseHTTPRequestHandler]:
        door = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                door.asked += 1
                told = (
                    {"error": "invalid_grant"} if door.refuse else {"access_token": "of this test", "expires_in": 3600}
                )
                self.send_response(400 if door.refuse else 200)
                self.end_headers()
                self.wfile.write(json.dumps(told).encode())

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


def _answer(verb: str, kind: str) -> Any:
    from google.cloud.aiplatform_v1 import types

    if verb == "cancel":
        return empty_pb2.Empty()
    cls = getattr(job_service, f"List{NOUNS[kind]}sResponse") if verb == "list" else getattr(types, NOUNS[kind])
    return cls.pb(cls())


def _certificate() -> Pem:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return private, certificate.public_bytes(serialization.Encoding.PEM)
