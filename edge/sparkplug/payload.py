"""Sparkplug B payloads: Protocol Buffers by the field numbers of the specification's `sparkplug_b.proto`.

Source: Eclipse Sparkplug 3.0.0, 6.4.1. Only what an edge node of flat metrics needs is described; other fields of a
received payload are skipped, as Protocol Buffers has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from edge.errors import MessageError

Value = bool | int | float | str

_SIGNED = (1, 2, 3, 4)
_BITS = {"int_value": 32, "long_value": 64}
_PACKAGE = "org.eclipse.tahu.protobuf"
_Field = FieldDescriptorProto
_PAYLOAD = (("timestamp", 1, _Field.TYPE_UINT64), ("seq", 3, _Field.TYPE_UINT64))
_METRIC = (
    ("name", 1, _Field.TYPE_STRING),
    ("alias", 2, _Field.TYPE_UINT64),
    ("timestamp", 3, _Field.TYPE_UINT64),
    ("datatype", 4, _Field.TYPE_UINT32),
    ("is_historical", 5, _Field.TYPE_BOOL),
    ("is_null", 7, _Field.TYPE_BOOL),
)
_VALUES = (
    ("int_value", 10, _Field.TYPE_UINT32),
    ("long_value", 11, _Field.TYPE_UINT64),
    ("float_value", 12, _Field.TYPE_FLOAT),
    ("double_value", 13, _Field.TYPE_DOUBLE),
    ("boolean_value", 14, _Field.TYPE_BOOL),
    ("string_value", 15, _Field.TYPE_STRING),
)


class DataType(IntEnum):
    """Of the metrics written here."""

    INT64 = 4
    UINT64 = 8
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12


@dataclass(frozen=True, slots=True)
class Metric:
    """One value.

    Attributes:
        name: None in data messages, where the alias of the birth stands for it.
        alias: None for what has a name only.
        datatype: of the specification's table; None in data messages.
        timestamp_ms: UTC, since 1970.
        value: None for null.
        is_historical: belongs to the past, and is not the metric's current value.
    """

    name: str | None
    alias: int | None
    datatype: int | None
    timestamp_ms: int | None
    value: Value | None
    is_historical: bool = False


@dataclass(frozen=True, slots=True)
class Payload:
    """A message's content; `seq` is None in a death certificate."""

    timestamp_ms: int
    seq: int | None
    metrics: tuple[Metric, ...]


def encode(payload: Payload) -> bytes:
    """The message's bytes; whole numbers go out as 64 bits."""
    message = _Message(timestamp=payload.timestamp_ms, seq=payload.seq)
    for metric in payload.metrics:
        written = message.metrics.add(
            name=metric.name, alias=metric.alias, datatype=metric.datatype, timestamp=metric.timestamp_ms
        )
        if metric.is_historical:
            written.is_historical = True
        match metric.value:
            case None:
                written.is_null = True
            case bool(flag):
                written.boolean_value = flag
            case int(number):
                written.long_value = number % (1 << 64)
            case float(number):
                written.double_value = number
            case str(text):
                written.string_value = text
    return bytes(message.SerializeToString())


def decode(data: bytes) -> Payload:
    """What the bytes say; values other than numbers, truth values and text are read as null.

    Raises:
        MessageError: this is no such message.
    """
    try:
        message = _Message.FromString(data)
        seq = message.seq if message.HasField("seq") else None
        return Payload(message.timestamp, seq, tuple(_read(metric) for metric in message.metrics))
    except (DecodeError, UnicodeDecodeError) as error:
        raise MessageError("the message is no Sparkplug B payload") from error


def _read(metric: Any) -> Metric:
    present = {name: getattr(metric, name) for name, _, _ in _METRIC if metric.HasField(name)}
    field, datatype = metric.WhichOneof("value"), present.get("datatype")
    value = None if field is None or metric.is_null else getattr(metric, field)
    # What Protocol Buffers gives for text that is none.
    if bytes in map(type, (*present.values(), value)):
        raise MessageError("the message is no Sparkplug B payload: text that is not UTF-8")
    if datatype in _SIGNED and field in _BITS and value is not None and value >> (_BITS[field] - 1):
        value -= 1 << _BITS[field]
    return Metric(
        present.get("name"), present.get("alias"), datatype, present.get("timestamp"), value, metric.is_historical
    )


def _message_class() -> Any:
    file = FileDescriptorProto(name="sparkplug_b.proto", package=_PACKAGE, syntax="proto2")
    payload = file.message_type.add(name="Payload")
    metric = payload.nested_type.add(name="Metric")
    metric.oneof_decl.add(name="value")
    optional = _Field.LABEL_OPTIONAL
    for name, number, kind in _PAYLOAD:
        payload.field.add(name=name, number=number, type=kind, label=optional)
    payload.field.add(
        name="metrics",
        number=2,
        type=_Field.TYPE_MESSAGE,
        label=_Field.LABEL_REPEATED,
        type_name=f".{_PACKAGE}.Payload.Metric",
    )
    for name, number, kind in _METRIC:
        metric.field.add(name=name, number=number, type=kind, label=optional)
    for name, number, kind in _VALUES:
        metric.field.add(name=name, number=number, type=kind, label=optional, oneof_index=0)
    # A pool of its own: another package may have registered the same names.
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Payload"))


_Message = _message_class()
