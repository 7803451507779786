"""Features written through GenICam's own library, to a device whose registers round, clamp and refuse."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from genicam import genapi

from edge.cameras.features import write_features, write_trigger
from edge.cameras.layout import read_layout
from edge.config import FeatureValue, TriggerConfig
from edge.errors import CameraSetupError
from edge.pixel_format import PixelFormat

HEADER = """<?xml version="1.0"?>
<RegisterDescription xmlns="http://www.genicam.org/GenApi/Version_1_1" ModelName="Registers" VendorName="tests"
 StandardNameSpace="None" SchemaMajorVersion="1" SchemaMinorVersion="1" SchemaSubMinorVersion="0" MajorVersion="1"
 MinorVersion="0" SubMinorVersion="0" ProductGuid="0" VersionGuid="0" ToolTip="">
<Port Name="Device"/>"""
REGISTER = "<Address>{address}</Address><Length>8</Length><AccessMode>RW</AccessMode><pPort>Device</pPort>"


class Registers(genapi.AbstractPort):  # type: ignore[misc]
    """Eight-byte registers; a float is stored in whole steps, an integer never above its ceiling."""

    def __init__(self) -> None:
        super().__init__()
        self.content: dict[int, bytes] = {}
        self.writes: list[int] = []
        self.step: dict[int, float] = {}
        self.ceiling: dict[int, int] = {}
        self.selector_address: int | None = None

    def _bank(self, address: int) -> int:
        if self.selector_address in (None, address):
            return address
        (selected,) = struct.unpack("<q", self.content.get(self.selector_address, bytes(8)))
        return address + 0x1000 * int(selected)

    def read(self, address: int, length: int) -> bytes:
        return self.content.get(self._bank(address), bytes(length))

    def write(self, address: int, value: bytes) -> None:
        self.writes.append(address)
        if address in self.step:
            (number,) = struct.unpack("<d", value)
            value = struct.pack("<d", round(number / self.step[address]) * self.step[address])
        if address in self.ceiling:
            value = struct.pack("<q", min(struct.unpack("<q", value)[0], self.ceiling[address]))
        self.content[self._bank(address)] = bytes(value)

    def get_access_mode(self) -> Any:
        return genapi.EAccessMode.RW


class Device:
    """A node map over registers, described feature by feature."""

    def __init__(self) -> None:
        self.registers = Registers()
        self.xml = [HEADER]
        self.addresses: dict[str, int] = {}

    def _register(self, name: str) -> str:
        self.addresses[name] = 8 * (len(self.addresses) + 1)
        return REGISTER.format(address=self.addresses[name])

    def float(self, name: str, value: float, low: float = 0, high: float = 1e6) -> Device:
        self.xml.append(
            f'<Float Name="{name}"><pValue>{name}Reg</pValue><Min>{low}</Min><Max>{high}</Max></Float>'
            f'<FloatReg Name="{name}Reg">{self._register(name)}<Endianess>LittleEndian</Endianess></FloatReg>'
        )
        self.registers.content[self.addresses[name]] = struct.pack("<d", value)
        return self

    def integer(self, name: str, value: int) -> Device:
        self.xml.append(
            f'<Integer Name="{name}"><pValue>{name}Reg</pValue><Min>1</Min><Max>4096</Max><Inc>1</Inc></Integer>'
            f'<IntReg Name="{name}Reg">{self._register(name)}<Sign>Signed</Sign>'
            "<Endianess>LittleEndian</Endianess></IntReg>"
        )
        self.registers.content[self.addresses[name]] = struct.pack("<q", value)
        return self

    def boolean(self, name: str) -> Device:
        self.xml.append(
            f'<Boolean Name="{name}"><pValue>{name}Reg</pValue></Boolean>'
            f'<IntReg Name="{name}Reg">{self._register(name)}<Sign>Signed</Sign>'
            "<Endianess>LittleEndian</Endianess></IntReg>"
        )
        return self

    def text(self, name: str) -> Device:
        self.xml.append(f'<StringReg Name="{name}">{self._register(name)}</StringReg>')
        return self

    def command(self, name: str) -> Device:
        self.xml.append(
            f'<Command Name="{name}"><pValue>{name}Reg</pValue><CommandValue>1</CommandValue></Command>'
            f'<IntReg Name="{name}Reg">{self._register(name)}<Cachable>NoCache</Cachable><Sign>Signed</Sign>'
            "<Endianess>LittleEndian</Endianess></IntReg>"
        )
        return self

    def enumeration(self, name: str, *entries: str, selects: tuple[str, ...] = ()) -> Device:
        inner = "".join(
            f'<EnumEntry Name="{entry}"><Value>{value}</Value></EnumEntry>' for value, entry in enumerate(entries)
        )
        selected = "".join(f"<pSelected>{feature}</pSelected>" for feature in selects)
        self.xml.append(
            f'<Enumeration Name="{name}">{inner}<pValue>{name}Reg</pValue>{selected}</Enumeration>'
            f'<IntReg Name="{name}Reg">{self._register(name)}<Cachable>NoCache</Cachable><Sign>Signed</Sign>'
            "<Endianess>LittleEndian</Endianess></IntReg>"
        )
        return self

    def nodes(self) -> Any:
        node_map = genapi.NodeMap()
        node_map.load_xml_from_string("".join([*self.xml, "</RegisterDescription>"]))
        node_map.connect(self.registers, "Device")
        return node_map


@pytest.fixture
def device() -> Device:
    return Device()


def test_a_float_may_be_rounded_by_the_camera(device: Device) -> None:
    nodes = device.float("ExposureTime", 1000).nodes()
    device.registers.step[device.addresses["ExposureTime"]] = 20
    write_features(nodes, {"ExposureTime": 5009})
    assert nodes.ExposureTime.value == 5000


def test_a_float_that_comes_back_far_off_is_refused(device: Device) -> None:
    nodes = device.float("ExposureTime", 1000, low=10).nodes()
    device.registers.step[device.addresses["ExposureTime"]] = 1000
    with pytest.raises(CameraSetupError, match=r"'ExposureTime' was set to 1400 but reads 1000.0: .* 10 to 1e\+06"):
        write_features(nodes, {"ExposureTime": 1400})


def test_an_integer_that_did_not_take_is_refused(device: Device) -> None:
    nodes = device.integer("Width", 64).nodes()
    device.registers.ceiling[device.addresses["Width"]] = 1000
    with pytest.raises(
        CameraSetupError, match=r"'Width' was set to 2000 but reads 1000: .* from 1 to 4096 in steps of 1"
    ):
        write_features(nodes, {"Width": 2000})


@pytest.mark.parametrize(
    ("there", "asked"), [("ExposureTimeAbs", "ExposureTime"), ("GainAbs", "Gain"), ("Gain", "GainAbs")]
)
def test_older_and_newer_names_are_the_same_feature(device: Device, there: str, asked: str) -> None:
    nodes = device.float(there, 1).nodes()
    write_features(nodes, {asked: 7})
    assert nodes.get_node(there).node.name == there
    assert getattr(nodes, there).value == 7


def test_texts_are_written(device: Device) -> None:
    nodes = device.text("DeviceUserID").nodes()
    write_features(nodes, {"DeviceUserID": "belt 1"})
    assert nodes.DeviceUserID.value == "belt 1"
    with pytest.raises(CameraSetupError, match=r"does not take 5.*give a text"):
        write_features(nodes, {"DeviceUserID": 5})


@pytest.mark.parametrize(
    ("feature", "value", "words"),
    [
        ("Width", 200.5, ["200.5", "integer", "from 1 to 4096 in steps of 1"]),
        ("Width", True, ["True", "integer"]),
        ("Gain", 1e7, ["10000000", "from 0 to 1e+06"]),
        ("Gain", "high", ["'high'", "float"]),
        ("GainAuto", 1, ["1", "enumeration", "one of Off, Once"]),
        ("GainAuto", "Twice", ["'Twice'", "one of Off, Once"]),
        ("UserSetLoad", False, ["False", "command", "the value true"]),
        ("ReverseX", "On", ["'On'", "boolean", "true or false"]),
        ("Widht", 100, ["no feature"]),
    ],
)
def test_a_refusal_names_the_value_and_what_is_allowed(
    device: Device, feature: str, value: FeatureValue, words: list[str]
) -> None:
    device.integer("Width", 64).float("Gain", 0).enumeration("GainAuto", "Off", "Once").boolean("ReverseX")
    nodes = device.command("UserSetLoad").nodes()
    with pytest.raises(CameraSetupError, match=f"'{feature}'") as refused:
        write_features(nodes, {feature: value})
    for word in words:
        assert word in str(refused.value)


def test_features_are_written_in_order(device: Device) -> None:
    nodes = device.integer("Width", 64).boolean("ReverseX").integer("Height", 48).nodes()
    device.registers.writes.clear()
    write_features(nodes, {"Height": 50, "ReverseX": True, "Width": 70})
    assert device.registers.writes == [device.addresses[name] for name in ("Height", "ReverseX", "Width")]
    assert (nodes.Height.value, nodes.ReverseX.value, nodes.Width.value) == (50, True, 70)


def test_a_command_that_never_ends_is_told(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.cameras.features.COMMAND_TIMEOUT_S", 0.05)
    with pytest.raises(CameraSetupError, match=r"'UserSetLoad' was not done after 0\.05 s"):
        write_features(device.command("UserSetLoad").nodes(), {"UserSetLoad": True})


def triggered(device: Device) -> Any:
    names = ("TriggerMode", "TriggerSource", "TriggerActivation")
    device.enumeration("TriggerSelector", "AcquisitionStart", "FrameStart", "LineStart", selects=names)
    device.enumeration("TriggerMode", "Off", "On")
    device.enumeration("TriggerSource", "Line0", "Line1", "Software")
    device.enumeration("TriggerActivation", "FallingEdge", "RisingEdge")
    device.registers.selector_address = device.addresses["TriggerSelector"]
    nodes = device.command("TriggerSoftware").nodes()
    for selector in ("AcquisitionStart", "LineStart"):  # as a camera's stored settings may have left it
        nodes.TriggerSelector.value = selector
        nodes.TriggerMode.value = "On"
    return nodes


def modes(nodes: Any) -> dict[str, str]:
    found = {}
    for selector in ("AcquisitionStart", "FrameStart", "LineStart"):
        nodes.TriggerSelector.value = selector
        found[selector] = nodes.TriggerMode.value
    nodes.TriggerSelector.value = "FrameStart"
    return found


def test_only_the_frame_trigger_is_on(device: Device) -> None:
    nodes = triggered(device)
    write_trigger(nodes, TriggerConfig(mode="software"), {})
    assert nodes.TriggerSelector.value == "FrameStart"
    assert nodes.TriggerSource.value == "Software"
    assert modes(nodes) == {"AcquisitionStart": "Off", "FrameStart": "On", "LineStart": "Off"}


def test_a_line_triggers_at_its_rising_edge(device: Device) -> None:
    nodes = triggered(device)
    write_trigger(nodes, TriggerConfig(mode="line", line="Line1"), {})
    assert (nodes.TriggerSource.value, nodes.TriggerActivation.value) == ("Line1", "RisingEdge")


def test_free_run_switches_all_triggers_off(device: Device) -> None:
    nodes = triggered(device)
    write_trigger(nodes, TriggerConfig(mode="free_run"), {})
    assert set(modes(nodes).values()) == {"Off"}


def imaging(device: Device, *formats: str, width_px: int = 640) -> Device:
    return device.integer("Width", width_px).integer("Height", 480).enumeration("PixelFormat", *formats)


@pytest.mark.parametrize(
    ("formats", "remedy"), [(("Mono14", "RGB8", "BGR8"), "one of RGB8, BGR8"), (("YUV422_8",), "use another camera")]
)
def test_a_pixel_format_that_cannot_be_read_is_refused(device: Device, formats: tuple[str, ...], remedy: str) -> None:
    with pytest.raises(CameraSetupError, match=f"'{formats[0]}'.*{remedy}"):
        read_layout(imaging(device, *formats).nodes())


def test_the_layout_is_read(device: Device) -> None:
    layout = read_layout(imaging(device, "RGB8").float("ExposureTimeAbs", 250.0).nodes())
    assert (layout.shape, layout.pixel_format, layout.exposure_us) == ((480, 640, 3), PixelFormat.RGB8, 250.0)


@pytest.mark.parametrize(
    ("pixel_format", "width_px", "multiple"),
    [("Mono10p", 642, 4), ("Mono12p", 641, 2), ("BayerGB12Packed", 641, 2), ("YCbCr422_8", 641, 2)],
)
def test_a_width_that_does_not_fill_whole_bytes_is_refused(
    device: Device, pixel_format: str, width_px: int, multiple: int
) -> None:
    nodes = imaging(device, pixel_format, width_px=width_px).nodes()
    with pytest.raises(
        CameraSetupError, match=rf"{width_px} pixels.*{pixel_format}: .*features.*multiple of {multiple},"
    ):
        read_layout(nodes)


def test_an_automatic_exposure_time_is_not_stated(device: Device) -> None:
    imaging(device, "Mono8").float("ExposureTime", 250.0).enumeration("ExposureAuto", "Continuous", "Off")
    layout = read_layout(device.nodes())
    assert (layout.shape, layout.exposure_us) == ((480, 640), None)
