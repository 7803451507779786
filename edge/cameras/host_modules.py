"""The host's side of a connection: what GenTL's modules for the device and its stream can be told, and tell."""

from __future__ import annotations

from typing import Any

from genicam import genapi, gentl

from edge.cameras.features import available_entries, find_feature, write_feature


def keep_oldest_frames(stream_nodes: Any) -> None:
    """Have frames delivered in the order they were exposed, none given up for a newer one, where there is a choice.

    Each frame is a part's, and what is lost all the same, for want of a buffer, leaves a gap in the frame ids.

    Args:
        stream_nodes: of the data stream; None when it has no description.
    """
    _choose(stream_nodes, "StreamBufferHandlingMode", "OldestFirst")


class LossNotice:
    """Whether the producer says that the device may be lost: an EVENT_MODULE of the host's module for it.

    The one it is asked for is DeviceLost. What others come makes no difference, for whoever is told asks the device
    whether it answers.

    Args:
        device_nodes: of the host's module for the device; None when it has no description.
        event: an EventManagerModule; None when the producer has none.
    """

    def __init__(self, device_nodes: Any, event: Any) -> None:
        self._event = event
        if event is not None and _choose(device_nodes, "EventSelector", "DeviceLost"):
            _choose(device_nodes, "EventNotification", "On")

    def has_come(self) -> bool:
        """Whether there was an event since the last call."""
        if self._event is None:
            return False
        try:
            self._event.update_event_data(0)
        except gentl.TimeoutException:
            return False
        return True


def _choose(nodes: Any, feature: str, entry: str) -> bool:
    """Choose an enumeration's entry if it is offered; returns whether it is chosen now."""
    node = None if nodes is None else find_feature(nodes, feature)
    if node is None or entry not in available_entries(node):
        return False
    if node.get_access_mode() == genapi.EAccessMode.RW:
        write_feature(nodes, feature, entry)
    return bool(node.value == entry)
