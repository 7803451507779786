"""What the shop floor may ask a station, on `cmd/{action}`; the answer is on `cmd/result`.

An action is known by name or refused. Repeating a command within the window gives the same answer and does nothing
twice; one that the broker had kept, or whose time is far from the station's, may be a recording and is refused.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Literal

from pydantic import ValidationError

from edge.errors import TfanetEdgeError
from edge.events import CommandAnswered, Record, unrecorded
from edge.mqtt.packets import Incoming
from edge.notices import Command, CommandResult
from edge.wire import utc_text

COMMAND_MAX_BYTES = 1024
WINDOW_S = 60.0
REMEMBERED = 256

Action = Callable[[], Mapping[str, float | str]]

_log = logging.getLogger(__name__)


class CommandDesk:
    """Answers commands; belongs to the thread that hands them over."""

    def __init__(
        self,
        boot_id: str,
        send: Callable[[bytes], None],
        utc_ns: Callable[[], int] = time.time_ns,
        record: Record = unrecorded,
    ) -> None:
        """Set up with no action.

        Args:
            boot_id: of the station.
            send: takes an encoded CommandResult.
            utc_ns: the clock.
            record: told of each command, though not of its repetitions.
        """
        self._boot_id = boot_id
        self._send = send
        self._utc_ns = utc_ns
        self._record = record
        self._actions: dict[str, Action] = {}
        self._answered: dict[str, tuple[float, CommandResult]] = {}

    def offer(self, name: str, action: Action) -> None:
        """Allow an action; it must return at once."""
        self._actions[name] = action

    def receive(self, incoming: Incoming) -> None:
        """Answer what came on `cmd/{action}`."""
        action = incoming.topic.rsplit("/", 1)[-1]
        if action != "result":  # the station's own, which the broker sends it as well
            self._send(self.answer(action, incoming.payload, is_retained=incoming.is_retained).encode())

    def answer(self, action: str, payload: bytes | None, *, is_retained: bool = False) -> CommandResult:
        """What becomes of one command.

        Args:
            action: last level of its topic.
            payload: a Command; None when it was too large.
            is_retained: the broker had kept it.
        """
        if payload is None:
            return self._refused(action, None, f"larger than {COMMAND_MAX_BYTES} bytes")
        try:
            command = Command.model_validate_json(payload)
            sent_s = datetime.strptime(command.ts, "%Y-%m-%dT%H:%M:%S.%f%z").timestamp()
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            return self._refused(action, None, f"not a command: {where + ': ' if where else ''}{first['msg']}")
        except (ValueError, OverflowError):
            return self._refused(action, None, "not a command: ts is no moment")
        return self._answer_known(action, command, sent_s, is_retained)

    def _answer_known(self, action: str, command: Command, sent_s: float, is_retained: bool) -> CommandResult:
        now_s = self._utc_ns() / 1e9
        self._forget(now_s)
        earlier = self._answered.get(command.command_id)
        objection = self._objection(action, now_s - sent_s, is_retained, None if earlier is None else earlier[1])
        if objection is not None:
            return self._refused(action, command, objection)
        if earlier is not None:
            return earlier[1]
        try:
            values = self._actions[action]()
        except TfanetEdgeError as error:
            return self._refused(action, command, str(error))
        result = self._result(action, command, reason=None, values=values)
        self._answered[command.command_id] = (sent_s, result)
        _log.info("command '%s' (%s) answered", action, command.command_id)
        return result

    def _objection(self, action: str, age_s: float, is_retained: bool, earlier: CommandResult | None) -> str | None:
        if is_retained:
            return "retained by the broker; publish commands without the retain flag"
        if action not in self._actions:
            return f"no such action; there are {', '.join(sorted(self._actions))}"
        if abs(age_s) > WINDOW_S:
            return f"ts is more than {WINDOW_S:g} s from the station's clock"
        if earlier is None and len(self._answered) >= REMEMBERED:
            return f"more than {REMEMBERED} commands within {WINDOW_S:g} s"
        if earlier is not None and earlier.action != action:
            return "command_id belongs to another command"
        return None

    def _forget(self, now_s: float) -> None:
        """Answers to commands that would be refused by now for their age."""
        for command_id, (sent_s, _) in [*self._answered.items()]:
            if now_s - sent_s > WINDOW_S:
                del self._answered[command_id]

    def _refused(self, action: str, command: Command | None, reason: str) -> CommandResult:
        _log.warning("command refused: %s", reason)
        return self._result(action, command, reason=reason, values={})

    def _result(
        self, action: str, command: Command | None, *, reason: str | None, values: Mapping[str, float | str]
    ) -> CommandResult:
        command_id = None if command is None else command.command_id
        result: Literal["done", "refused"] = "done" if reason is None else "refused"
        self._record(CommandAnswered(action=action, command_id=command_id, result=result, reason=reason))
        return CommandResult(
            boot_id=self._boot_id,
            ts=utc_text(self._utc_ns()),
            command_id=command_id,
            action=action,
            result=result,
            reason=reason,
            values=dict(values),
        )
