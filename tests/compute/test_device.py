"""Threads and devices."""

import platform
import shutil

import pytest
import torch

from balancegan.compute import device, machine


def test_no_more_threads_than_a_container_allows(monkeypatch):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        monkeypatch.setattr(device, "usable_cores", lambda: 8)
        device.prepare(torch.device("cpu"))
        assert torch.get_num_threads() == 4  # what the user asked for stays
        monkeypatch.setattr(device, "usable_cores", lambda: 2)
        device.prepare(torch.device("cpu"))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# GPUs, without torch ---------------------------------------------------------------------------------------------


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A Linux machine without a GPU; the function that it returns adds a file to it."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    for name in ("NVIDIA_CARDS", "WSL_FILES"):
        monkeypatch.setattr(machine, name, tuple(f"{tmp_path}{path}" for path in getattr(machine, name)))

    def add(path):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()

    return add


@pytest.mark.parametrize("path", ["proc/driver/nvidia/gpus/0000:01:00.0", "dev/nvidia0", "dev/nvidia3"])
def test_an_nvidia_card_is_found_unless_it_is_hidden(system, monkeypatch, path):
    system("proc/driver/nvidia/version")
    system("dev/nvidiactl")
    assert not machine.has_gpu()  # a driver alone
    system(path)
    assert machine.has_gpu() and machine.has_nvidia_gpu()
    for visible, found in (("", False), ("-1", False), ("-1,0", False), ("0", True), ("GPU-3f", True)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert machine.has_gpu() is found, visible


def test_wsl_needs_the_driver_library_too(system):
    system("dev/dxg")
    assert not machine.has_gpu()  # it may be another maker's card
    system("usr/lib/wsl/lib/libcuda.so.1")
    assert machine.has_gpu()


def test_on_windows_the_drivers_own_tool_is_looked_for(system, monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert not machine.has_gpu()
    monkeypatch.setattr(shutil, "which", lambda name: f"C:/{name}.exe")
    assert machine.has_gpu()


def test_apple_silicon_has_a_gpu_but_none_of_nvidia(system, monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert machine.has_gpu() and not machine.has_nvidia_gpu()
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert not machine.has_gpu()
