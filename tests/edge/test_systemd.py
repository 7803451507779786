import configparser
import os
import socket
from pathlib import Path

import pytest

from edge.engines.plan_cache import SYSTEM_CACHE
from edge.systemd import Notifier

UNIT = Path(__file__).parents[2] / "systemd" / "tfanet-edge.service"


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    name = str(tmp_path / "notify") if request.param == "path" else f"@tfanet-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name[1:] if name.startswith("@") else name)
        listening.settimeout(2)
        yield name, listening


def test_systemd_hears_of_start_progress_and_stop(manager):
    name, listening = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready()
    notifier.watchdog()
    notifier.status("Ready")
    notifier.status("Ready")
    notifier.stopping()
    heard = [listening.recv(256).decode() for _ in range(4)]
    assert heard[0].startswith("READY=1\nMAINPID=")
    assert heard[1:] == ["WATCHDOG=1", "STATUS=Ready", "STOPPING=1"]


def test_without_systemd_nothing_is_sent():
    notifier = Notifier({})
    notifier.ready()
    notifier.watchdog()
    notifier.stopping()


def test_the_service_may_use_the_plans_that_a_build_keeps():
    unit = configparser.RawConfigParser(strict=False)
    unit.read_string(UNIT.read_text())
    assert Path("/var/cache") / unit["Service"]["CacheDirectory"] == SYSTEM_CACHE
