"""`BedrockEmulator`: the emulator's public face."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, cast

from loom_bedrock.emulator.app import BedrockApp, RecordedCall
from loom_bedrock.emulator.exceptions import BedrockException, RawAnswer
from loom_bedrock.emulator.faults import Fault
from loom_bedrock.emulator.signature import Account
from loom_py.emulator.echo import EchoProvider
from loom_py.emulator.limits import Limits
from loom_py.emulator.server_thread import ServerThread
from loom_py.llm.provider import LLMProvider

__all__ = ["BedrockEmulator"]

ACCESS_KEY_ID = "AKIDEMULATOR00000000"
SECRET_ACCESS_KEY = "emulator/secret/access/key/of/nobody0000"  # noqa: S105 - the emulator's own


class BedrockEmulator:
    """A loopback Bedrock runtime whose model is any `LLMProvider`.

    ::

        with BedrockEmulator(ScriptedProvider(["Hello!"])) as bedrock:
            provider = BedrockProvider(model="us.amazon.nova-lite-v1:0", **bedrock.settings)

    Args:
        engine: the model that answers; without one the user's words are echoed. Where the metadata of
            its response has ``reasoning``, that is sent signed, and demanded back with a tool's result.
        models: ids that exist; any do, unless given.
        region: of AWS, which signatures must name.
        access_key_id: the key that may call.
        secret_access_key: its secret.
        session_token: the token that requests must bring, of temporary credentials.
        event_delay: seconds to wait between the events of a stream.
        host: where to listen; loopback by default, and there is no encryption.
        port: where to listen; 0 takes a free port.
    """

    def __init__(
        self,
        engine: LLMProvider | None = None,
        *,
        models: Collection[str] | None = None,
        region: str = "us-east-1",
        access_key_id: str = ACCESS_KEY_ID,
        secret_access_key: str = SECRET_ACCESS_KEY,
        session_token: str | None = None,
        event_delay: float = 0.0,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.host = host
        self._port = port
        self._account = Account(access_key_id, secret_access_key, session_token, region)
        self._app = BedrockApp(
            engine or EchoProvider(),
            self._account,
            None if models is None else frozenset(models),
            event_delay,
        )
        self._server: ServerThread | None = None

    def __repr__(self) -> str:
        where = "not running" if self._server is None else self.endpoint_url
        return f"BedrockEmulator({where})"

    # ── running ──────────────────────────────────────────────────────────────────────────

    def start(self) -> Self:
        """Listen. Raises `OSError` if the port is taken."""
        if self._server is None:
            app = cast("Any", self._app)  # the thread serves any application that can be aborted
            self._server = ServerThread(app, self.host, self._port, Limits(1000, 65_536))
        return self

    def stop(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def endpoint_url(self) -> str:
        """Where it listens. Raises `RuntimeError` while it does not."""
        if self._server is None:
            raise RuntimeError("the emulator is not running: use it in a with statement, or call start()")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self._server.port}"

    @property
    def settings(self) -> dict[str, Any]:
        """What a `BedrockProvider` needs to call it, beside the model."""
        account = self._account
        return {
            "region": account.region,
            "endpoint_url": self.endpoint_url,
            "access_key_id": account.access_key_id,
            "secret_access_key": account.secret_access_key,
            "session_token": account.session_token,
        }

    # ── what it saw ──────────────────────────────────────────────────────────────────────

    @property
    def calls(self) -> Sequence[RecordedCall]:
        """The requests that passed every check, in order."""
        return tuple(self._app.calls)

    @property
    def received(self) -> int:
        """How many requests arrived, refused ones included."""
        return self._app.received

    @property
    def hung_up(self) -> int:
        """How many clients hung up before their answer was whole."""
        return self._app.hung_up

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return 0 if self._server is None else self._server.connections

    # ── trouble ──────────────────────────────────────────────────────────────────────────

    def fail(
        self,
        code: str,
        message: str | None = None,
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        after_events: int | None = None,
        times: int = 1,
    ) -> None:
        """Answer the next requests with an exception such as ``ThrottlingException``.

        With ``after_events`` a stream begins, and the exception comes in the middle of it.
        """
        error = BedrockException(code, message, status=status, headers=headers)
        self._app.faults.add(Fault(error, after_events=after_events), times)

    def drop(self, *, after_events: int | None = None, times: int = 1) -> None:
        """Drop the connection of the next requests, without an answer or in the middle of a stream."""
        self._app.faults.add(Fault(dropped=True, after_events=after_events), times)

    def delay(self, seconds: float, *, times: int = 1) -> None:
        """Let the next requests wait before anything else happens to them."""
        self._app.faults.add(Fault(delay=seconds), times)

    def answer(
        self, body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None, times: int = 1
    ) -> None:
        """Answer the next requests with these bytes, as a proxy in between would."""
        self._app.faults.add(Fault(RawAnswer(status, body, headers)), times)

    def expire_credentials(self) -> None:
        """From now on the credentials have expired."""
        self._app.expired = True
