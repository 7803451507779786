"""The operator's page: served to this machine, or to others with passwords."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING

from edge.config import DashboardConfig, Identity
from edge.dashboard.access import Access
from edge.dashboard.page_state import StationView, page_state
from edge.dashboard.passwords import load_passwords
from edge.dashboard.pictures import Pictures
from edge.dashboard.scoreboard import Scoreboard
from edge.errors import ConfigError
from edge.events import Record, unrecorded
from edge.observer import SideChannel

if TYPE_CHECKING:
    import uvicorn

_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 5.0
_MAX_CONNECTIONS = 64

_log = logging.getLogger(__name__)


class Dashboard:
    """The page and its server thread. Counts from the moment it is made; serves between `start` and `stop`.

    Args:
        side_channel: where the inspections come from.
        station_view: how the station is doing.
        identity: where the station stands.
        pixel_threshold: the bundle's, the middle of the heat map's colour scale.
        config: where to listen, and whom to let in.
        record: told who logs in and out.
    """

    def __init__(
        self,
        side_channel: SideChannel,
        station_view: StationView,
        *,
        identity: Identity,
        pixel_threshold: float,
        config: DashboardConfig,
        record: Record = unrecorded,
    ) -> None:
        self._station_view = station_view
        self._identity = identity
        self._pixel_threshold = pixel_threshold
        self._config = config
        self._record = record
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
            ConfigError: the port is taken or not allowed, the password file or certificate cannot be used, or the
                dashboard's packages are not installed.
        """
        server = self._new_server()
        listener = _listen(str(self._config.host), self._config.port)
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
        scheme = "http" if self._config.cert_file is None else "https"
        return f"{scheme}://{self._config.host}:{listener.getsockname()[1]}/"

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

        config = self._config
        _check_certificate(config)
        access = (
            None if config.password_file is None else Access(load_passwords(config.password_file), record=self._record)
        )
        if access is not None and config.cert_file is None and not config.host.is_loopback:
            _log.warning("passwords of the page go unencrypted over the network: set dashboard.cert_file and key_file")
        feed = Feed(self._scoreboard, self._state)
        pictures = Pictures(self._scoreboard, self._pixel_threshold)
        app = build_app(
            self._scoreboard, pictures, feed, self._stopping, access, is_encrypted=config.cert_file is not None
        )
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
                ssl_certfile=config.cert_file,
                ssl_keyfile=config.key_file,
            )
        )

    def _state(self) -> dict[str, object]:
        state = page_state(self._identity, self._scoreboard.read(), self._station_view())
        return state | {"pixel_threshold": self._pixel_threshold}


def _check_certificate(config: DashboardConfig) -> None:
    if config.cert_file is None:
        return
    try:
        # Without a function for the password OpenSSL would ask for it on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(config.cert_file, config.key_file, lambda: "")
    except OSError as error:
        raise ConfigError(
            f"the dashboard cannot use certificate '{config.cert_file}' with key '{config.key_file}' ({error})",
            "check dashboard.cert_file and key_file (PEM, the key without a password)",
        ) from error


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise ConfigError(
            f"the dashboard cannot listen on {host}:{port} ({error.strerror})",
            "dashboard.host is an address of this machine; set dashboard.port to another port, or to 0 for a free one",
        ) from error
