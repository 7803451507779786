"""The page behind passwords, over real HTTP and HTTPS."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from authority import Authority

from edge.config import DashboardConfig
from edge.dashboard.access import ATTEMPTS, ATTEMPTS_WINDOW_S, SESSION_S, Access, TooManyAttemptsError
from edge.dashboard.app import UPDATES_PER_S
from edge.dashboard.passwords import Passwords, User, hash_password, load_passwords
from edge.dashboard.server import Dashboard
from edge.errors import ConfigError
from edge.events import Fact, LoginRefused, UserAction

PASSWORD = "correct horse battery"
HASH = hash_password(PASSWORD)
USERS: dict[str, User] = {"olga": User("olga", "operator", HASH), "vera": User("vera", "viewer", HASH)}


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "passwords"
    path.write_text("".join(f"{user.name}:{user.role}:{user.password_hash}\n" for user in USERS.values()))
    return path


@pytest.fixture
def address(new_dashboard: Callable[..., Dashboard], password_file: Path) -> str:
    """Reachable from everywhere."""
    return new_dashboard(0, host="0.0.0.0", password_file=password_file).start()


@contextmanager
def answer(
    address: str, path: str, method: str = "GET", form: dict[str, str] | None = None, **headers: str
) -> Iterator[HTTPResponse]:
    connection = HTTPConnection("127.0.0.1", urlsplit(address).port, timeout=10)
    body = None if form is None else urlencode(form)
    try:
        connection.request(method, path, body, headers)
        with connection.getresponse() as response:
            yield response
    finally:
        connection.close()


def log_in(address: str, user: str, password: str = PASSWORD) -> str:
    """The cookie, as a browser sends it back."""
    with answer(address, "/login", "POST", {"user": user, "password": password}) as response:
        assert response.status == 303, response.read()
        return str(response.getheader("Set-Cookie")).split(";")[0]


def test_without_a_session_there_is_nothing_but_the_form(address: str, line: Any) -> None:
    inspection = line.publish("NG")
    with answer(address, "/") as response:
        assert (response.status, response.getheader("Location")) == (303, "/login")
    result_id = inspection.verdict.result_id
    paths = ("/events", "/session", f"/inspections/{result_id}", f"/inspections/{result_id}/frame", "/static/app.js")
    for path in (*paths, "/colour-scale", "/login/", "//login", "/static/../login"):
        with answer(address, path, Cookie="tfanet_session=guess") as response:
            assert response.status == 401, path
            assert result_id.encode() not in response.read()
    for path in ("/counters/anew", "/logout"):
        with answer(address, path, "POST") as response:
            assert response.status == 401, path
    with answer(address, "/login") as response:
        assert response.status == 200
        assert b'action="/login"' in response.read()
        assert "form-action 'self'" in response.getheader("Content-Security-Policy", "")
        assert response.getheader("X-Frame-Options") == "DENY"


def test_a_cookie_lets_in_until_log_out(address: str) -> None:
    with answer(address, "/login", "POST", {"user": "vera", "password": PASSWORD}) as response:
        attributes = str(response.getheader("Set-Cookie")).lower()
        assert "httponly" in attributes
        assert "samesite=strict" in attributes
        assert "secure" not in attributes
    cookie = log_in(address, "vera")
    for path in ("/", "/static/app.js"):
        with answer(address, path, Cookie=cookie) as response:
            assert response.status == 200
    with answer(address, "/session", Cookie=cookie) as response:
        assert json.loads(response.read()) == {"user": "vera", "role": "viewer"}
    with answer(address, "/events", Cookie=cookie) as stream:
        assert stream.status == 200
        assert stream.readline()
        with answer(address, "/logout", "POST", Cookie=cookie) as response:
            assert response.status == 303
        while stream.readline():  # live updates end too
            pass
    with answer(address, "/session", Cookie=cookie) as response:
        assert response.status == 401


def test_only_an_operator_starts_a_new_count(address: str, line: Any) -> None:
    line.publish("NG")
    viewer, operator = log_in(address, "vera"), log_in(address, "olga")

    def total(cookie: str) -> int:
        with answer(address, "/events", Cookie=cookie) as stream:
            while not (text := stream.readline()).startswith(b"data: "):
                pass
        return sum(json.loads(text[6:])["counts"].values())

    for cookie, status, expected in ((viewer, 403, 1), (operator, 204, 0)):
        with answer(address, "/counters/anew", "POST", Cookie=cookie) as response:
            assert response.status == status
        time.sleep(1 / UPDATES_PER_S)
        assert total(cookie) == expected
    with answer(address, "/counters/anew", Cookie=operator) as response:
        assert response.status == 405


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
def test_another_page_cannot_use_the_cookie(address: str, origin: str) -> None:
    cookie = log_in(address, "olga")
    with answer(address, "/counters/anew", "POST", Cookie=cookie, Origin=origin) as response:
        assert response.status == 403
    own = f"http://127.0.0.1:{urlsplit(address).port}"
    with answer(address, "/counters/anew", "POST", Cookie=cookie, Origin=own) as response:
        assert response.status == 204


def test_attempts_are_limited(address: str) -> None:
    for _ in range(ATTEMPTS):
        with answer(address, "/login", "POST", {"user": "olga", "password": "guess"}) as response:
            assert response.status == 401
            assert response.getheader("Set-Cookie") is None
    with answer(address, "/login", "POST", {"user": "olga", "password": PASSWORD}) as response:
        assert response.status == 429
        assert response.getheader("Retry-After") == "60"


@pytest.mark.parametrize("body", [b"", b"user=a", b"\xff", b"user=a&password=" + b"x" * 3000, b"&" * 100])
def test_what_is_no_form_is_refused(address: str, body: bytes) -> None:
    connection = HTTPConnection("127.0.0.1", urlsplit(address).port, timeout=10)
    connection.request("POST", "/login", body)
    assert connection.getresponse().status == 400
    connection.close()


def test_limits_and_sessions_end_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def check_at_once(_self: Passwords, name: str, password: str) -> User | None:
        return USERS[name] if password == PASSWORD else None

    monkeypatch.setattr(Passwords, "check", check_at_once)
    now_s = [0.0]
    facts: list[Fact] = []
    access = Access(Passwords(USERS), lambda: now_s[0], facts.append)
    token = access.log_in("a", "olga", PASSWORD)
    for _ in range(ATTEMPTS):
        assert access.log_in("a", "olga", "wrong") is None
    with pytest.raises(TooManyAttemptsError):
        access.log_in("a", "olga", PASSWORD)
    assert facts == [
        UserAction(kind="login", user="olga", role="operator", address="a"),
        *[LoginRefused(address="a", reason="wrong name or password")] * ATTEMPTS,
        LoginRefused(address="a", reason="too many attempts"),
    ]
    assert access.log_in("b", "olga", PASSWORD) is not None
    now_s[0] = ATTEMPTS_WINDOW_S + 1
    assert access.log_in("a", "olga", PASSWORD) is not None
    assert access.session(token) is not None
    now_s[0] = SESSION_S + 1
    assert access.session(token) is None


def test_memory_for_addresses_and_sessions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Passwords, "check", lambda _self, name, _password: USERS.get(name))
    access = Access(Passwords(USERS))
    tokens = [access.log_in(str(number), "olga" if number < 100 else "nobody", "") for number in range(3000)]
    alive = [access.session(token) is not None for token in tokens[:100]]
    assert alive == [False] * 36 + [True] * 64
    assert len(access._attempts) <= 1024


def test_a_name_that_does_not_exist_is_checked_like_one_that_does() -> None:
    passwords = Passwords(USERS)
    assert passwords.check("olga", PASSWORD) is USERS["olga"]
    assert passwords.check("nobody", "") is None
    assert passwords.check("", PASSWORD) is None


def test_beyond_this_machine_a_password_file_is_needed() -> None:
    with pytest.raises(ValueError, match=r"0\.0\.0\.0 can be reached from other machines"):
        DashboardConfig.model_validate({"host": "0.0.0.0"})
    DashboardConfig.model_validate({"host": "127.0.0.1"})


@pytest.mark.parametrize(
    "line_",
    [
        "olga",
        f"olga:boss:{HASH}",
        f"ol ga:viewer:{HASH}",
        f"olga:viewer:{HASH}:x",
        f"a:viewer:{HASH[:-8]}",
        "a:viewer:$$",
        "é",
    ],
    ids=["no_role", "role", "name", "rest", "short", "empty", "letter"],
)
def test_a_malformed_password_file_is_refused_with_its_line(tmp_path: Path, line_: str) -> None:
    path = tmp_path / "passwords"
    path.write_text(f"# a comment\n{line_}\n")
    with pytest.raises(ConfigError, match=r"line 2|ASCII") as error:
        load_passwords(path)
    assert HASH not in str(error.value)
    path.write_text("\n")
    with pytest.raises(ConfigError, match="names nobody"):
        load_passwords(path)


def test_the_command_makes_the_file_and_shows_no_password(tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    command = [sys.executable, "-m", "edge.dashboard.passwords", str(path)]
    for name, role in (("olga", "viewer"), ("olga", "operator")):
        done = subprocess.run([*command, name, role], input=f"{PASSWORD}\n", capture_output=True, text=True, check=True)
        assert PASSWORD not in done.stdout + done.stderr
    assert path.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in path.read_text()
    user = load_passwords(path).check("olga", PASSWORD)
    assert user is not None
    assert user.role == "operator"
    short = subprocess.run([*command, "x", "viewer"], input="short\n", capture_output=True, text=True, check=False)
    assert short.returncode == 2


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the program openssl")
def test_https(new_dashboard: Callable[..., Dashboard], password_file: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca", "plant")
    certificate = authority.issue("page", "IP:127.0.0.1")
    options = {"password_file": password_file, "cert_file": certificate.cert}
    address = new_dashboard(0, key_file=certificate.key, **options).start()
    assert address.startswith("https://")
    context = ssl.create_default_context(cafile=authority.cert)
    connection = HTTPSConnection("127.0.0.1", urlsplit(address).port or 0, timeout=10, context=context)
    connection.request("POST", "/login", urlencode({"user": "olga", "password": PASSWORD}))
    response = connection.getresponse()
    assert response.status == 303
    assert "secure" in str(response.getheader("Set-Cookie")).lower()
    connection.close()
    with pytest.raises(ConfigError, match=r"dashboard\.cert_file"):
        new_dashboard(0, key_file=password_file, **options).start()


def test_an_address_of_another_machine_is_named(new_dashboard: Callable[..., Dashboard], password_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1:.*dashboard\.host"):
        new_dashboard(0, host="192.0.2.1", password_file=password_file).start()
