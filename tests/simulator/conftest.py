from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from simulator.build import build


class ClientError(Exception):
    """What the client's library raised: `kind` is its class."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)
        self.kind = kind


class RemoteClient:
    """Calls the methods of harvesters_client.Client in its process."""

    def __init__(self, producer: Path, cameras: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("harvesters_client.py")), str(producer)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "REPLAY_CAMERAS": str(cameras)},
        )

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            pickle.dump((method, arguments), self.process.stdin)
            self.process.stdin.flush()
            outcome, value = pickle.load(self.process.stdout)
            if outcome != "done":
                raise ClientError(outcome, value)
            return value

        return call

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=10)


@pytest.fixture(scope="session")
def producer() -> Path:
    return build()


@pytest.fixture
def cameras(tmp_path: Path) -> Path:
    """The directory that REPLAY_CAMERAS names."""
    return tmp_path / "cameras"


@pytest.fixture
def client_error() -> type[ClientError]:
    return ClientError


@pytest.fixture
def start_client(producer: Path, cameras: Path) -> Iterator[Callable[[], RemoteClient]]:
    started: list[RemoteClient] = []

    def start() -> RemoteClient:
        started.append(RemoteClient(producer, cameras))
        return started[-1]

    yield start
    for client in started:
        client.kill()


@pytest.fixture
def client(start_client: Callable[[], RemoteClient]) -> RemoteClient:
    return start_client()
