"""The operator's page, served to this machine only."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

from edge.config import Identity
from edge.dashboard.page_state import StationView, page_state
from edge.dashboard.pictures import Pictures
from edge.dashboard.scoreboard import Scoreboard
from edge.errors import ConfigError
from edge.observer import SideChannel

if TYPE_CHECKING:
    import uvicorn

HOST = "127.0.0.1"
_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 5.0
_MAX_CONNECTIONS = 64


class Dashboard:
    """The page and its server thread. Counts from the moment it is made; serves between `start` and `stop`.

    Args:
        side_channel: where the inspections come from.
        station_view: how the station is doing.
        identity: where the station stands.
        pixel_threshold: the bundle's, the middle of the heat map's colour scale.
        port: 0 takes a free one.
    """

    def __init__(
        self,
        side_channel: SideChannel,
        station_view: StationView,
        *,
        identity: Identity,
        pixel_threshold: float,
        port: int,
    ) -> None:
        self._station_view = station_view
        self._identity = identity
        self._pixel_threshold = pixel_threshold
        self._port = port
        self._scoreboard = Scoreboard()
        self._stopping = threading.Event()
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        side_channel.attach(self._scoreboard)

    def start(self) -> str:
        """Serve in a thread of its own; to be called once.

        Returns:
            The address to open.

        Raises:
            ConfigError: the port is taken or not allowed, or the dashboard's packages are not installed.
        """
        server = self._new_server()
        listener = _listen(self._port)
        self._server = server
        self._thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listener]}, name="dashboard", daemon=True
        )
        self._thread.start()
        give_up_s = time.monotonic() + _START_TIMEOUT_S
        while not server.started:
            if not self._thread.is_alive() or time.monotonic() > give_up_s:
                listener.close()
                raise ConfigError("the dashboard did not start", "set dashboard.enabled = false to run without it")
            time.sleep(0.01)
        return f"http://{HOST}:{listener.getsockname()[1]}/"

    def stop(self) -> None:
        """End all live updates and free the port; may be called more than once."""
        self._stopping.set()
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(_STOP_TIMEOUT_S)

    def _new_server(self) -> uvicorn.Server:
        try:
            import uvicorn

            from edge.dashboard.app import Feed, build_app
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"the dashboard needs the package '{error.name}'",
                "pip install 'tfanet-edge[dashboard]', or set dashboard.enabled = false",
            ) from error

        feed = Feed(self._scoreboard, self._state)
        app = build_app(self._scoreboard, Pictures(self._scoreboard, self._pixel_threshold), feed, self._stopping)
        return uvicorn.Server(
            uvicorn.Config(
                app,
                loop="asyncio",
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                limit_concurrency=_MAX_CONNECTIONS,
                timeout_graceful_shutdown=1,
            )
        )

    def _state(self) -> dict[str, object]:
        state = page_state(self._identity, self._scoreboard.read(), self._station_view())
        return state | {"pixel_threshold": self._pixel_threshold}


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        raise ConfigError(
            f"the dashboard cannot listen on {HOST}:{port} ({error.strerror})",
            "set dashboard.port to another port, or to 0 for a free one",
        ) from error
