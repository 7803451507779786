"""Writing GenICam features: in order, each read back, refusals in words a person can act on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from genicam import genapi

from edge.config import FeatureValue, TriggerConfig
from edge.errors import CameraSetupError

# Names of the Standard Features Naming Convention 2.x and what cameras of 1.x call the same quantity in the same unit.
OLDER_NAMES = {
    "AcquisitionFrameRate": "AcquisitionFrameRateAbs",
    "BlackLevel": "BlackLevelAbs",
    "ExposureTime": "ExposureTimeAbs",
    "Gain": "GainAbs",
    "LineDebouncerTime": "LineDebouncerTimeAbs",
    "TriggerDelay": "TriggerDelayAbs",
}
_USER_SET_FEATURES = frozenset({"UserSetSelector", "UserSetLoad"})
FLOAT_TOLERANCE = 0.01
COMMAND_TIMEOUT_S = 5.0
# What a node says of a value that it does not take; ValueError and OverflowError are of infinity and NaN.
_UNFIT = (
    genapi.OutOfRangeException,
    genapi.InvalidArgumentException,
    genapi.AccessException,
    genapi.PropertyException,
    TypeError,
    ValueError,
    OverflowError,
)
ABSENT = (genapi.EAccessMode.NI, genapi.EAccessMode.NA)


def find_feature(nodes: Any, name: str) -> Any | None:
    """The feature's node under its present or its older name; None when the camera has neither."""
    older = OLDER_NAMES.get(name, name)
    newer = next((new for new, old in OLDER_NAMES.items() if old == name), name)
    for candidate in (name, older, newer):
        if nodes.has_node(candidate):
            node = nodes.get_node(candidate)
            if node.get_access_mode() not in ABSENT:
                return getattr(nodes, candidate)
    return None


def write_settings(nodes: Any, features: Mapping[str, FeatureValue], trigger: TriggerConfig) -> None:
    """Write trigger and features; a user set among them is loaded before all else.

    Raises:
        CameraSetupError: as `write_features` and `write_trigger`.
    """
    if find_feature(nodes, "AcquisitionMode") is not None:
        write_feature(nodes, "AcquisitionMode", "Continuous")
    # A user set loaded later would undo the trigger.
    first = {name: value for name, value in features.items() if name in _USER_SET_FEATURES}
    write_features(nodes, first)
    write_trigger(nodes, trigger, features)
    write_features(nodes, {name: features[name] for name in features if name not in first})


def write_features(nodes: Any, features: Mapping[str, FeatureValue]) -> None:
    """Write every feature in order and read it back.

    A float may come back within its increment or 1 %, for cameras round to what their clock can do.

    Raises:
        CameraSetupError: the camera has no such feature, refused the value, or kept another.
    """
    for name, wanted in features.items():
        write_feature(nodes, name, wanted)


def write_feature(nodes: Any, name: str, wanted: FeatureValue) -> None:
    """Write one feature and read it back; a command is executed when `wanted` is true.

    Raises:
        CameraSetupError: as `write_features`.
    """
    node = find_feature(nodes, name)
    if node is None:
        raise CameraSetupError(f"the camera has no feature '{name}'", "check its spelling in the camera's manual")
    try:
        if isinstance(node, genapi.ICommand):
            _execute(node, name, wanted)
            return
        if isinstance(node, genapi.ICategory):
            raise TypeError("it is a category of features")
        got = _read(node)
        if got != wanted:  # what cannot be written may be right already
            node.value = _converted(node, wanted)
            got = _read(node)
    except _UNFIT as error:
        reason = str(error).split(" : ")[0].rstrip(".")
        raise CameraSetupError(f"feature '{name}' does not take {wanted!r} ({reason})", _allowed(node)) from error
    if not _took(node, wanted, got):
        raise CameraSetupError(f"feature '{name}' was set to {wanted!r} but reads {got!r}", _allowed(node))


