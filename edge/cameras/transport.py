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
    mode = None if stream_nodes is None else find_feature(stream_nodes, "StreamBufferHandlingMode")
    if mode is None or mode.get_access_mode() != genapi.EAccessMode.RW:
        return
    if "OldestFirst" in available_entries(mode):
        write_feature(stream_nodes, "StreamBufferHandlingMode", "OldestFirst")


class LossNotice:
    """Whether the producer says that the device may be lost: an EVENT_MODULE of the host's module for it.

    Its one standard event is DeviceLost, which some producers send only when they are asked to. What others send, too,
    makes no difference, for the device is asked then whether it answers.

    Args:
        device_nodes: of the host's module for the device; None when it has no description.
        event: an EventManagerModule; None when the producer has none.
    """

    def __init__(self, device_nodes: Any, event: Any) -> None:
        self._event = event
        selector = None if device_nodes is None else find_feature(device_nodes, "EventSelector")
        if event is not None and selector is not None and "DeviceLost" in available_entries(selector):
            write_feature(device_nodes, "EventSelector", "DeviceLost")
            write_feature(device_nodes, "EventNotification", "On")

    def has_come(self) -> bool:
        """Whether there was an event since the last call; takes about 10 µs."""
        if self._event is None:
            return False
        try:
            self._event.update_event_data(0)
        except gentl.TimeoutException:
            return False
        return True
