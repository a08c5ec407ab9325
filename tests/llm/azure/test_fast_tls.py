"""TLS on both transports, against a server with a certificate of its own."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import which

import httpx2
import pytest

from loom_py.llm.azure.sockets import use_asyncio_sockets

pytestmark = pytest.mark.skipif(which("openssl") is None, reason="makes its certificate with openssl")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    made, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, "-keyout", key, "-out", made], check=True, capture_output=True)
    return made, key


@asynccontextmanager
async def serving(certificate: tuple[Path, Path], *, silent: bool = False) -> AsyncIterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                body = b"x" * 300_000
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = (
        await asyncio.start_server(wait, "localhost")
        if silent
        else await asyncio.start_server(answer, "localhost", ssl=context)
    )
    async with server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}/"


def by_asyncio(trusted: ssl.SSLContext) -> httpx2.AsyncClient:
    client = httpx2.AsyncClient(verify=trusted)
    use_asyncio_sockets(client)
    return client


def by_aiohttp(trusted: ssl.SSLContext) -> httpx2.AsyncClient:
    pytest.importorskip("aiohttp")
    from loom_py.llm.azure.aiohttp_transport import AiohttpTransport

    return httpx2.AsyncClient(transport=AiohttpTransport(trusted, connections=10, keepalive=5))


Make = Callable[[ssl.SSLContext], httpx2.AsyncClient]
BOTH = pytest.mark.parametrize("make", [by_asyncio, by_aiohttp])


@BOTH
async def test_an_answer_comes_whole_through_tls_and_the_connection_is_used_again(
    make: Make, certificate: tuple[Path, Path]
) -> None:
    trusted = ssl.create_default_context(cafile=certificate[0])
    async with serving(certificate) as url, make(trusted) as client:
        for _ in range(3):
            assert (await client.get(url)).content == b"x" * 300_000


@BOTH
async def test_a_certificate_nobody_vouches_for_is_a_failure_to_connect(
    make: Make, certificate: tuple[Path, Path]
) -> None:
    async with serving(certificate) as url, make(ssl.create_default_context()) as client:
        with pytest.raises(httpx2.ConnectError, match=r"(?i)certificate"):
            await client.get(url)


@BOTH
async def test_a_server_that_never_shakes_hands_is_a_timeout_of_connecting(
    make: Make, certificate: tuple[Path, Path]
) -> None:
    timeout = httpx2.Timeout(20, connect=0.5)
    async with serving(certificate, silent=True) as url, make(ssl.create_default_context()) as client:
        with pytest.raises(httpx2.ConnectTimeout):
            await asyncio.wait_for(client.get(url, timeout=timeout), 10)
