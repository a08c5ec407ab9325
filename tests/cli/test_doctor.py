"""``loom doctor``: each thing that can be wrong between here and an answer is named, with what to do."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from loom_py import AzureEmulator
from loom_py.cli.doctor import examine
from loom_py.emulator import Quota
from loom_py.llm.provider import BaseProvider
from loom_py.messages import Message, Response
from tests.cli.terminal import Loom

KEY = "emulator-key-4711-abcd"

Doctor = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def doctor(loom: Loom) -> Doctor:
    loom.environment |= {"COLUMNS": "200", "AZURE_OPENAI_API_KEY": KEY}
    return lambda *arguments, **more: loom("doctor", *arguments, more=more)


@pytest.fixture
def azure() -> Iterator[AzureEmulator]:
    quotas = {"chat": Quota(tokens_per_minute=60_000, requests_per_minute=600)}
    with AzureEmulator(deployments={"chat": "gpt-4o-2024-11-20"}, api_keys=[KEY], quotas=quotas) as azure:
        yield azure


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    (found,) = json.loads(done.stdout).values()
    return {each["step"]: each for each in found}


def test_all_is_well_and_one_call_was_made(doctor: Doctor, azure: AzureEmulator) -> None:
    done = doctor("--endpoint", azure.endpoint, "--deployment", "chat")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✓ answer   gpt-4o-2024-11-20" in done.stdout
    assert "of 60,000 a minute" in done.stdout
    assert KEY not in done.stdout
    assert len(azure.requests) == 1


def test_without_a_call_nothing_is_asked(doctor: Doctor, azure: AzureEmulator) -> None:
    done = doctor("--endpoint", azure.endpoint, "--deployment", "chat", "--no-call", "--json")
    assert done.returncode == 0
    assert findings(done)["answer"]["status"] == "skipped"
    assert azure.requests == []


@pytest.mark.parametrize(
    ("deployment", "key", "code", "said"),
    [
        ("nope", KEY, 2, "Check the deployment's name"),
        ("chat", "another-key-4711", 3, "Check that the API key belongs to this endpoint"),
    ],
)
def test_a_refusal_is_told_with_its_remedy(
    doctor: Doctor, deployment: str, key: str, code: int, said: str, azure: AzureEmulator
) -> None:
    done = doctor("--endpoint", azure.endpoint, "--deployment", deployment, AZURE_OPENAI_API_KEY=key)
    assert done.returncode == code
    assert "✗ answer" in done.stdout
    assert said in done.stdout
    assert "✓ TCP" in done.stdout


def test_a_full_quota_is_a_warning_and_counts_as_unavailable(doctor: Doctor, azure: AzureEmulator) -> None:
    azure.fail_next(429, headers={"retry-after": "7"})
    done = doctor("--endpoint", azure.endpoint, "--deployment", "chat", "--json")
    assert done.returncode == 4
    found = findings(done)["answer"]
    assert found["code"] == 4
    assert (found["status"], found["remedy"]) == ("warning", "Wait 7 s, or raise the quota.")


def test_a_host_without_an_address_ends_the_search(doctor: Doctor) -> None:
    done = doctor("--endpoint", "https://no-such-host.invalid", "--deployment", "chat", "--json")
    assert done.returncode == 4
    found = findings(done)
    assert found["DNS"]["status"] == "failed"
    assert {found[step]["status"] for step in ("TCP", "TLS", "answer")} == {"skipped"}


def test_a_closed_port_is_told(doctor: Doctor) -> None:
    with socket.socket() as held:  # bound, and not listening
        held.bind(("127.0.0.1", 0))
        done = doctor("--endpoint", f"http://127.0.0.1:{held.getsockname()[1]}", "--deployment", "chat")
    assert done.returncode == 4
    assert "Nothing listens there" in done.stdout


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "all_proxy"])
def test_the_way_through_a_proxy_is_examined_without_its_password(
    doctor: Doctor, variable: str, azure: AzureEmulator
) -> None:
    arguments = ("--endpoint", "http://127.0.0.1:1", "--deployment", "chat", "--json")
    with _proxy_to(azure) as place:
        proxy = f"http://ada:proxy-secret@{place}"
        done = doctor(*arguments, **{variable: proxy})
        straight = findings(doctor(*arguments, **{variable: proxy}, NO_PROXY="127.0.0.1"))
    found = findings(done)
    assert done.returncode == 0, done.stdout + done.stderr
    assert found["DNS"]["told"] == "through the proxy 127.0.0.1 is 127.0.0.1"
    assert found["TCP"]["told"].startswith(f"through the proxy {place} in ")
    assert found["answer"]["status"] == "ok"
    assert "proxy-secret" not in done.stdout + done.stderr
    assert (straight["TCP"]["status"], straight["answer"]["status"]) == ("failed", "skipped")


def test_a_host_that_only_the_proxy_knows_is_no_failure(doctor: Doctor, azure: AzureEmulator) -> None:
    arguments = ("--endpoint", "https://no-such-host.invalid", "--deployment", "chat", "--no-call", "--json")
    done = doctor(*arguments, HTTPS_PROXY=azure.endpoint)
    assert done.returncode == 0
    assert findings(done)["TLS"]["status"] == "skipped"


def test_a_proxy_that_is_wrong_is_told_by_its_variable(doctor: Doctor) -> None:
    arguments = ("--endpoint", "http://127.0.0.1:1", "--deployment", "chat", "--json")
    wrong = doctor(*arguments, HTTP_PROXY="http://ada:proxy-secret@127.0.0.1:99x")
    assert wrong.returncode == 2
    assert findings(wrong)["proxy"]["told"] == "HTTP_PROXY is no URL of a proxy"
    assert "proxy-secret" not in wrong.stdout + wrong.stderr
    closed = doctor(*arguments, HTTP_PROXY="127.0.0.1:1")
    assert closed.returncode == 4
    assert "is HTTP_PROXY right, and the proxy running?" in findings(closed)["TCP"]["remedy"]


def test_wrong_settings_are_told_all_at_once(doctor: Doctor) -> None:
    done = doctor("--endpoint", "ftp://x", AZURE_OPENAI_API_KEY="")
    assert done.returncode == 2
    for said in ("deployment ID is required", "endpoint must be a URL", "api_key"):
        assert said in done.stdout


def test_an_untrusted_certificate_is_told_and_a_trusted_one_is_fine(doctor: Doctor, tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path, days=90)
    with _encrypted(certificate, key) as endpoint:
        arguments = ("--endpoint", endpoint, "--deployment", "chat", "--no-call", "--json")
        strange = findings(doctor(*arguments))["TLS"]
        known = findings(doctor(*arguments, SSL_CERT_FILE=str(certificate)))["TLS"]
    assert strange["status"] == "failed"
    assert "SSL_CERT_FILE" in strange["remedy"]
    assert known["status"] == "ok"
    assert "good for 8" in known["told"]


def test_a_certificate_that_ends_soon_is_a_warning(doctor: Doctor, tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path, days=5)
    with _encrypted(certificate, key) as endpoint:
        arguments = ("--endpoint", endpoint, "--deployment", "chat", "--no-call", "--json")
        found = findings(doctor(*arguments, SSL_CERT_FILE=str(certificate)))["TLS"]
    assert found["status"] == "warning"


def test_a_port_without_encryption_is_told(doctor: Doctor, azure: AzureEmulator) -> None:
    endpoint = azure.endpoint.replace("http:", "https:")
    found = findings(doctor("--endpoint", endpoint, "--deployment", "chat", "--json"))["TLS"]
    assert (found["status"], found["remedy"]) == ("failed", "Does the port speak https?")


def test_without_any_model_it_says_so_and_does_not_examine_the_demo(doctor: Doctor) -> None:
    done = doctor(AZURE_OPENAI_API_KEY="")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no model is configured" in done.stderr


def test_a_missing_key_comes_with_the_command_that_keeps_one(doctor: Doctor, loom: Loom) -> None:
    done = doctor("--endpoint", "https://x.openai.azure.com", "--deployment", "d", AZURE_OPENAI_API_KEY="")
    assert "loom config set-key PROVIDER" in done.stdout
    (loom.folder / "a.yaml").write_text("kind: Agent\nllm: openai:gpt-4o\n", "utf-8")
    assert "loom config set-key PROVIDER" in loom("run", "a.yaml", "hi").stderr


def test_a_provider_without_an_endpoint_is_only_asked() -> None:
    class Parrot(BaseProvider):
        name = "parrot"

        def chat(self, messages: Any, tools: Any = (), *, options: Any = None) -> Response:
            return Response(Message.user("ready").text, model="grey")

    assert [each.step for each in examine(Parrot())] == ["settings", "answer"]


def _certificate(folder: Path, *, days: int) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, secret = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, secret


@contextmanager
def _proxy_to(azure: AzureEmulator) -> Iterator[str]:
    """A proxy for plain http that finds the emulator wherever it is told to go; its host and port."""

    class Proxy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            asked = urlsplit(self.path)
            service = HTTPConnection(urlsplit(azure.endpoint).netloc)
            headers = {"api-key": self.headers["api-key"], "content-type": "application/json"}
            service.request("POST", f"{asked.path}?{asked.query}", body, headers)
            answer = service.getresponse()
            told = answer.read()
            service.close()
            self.send_response(answer.status)
            self.send_header("content-type", answer.headers["content-type"])
            self.send_header("content-length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@contextmanager
def _encrypted(certificate: Path, key: Path) -> Iterator[str]:
    """A server that shakes hands, and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            try:
                context.wrap_socket(plain, server_side=True).close()
            except OSError:
                plain.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