def write_trigger(nodes: Any, trigger: TriggerConfig, features: Mapping[str, FeatureValue]) -> None:
    """Make the camera expose on the software trigger, on a line, or freely; other triggers are switched off.

    `features` are those that will be written afterwards: an edge named there is not overwritten here.

    Raises:
        CameraSetupError: the camera cannot be triggered this way.
    """
    has_trigger = find_feature(nodes, "TriggerMode") is not None
    if trigger.mode == "free_run":
        if has_trigger:
            _switch_triggers_off(nodes)
        return
    if not has_trigger or (trigger.mode == "software" and find_feature(nodes, "TriggerSoftware") is None):
        raise CameraSetupError(
            f"the camera has no trigger, so it cannot run with trigger.mode = '{trigger.mode}'",
            "set trigger.mode = 'free_run', or use another camera",
        )
    _switch_triggers_off(nodes)
    if find_feature(nodes, "TriggerSelector") is not None:
        write_feature(nodes, "TriggerSelector", "FrameStart")
    write_feature(nodes, "TriggerMode", "On")
    write_feature(nodes, "TriggerSource", "Software" if trigger.mode == "software" else trigger.line)
    if trigger.mode == "line" and "TriggerActivation" not in features and find_feature(nodes, "TriggerActivation"):
        write_feature(nodes, "TriggerActivation", "RisingEdge")


def available_entries(node: Any) -> list[str]:
    """The values that an enumeration takes now."""
    return [entry.symbolic for entry in node.entries if entry.get_access_mode() not in ABSENT]


def _switch_triggers_off(nodes: Any) -> None:
    selector = find_feature(nodes, "TriggerSelector")
    for entry in available_entries(selector) if selector is not None else [None]:
        if entry is not None:
            write_feature(nodes, "TriggerSelector", entry)
        if find_feature(nodes, "TriggerMode") is not None:
            write_feature(nodes, "TriggerMode", "Off")


def _read(node: Any) -> FeatureValue | None:
    readable = node.get_access_mode() in (genapi.EAccessMode.RO, genapi.EAccessMode.RW)
    return node.get_value(ignore_cache=True) if readable else None


def _execute(node: Any, name: str, wanted: FeatureValue) -> None:
    if wanted is not True:
        raise TypeError("it is a command, executed by the value true")
    node.execute()
    deadline_s = time.monotonic() + COMMAND_TIMEOUT_S
    while not node.is_done():
        if time.monotonic() > deadline_s:
            raise CameraSetupError(f"command '{name}' was not done after {COMMAND_TIMEOUT_S:g} s", "")
        time.sleep(0.001)


def _converted(node: Any, wanted: FeatureValue) -> FeatureValue:
    is_number = isinstance(wanted, int | float) and not isinstance(wanted, bool)
    if isinstance(node, genapi.IBoolean) and isinstance(wanted, bool):
        return wanted
    if isinstance(node, genapi.IInteger) and is_number and int(wanted) == wanted:
        return int(wanted)
    if isinstance(node, genapi.IFloat) and is_number:
        return float(wanted)
    if isinstance(node, genapi.IEnumeration | genapi.IString) and isinstance(wanted, str):
        return wanted
    raise TypeError(f"it is of type {type(node).__name__[1:].lower()}")


def _took(node: Any, wanted: FeatureValue, got: FeatureValue | None) -> bool:
    if not isinstance(node, genapi.IFloat) or got is None:
        return got == wanted
    increment = node.inc if node.has_inc() else 0.0
    return abs(float(got) - float(wanted)) <= max(increment, FLOAT_TOLERANCE * abs(float(wanted)))


def _allowed(node: Any) -> str:
    if isinstance(node, genapi.IInteger):
        return f"give an integer from {node.min} to {node.max} in steps of {node.inc}"
    if isinstance(node, genapi.IFloat):
        return f"give a number from {node.min:g} to {node.max:g}"
    if isinstance(node, genapi.IEnumeration):
        return f"give one of {', '.join(available_entries(node))}"
    if isinstance(node, genapi.IBoolean):
        return "give true or false"
    return "give the value true" if isinstance(node, genapi.ICommand) else "give a text"
