"""Logging in and out of the page, and what only an operator may do."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from edge.dashboard.access import ATTEMPTS_WINDOW_S, SESSION_S, Access, Session, TooManyAttemptsError

_COOKIE = "tfanet_session"
_FORM_MAX_BYTES = 2048


def session_of(access: Access, request: Request) -> Session | None:
    """Who asks; None when it is nobody."""
    return access.session(request.cookies.get(_COOKIE))


def login_routes(
    access: Access | None, page: bytes, count_anew: Callable[[], None], *, is_encrypted: bool
) -> list[Route]:
    """The routes; none without passwords.

    Args:
        access: sessions and passwords.
        page: the form.
        count_anew: an operator's command.
        is_encrypted: whether the page is HTTPS, so that the cookie is for HTTPS only.
    """
    if access is None:
        return []

    async def form(_: Request) -> Response:
        return Response(page, media_type="text/html")

    async def log_in(request: Request) -> Response:
        fields = await _form(request)
        if fields is None:
            return PlainTextResponse("not a login form", status_code=400)
        try:
            token = await run_in_threadpool(access.log_in, _address_of(request), *fields)
        except TooManyAttemptsError:
            wait = {"Retry-After": f"{ATTEMPTS_WINDOW_S:.0f}"}
            return PlainTextResponse("too many attempts; wait a minute", status_code=429, headers=wait)
        if token is None:
            return PlainTextResponse("wrong name or password", status_code=401)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(_COOKIE, token, max_age=int(SESSION_S), httponly=True, samesite="strict", secure=is_encrypted)
        return answer

    async def log_out(request: Request) -> Response:
        access.log_out(_address_of(request), request.cookies.get(_COOKIE))
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(_COOKIE, httponly=True, samesite="strict", secure=is_encrypted)
        return answer

    async def start_anew(request: Request) -> Response:
        session = session_of(access, request)
        if session is None or session.role != "operator":
            return PlainTextResponse("for operators", status_code=403)
        count_anew()
        access.note("counters_reset", session, _address_of(request))
        return Response(status_code=204)

    return [
        Route("/login", form, methods=["GET"]),
        Route("/login", log_in, methods=["POST"]),
        Route("/logout", log_out, methods=["POST"]),
        Route("/counters/anew", start_anew, methods=["POST"]),
    ]


def _address_of(request: Request) -> str:
    return request.client.host if request.client else ""


async def _form(request: Request) -> tuple[str, str] | None:
    """Name and password of a form that is no larger than it need be."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _FORM_MAX_BYTES:
            return None
    try:
        fields = parse_qs(body.decode("ascii"), strict_parsing=True, max_num_fields=4, errors="replace")
        return fields["user"][0], fields["password"][0]
    except (ValueError, LookupError):
        return None
