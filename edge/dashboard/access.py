"""Sessions of the page: who is logged in, and how often a wrong password may be tried."""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from edge.dashboard.passwords import PASSWORD_MAX_BYTES, Passwords, Role
from edge.events import LoginRefused, Record, UserAction, UserActionKind, unrecorded

SESSION_S = 12 * 3600.0
ATTEMPTS = 5
ATTEMPTS_WINDOW_S = 60.0

_SESSIONS_KEPT = 64
_ADDRESSES_KEPT = 1024

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Session:
    """A login that is still good."""

    user: str
    role: Role
    ends_s: float


class TooManyAttemptsError(Exception):
    """The address has to wait before the next attempt."""


class Access:
    """Checks passwords and remembers sessions, in memory: a restart logs everybody out."""

    def __init__(
        self, passwords: Passwords, now_s: Callable[[], float] = time.monotonic, record: Record = unrecorded
    ) -> None:
        self._passwords = passwords
        self._record = record
        self._now_s = now_s
        self._lock = threading.Lock()
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._attempts: OrderedDict[str, list[float]] = OrderedDict()

    def log_in(self, address: str, name: str, password: str) -> str | None:
        """A token for the cookie, or None when name or password is wrong. Takes a tenth of a second.

        Raises:
            TooManyAttemptsError: ATTEMPTS within ATTEMPTS_WINDOW_S from this address; nothing was checked.
        """
        self._count_attempt(address)
        user = self._passwords.check(name, password) if len(password.encode()) <= PASSWORD_MAX_BYTES else None
        if user is None:
            _log.warning("login refused, from %s", address)
            self._record(LoginRefused(address=address, reason="wrong name or password"))
            return None
        token = secrets.token_urlsafe(32)
        session = Session(user.name, user.role, self._now_s() + SESSION_S)
        with self._lock:
            self._attempts.pop(address, None)
            self._sessions[_key(token)] = session
            while len(self._sessions) > _SESSIONS_KEPT:
                self._sessions.popitem(last=False)
        _log.info("login of %s (%s), from %s", user.name, user.role, address)
        self.note("login", session, address)
        return token

    def session(self, token: str | None) -> Session | None:
        """Whose token it is; None when it is nobody's or too old."""
        if token is None:
            return None
        with self._lock:
            session = self._sessions.get(_key(token))
        return session if session is not None and session.ends_s > self._now_s() else None

    def log_out(self, address: str, token: str | None) -> None:
        """The token is good no more."""
        with self._lock:
            session = self._sessions.pop(_key(token or ""), None)
        if session is not None:
            self.note("logout", session, address)

    def note(self, kind: UserActionKind, session: Session, address: str) -> None:
        """Keep for the audit trail what somebody did."""
        self._record(UserAction(kind=kind, user=session.user, role=session.role, address=address))

    def _count_attempt(self, address: str) -> None:
        now_s = self._now_s()
        with self._lock:
            recent = [at_s for at_s in self._attempts.pop(address, []) if now_s - at_s < ATTEMPTS_WINDOW_S]
            if len(recent) >= ATTEMPTS:
                self._attempts[address] = recent
                self._record(LoginRefused(address=address, reason="too many attempts"))
                raise TooManyAttemptsError
            self._attempts[address] = [*recent, now_s]
            while len(self._attempts) > _ADDRESSES_KEPT:
                self._attempts.popitem(last=False)


def _key(token: str) -> bytes:
    # Looking a digest up tells nothing of a token through the time it takes.
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
