"""Who may see the page: a file of names, roles and salted scrypt hashes.

python -m edge.dashboard.passwords FILE USER ROLE    add or change one; asks for the password
"""

from __future__ import annotations

import base64
import binascii
import getpass
import hashlib
import hmac
import os
import re
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from edge.errors import ConfigError

Role = Literal["viewer", "operator"]

PASSWORD_MAX_BYTES = 256
PASSWORD_MIN_CHARS = 10
_SCHEME = "scrypt-15-8-1"  # log2(n), r, p
_MEMORY_BYTES = 64 * 2**20  # it takes 32 MiB
_SALT_BYTES = 16
_HASH_BYTES = 32
_FILE_MAX_BYTES = 65536
_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,32}")


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may log in; `viewer` looks, `operator` also starts a new count."""

    name: str
    role: Role
    password_hash: str


def hash_password(password: str) -> str:
    """A salted hash that `Passwords.check` takes."""
    salt = os.urandom(_SALT_BYTES)
    return "$".join((_SCHEME, *(base64.b64encode(part).decode() for part in (salt, _scrypt(password, salt)))))


class Passwords:
    """The users of a file."""

    def __init__(self, users: dict[str, User]) -> None:
        self._users = users
        self._nobody = User("", "viewer", hash_password(os.urandom(8).hex()))
        self._one_at_a_time = threading.Lock()  # each takes 32 MiB

    def check(self, name: str, password: str) -> User | None:
        """The user, when the password is right. It takes as long for a name that does not exist."""
        user = self._users.get(name, self._nobody)
        _, salt, expected = user.password_hash.split("$")
        with self._one_at_a_time:
            actual = _scrypt(password, base64.b64decode(salt))
        is_right = hmac.compare_digest(actual, base64.b64decode(expected))
        return user if is_right and name in self._users else None


def load_passwords(path: Path) -> Passwords:
    """Read the file.

    Raises:
        ConfigError: it cannot be read, has a malformed line, or nobody in it.
    """
    users = _read(path)
    if not users:
        raise ConfigError(f"password file '{path}' names nobody", _remedy(path))
    return Passwords(users)


def _read(path: Path) -> dict[str, User]:
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_MAX_BYTES + 1)
        lines = content.decode("ascii").splitlines()
    except OSError as error:
        raise ConfigError(f"password file '{path}' cannot be read ({error.strerror})", _remedy(path)) from error
    except UnicodeDecodeError:
        raise ConfigError(f"password file '{path}' is not ASCII", _remedy(path)) from None
    if len(content) > _FILE_MAX_BYTES:
        raise ConfigError(f"password file '{path}' has more than {_FILE_MAX_BYTES} bytes", _remedy(path))
    users: dict[str, User] = {}
    for number, line in enumerate(lines, 1):
        if line and not line.startswith("#"):
            user = _parse(line)
            if user is None or user.name in users:
                raise ConfigError(f"password file '{path}', line {number} is malformed or repeated", _remedy(path))
            users[user.name] = user
    return users


def _parse(line: str) -> User | None:
    name, role, password_hash = [*line.split(":"), "", ""][:3]
    parts = password_hash.split("$")
    if line.count(":") != 2 or not _NAME.fullmatch(name) or role not in get_args(Role):
        return None
    if len(parts) != 3 or parts[0] != _SCHEME:
        return None
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in parts[1:])
    except binascii.Error:
        return None
    if len(salt) != _SALT_BYTES or len(digest) != _HASH_BYTES:
        return None
    return User(name, cast(Role, role), password_hash)


def _remedy(path: Path) -> str:
    return f"make it with: python -m edge.dashboard.passwords {path} NAME operator"


def _scrypt(password: str, salt: bytes) -> bytes:
    secret = password.encode("utf-8", "replace")
    return hashlib.scrypt(secret, salt=salt, n=2**15, r=8, p=1, maxmem=_MEMORY_BYTES, dklen=_HASH_BYTES)


def main(arguments: list[str]) -> int:
    """Add or change a user. Returns the exit status."""
    if len(arguments) != 3 or not _NAME.fullmatch(arguments[1]) or arguments[2] not in get_args(Role):
        print("usage: python -m edge.dashboard.passwords FILE NAME viewer|operator", file=sys.stderr)
        return 2
    path, name, role = Path(arguments[0]), arguments[1], cast(Role, arguments[2])
    password = getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    if len(password) < PASSWORD_MIN_CHARS or len(password.encode()) > PASSWORD_MAX_BYTES:
        print(f"a password has {PASSWORD_MIN_CHARS} characters to {PASSWORD_MAX_BYTES} bytes", file=sys.stderr)
        return 2
    try:
        users = _read(path) if path.exists() else {}
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    users[name] = User(name, role, hash_password(password))
    text = "".join(f"{user.name}:{user.role}:{user.password_hash}\n" for user in users.values())
    partial = path.with_name(path.name + ".part")
    partial.touch(mode=0o600)
    partial.write_text(text, encoding="ascii")
    partial.replace(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
