"""The page's HTTP side: a few addresses, live updates, and the rules that keep other web pages and strangers out."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge import overlay
from edge.dashboard.access import Access
from edge.dashboard.login import login_routes, session_of
from edge.dashboard.page_state import View, inspection_record
from edge.dashboard.pictures import Pictures, encode
from edge.dashboard.scoreboard import Scoreboard

UPDATES_PER_S = 8
HEARTBEAT_S = 1.0

_STATIC = Path(__file__).parent / "static"
_MEDIA_TYPES = {
    "index.html": "text/html",
    "login.html": "text/html",
    "style.css": "text/css",
    "app.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
_OPEN = ("/login", "/static/style.css", "/static/icon.svg")
_HOST = re.compile(r"(127\.0\.0\.1|localhost)(:\d{1,5})?", re.IGNORECASE)
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Referrer-Policy": "same-origin",  # with none, browsers send forms without their origin
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """Who is answered at all.

    Without passwords: GET only, and only under this machine's own names (a foreign name that resolves here is DNS
    rebinding). With passwords: who has a session, which a cookie of this page alone can carry.
    """

    def __init__(self, app: ASGIApp, access: Access | None) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        refusal = self._refusal(Request(scope))
        await (self._app if refusal is None else refusal)(scope, receive, send_guarded)

    def _refusal(self, request: Request) -> Response | None:
        if self._access is not None:
            return _refusal_of_strangers(self._access, request)
        if not _HOST.fullmatch(request.headers.get("host", "")):
            return PlainTextResponse("this page is only served to 127.0.0.1 and localhost", status_code=421)
        if request.method != "GET":
            return PlainTextResponse("read only", status_code=405, headers={"Allow": "GET"})
        return None


def _refusal_of_strangers(access: Access, request: Request) -> Response | None:
    if request.method not in ("GET", "POST"):
        return PlainTextResponse("no such method", status_code=405, headers={"Allow": "GET, POST"})
    if request.method == "POST" and not _is_from_this_page(request):
        return PlainTextResponse("only from this page", status_code=403)
    path = request.scope["path"]
    if path in _OPEN or session_of(access, request) is not None:
        return None
    return RedirectResponse("/login", 303) if path == "/" else PlainTextResponse("log in first", status_code=401)


class Feed:
    """Live updates: the page state as JSON, made at most UPDATES_PER_S times a second for all pages together."""

    def __init__(self, scoreboard: Scoreboard, state: Callable[[], dict[str, object]]) -> None:
        self._scoreboard = scoreboard
        self._state = state
        self._text = ""
        self._made_monotonic_s = float("-inf")

    async def events(self, stopping: threading.Event, is_allowed: Callable[[], bool]) -> AsyncIterator[str]:
        """Server-Sent Events, one for news and one every HEARTBEAT_S without, until `stopping` or not allowed."""
        yield "retry: 1000\n\n"
        sent_total, sent_monotonic_s = -1, 0.0
        while not stopping.is_set() and is_allowed():
            total = self._scoreboard.total
            if total != sent_total or time.monotonic() - sent_monotonic_s >= HEARTBEAT_S:
                sent_total, sent_monotonic_s = total, time.monotonic()
                yield f"data: {self._newest_text()}\n\n"
            await asyncio.sleep(1 / UPDATES_PER_S)

    def _newest_text(self) -> str:
        now_s = time.monotonic()
        if now_s - self._made_monotonic_s >= 1 / UPDATES_PER_S:
            self._text = json.dumps(self._state(), allow_nan=False, separators=(",", ":"))
            self._made_monotonic_s = now_s
        return self._text


def build_app(
    scoreboard: Scoreboard,
    pictures: Pictures,
    feed: Feed,
    stopping: threading.Event,
    access: Access | None,
    *,
    is_encrypted: bool,
) -> Starlette:
    """The ASGI application. Static files are read once, so no path in a request ever reaches the disk."""
    static = {name: (_STATIC / name).read_bytes() for name in _MEDIA_TYPES}
    colour_scale = encode(overlay.colour_scale(256, 12))

    async def index(_: Request) -> Response:
        return Response(static["index.html"], media_type="text/html")

    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in static:
            return _not_found()
        return Response(static[name], media_type=_MEDIA_TYPES[name])

    async def events(request: Request) -> Response:
        def is_allowed() -> bool:
            return access is None or session_of(access, request) is not None

        return StreamingResponse(feed.events(stopping, is_allowed), media_type="text/event-stream")

    async def record(request: Request) -> Response:
        inspection = scoreboard.find(request.path_params["result_id"])
        return _not_found() if inspection is None else JSONResponse(inspection_record(inspection))

    async def picture(request: Request) -> Response:
        view = request.path_params["view"]
        if view not in get_args(View):
            return _not_found()
        jpeg = await run_in_threadpool(pictures.jpeg, request.path_params["result_id"], view)
        return _not_found() if jpeg is None else Response(jpeg, media_type="image/jpeg")

    async def session(request: Request) -> Response:
        mine = None if access is None else session_of(access, request)
        return JSONResponse(mine and {"user": mine.user, "role": mine.role})

    async def legend(_: Request) -> Response:
        return Response(colour_scale, media_type="image/jpeg")

    return Starlette(
        routes=[
            Route("/", index),
            Route("/static/{name}", asset),
            Route("/events", events),
            Route("/inspections/{result_id}", record),
            Route("/inspections/{result_id}/{view}", picture),
            Route("/colour-scale", legend),
            Route("/session", session),
            *login_routes(access, static["login.html"], scoreboard.count_anew, is_encrypted=is_encrypted),
        ],
        middleware=[Middleware(Guard, access=access)],
    )


def _is_from_this_page(request: Request) -> bool:
    """Browsers say where a POST comes from; what says nothing is no browser, and has no cookie to be misused."""
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host", "")


def _not_found() -> Response:
    return PlainTextResponse("not found", status_code=404)
