"""What the stand-ins share: starting in a test or as a process, the `/_control` script of misbehaviour, and `/_stats`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
import sys
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import orjson
from aiohttp import web

__all__ = ["ControlError", "HttpStandIn", "Script", "StandIn", "Step", "drop_connection", "json_response", "run"]

_START_SECONDS = 30.0


class ControlError(ValueError):
    """A control request that asks for something the stand-in does not know; answered with 400 and this text."""


@dataclass(frozen=True, slots=True)
class Step:
    """What to do with one request. Fields combine: `delay` first, then the first of drop, status, store_then_drop.

    `status` answers with `headers` and `body` (JSON) without storing anything. `drop` closes the connection without an answer;
    `store_then_drop` does so after the request took effect, which is the ambiguous failure that makes duplicates.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: object = None
    drop: bool = False
    store_then_drop: bool = False
    delay: float = 0.0


class Script:
    """Steps consumed one per request, in order; without any, requests are served as usual."""

    _FIELDS = frozenset(Step.__dataclass_fields__) | {"times", "ok"}

    def __init__(self) -> None:
        self._steps: deque[Step] = deque()

    def __len__(self) -> int:
        return len(self._steps)

    def clear(self) -> None:
        self._steps.clear()

    def extend(self, steps: Iterable[Mapping[str, Any]]) -> None:
        """Append steps; `{"ok": true}` lets one request pass and `times` repeats a step.

        Raises ControlError naming the step and its unknown key, so that a typing error cannot pass as good behaviour.
        """
        parsed: list[Step] = []
        for number, raw in enumerate(steps):
            if not isinstance(raw, Mapping):
                raise ControlError(f"script step {number} is not an object")
            unknown = set(raw) - self._FIELDS
            if unknown:
                raise ControlError(f"script step {number} has unknown keys {sorted(unknown)}; known are {sorted(self._FIELDS)}")
            values = {key: value for key, value in raw.items() if key not in {"times", "ok"}}
            if "headers" in values:
                values["headers"] = {str(name): str(value) for name, value in values["headers"].items()}
            parsed += [Step(**values)] * int(raw.get("times", 1))
        self._steps.extend(parsed)

    def next(self) -> Step:
        return self._steps.popleft() if self._steps else Step()


class StandIn:
    """A server with a life: `async with` in the caller's loop, `with` in a thread of its own, or `run` as a process."""

    host = "127.0.0.1"

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_asked: asyncio.Event | None = None

    async def start(self) -> None:
        raise NotImplementedError

    async def stop(self) -> None:
        raise NotImplementedError

    def ports(self) -> dict[str, int]:
        """Name to port of what listens; known after the start."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def __enter__(self) -> Self:
        started = threading.Event()
        failure: list[BaseException] = []

        async def serve() -> None:
            self._loop, self._stop_asked = asyncio.get_running_loop(), asyncio.Event()
            try:
                await self.start()
            except BaseException as error:  # handed to the thread that waits, which raises it
                failure.append(error)
                started.set()
                return
            started.set()
            await self._stop_asked.wait()
            await self.stop()

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), name=type(self).__name__, daemon=True)
        self._thread.start()
        if not started.wait(_START_SECONDS):
            raise TimeoutError(f"{type(self).__name__} did not start within {_START_SECONDS:.0f} s")
        if failure:
            raise failure[0]
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self._stop_asked is not None:
            self._loop.call_soon_threadsafe(self._stop_asked.set)
        if self._thread is not None:
            self._thread.join(_START_SECONDS)


class HttpStandIn(StandIn):
    """A stand-in that speaks HTTP on one port, its control and statistics on the same one."""

    max_request_bytes = 64 * 1024 * 1024

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self.port = port
        self.script = Script()
        self._tls = tls
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"

    def ports(self) -> dict[str, int]:
        return {"port": self.port}

    def routes(self) -> list[web.RouteDef]:
        raise NotImplementedError

    async def control(self, wishes: dict[str, Any]) -> None:
        """Obey the keys of `wishes` that are this stand-in's own, taking them out; what is left over is refused."""

    async def stats(self) -> dict[str, Any]:
        raise NotImplementedError

    async def start(self) -> None:
        application = web.Application(client_max_size=self.max_request_bytes)
        application.add_routes([*self.routes(), web.post("/_control", self._control), web.get("/_stats", self._stats)])
        # Bodies are inflated by the stand-ins themselves: the size on the wire is what limits and meters are about.
        self._runner = web.AppRunner(application, auto_decompress=False, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((self.host, self.port))
        except OSError as error:
            listening.close()
            await self._runner.cleanup()
            raise OSError(
                error.errno, f"{type(self).__name__} cannot listen on {self.host}:{self.port}: {error.strerror}"
            ) from error
        self.port = listening.getsockname()[1]
        await web.SockSite(self._runner, listening, ssl_context=self._tls, backlog=128).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _control(self, request: web.Request) -> web.Response:
        try:
            wishes = orjson.loads(await request.read() or b"{}")
            if not isinstance(wishes, dict):
                raise ControlError("the control document must be a JSON object")
            if wishes.pop("reset_script", False):
                self.script.clear()
            self.script.extend(wishes.pop("script", ()))
            await self.control(wishes)
            if wishes:
                raise ControlError(f"unknown keys {sorted(wishes)}")
        except (ValueError, TypeError) as error:
            return json_response({"error": str(error)}, status=400)
        return json_response({"script": len(self.script)})

    async def _stats(self, _: web.Request) -> web.Response:
        return json_response(await self.stats())


def json_response(content: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    body = orjson.dumps(content, default=str)
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


def drop_connection(request: web.Request) -> web.Response:
    """Abort the connection of `request` with a reset; the returned response goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


def run(stand_in: StandIn) -> None:
    """Serve until SIGINT or SIGTERM; prints one JSON line with the ports when listening, for a supervisor to wait on."""

    async def serve() -> None:
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):
                loop.add_signal_handler(number, asked.set)
        async with stand_in:
            sys.stdout.write(orjson.dumps({"ready": True, **stand_in.ports()}).decode() + "\n")
            sys.stdout.flush()
            await asked.wait()

    asyncio.run(serve())
