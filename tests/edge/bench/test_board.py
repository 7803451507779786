"""Sensors: read from a made-up sysfs."""

from __future__ import annotations

import pytest

from edge.bench.board import BoardSampler, read_clocks_mhz, read_power_w


@pytest.fixture
def sysfs(tmp_path):
    def write(path, **values):
        (tmp_path / path).mkdir(parents=True, exist_ok=True)
        for name, value in values.items():
            (tmp_path / path / name).write_text(f"{value}\n")

    # A Jetson's INA3221: millivolts and milliamperes, the fourth voltage is a sum without a current.
    write(
        "class/hwmon/hwmon1",
        name="ina3221",
        in1_label="VDD_IN",
        in1_input=5000,
        curr1_input=2400,
        in2_label="VDD_CPU_GPU_CV",
        in2_input=4984,
        curr2_input=500,
        in7_label="sum of shunt voltages",
        in7_input=4,
    )
    # A monitor that multiplies itself, in microwatts; its voltage times current must not count twice.
    write("class/hwmon/hwmon2", name="ina238", power1_input=7250000, in1_input=12000, curr1_input=1000)
    write("class/hwmon/hwmon3", name="nvme", temp1_input=40000)
    write("class/hwmon/hwmon4", name="other", power1_label="VDD_IN", power1_average=1000000, power1_cap=9)
    write("devices/system/cpu/cpufreq/policy0", scaling_cur_freq=1728000)
    write("devices/system/cpu/cpufreq/policy4", scaling_cur_freq="<unknown>")
    write("class/devfreq/17000000.gpu", cur_freq=1020000000)
    return tmp_path


def test_power_is_read_or_is_voltage_times_current(sysfs):
    assert read_power_w(sysfs) == pytest.approx(
        {"VDD_IN": 12.0, "VDD_CPU_GPU_CV": 2.492, "ina238 power1": 7.25, "VDD_IN (hwmon4)": 1.0}
    )


def test_clocks_that_are_told(sysfs):
    assert read_clocks_mhz(sysfs) == {"cpu policy0": 1728, "17000000.gpu": 1020}


def test_a_rail_that_does_not_answer_is_left_out(sysfs):
    (sysfs / "class/hwmon/hwmon1/in1_input").unlink()
    (sysfs / "class/hwmon/hwmon2/power1_input").write_text("")
    assert read_power_w(sysfs) == pytest.approx({"VDD_CPU_GPU_CV": 2.492, "ina238 in1": 12.0, "VDD_IN": 1.0})


def test_without_sensors_there_is_nothing(tmp_path):
    assert (read_power_w(tmp_path), read_clocks_mhz(tmp_path)) == ({}, {})
    with BoardSampler(root=tmp_path) as board:
        pass
    assert (board.power_w, board.clocks_mhz) == ({}, {})


def test_sampled_once_at_least(sysfs):
    with BoardSampler(period_s=60, root=sysfs) as board:
        pass
    assert board.power_w["VDD_IN"] == pytest.approx(12)
    assert board.clocks_mhz["17000000.gpu"] == 1020
