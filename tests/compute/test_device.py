"""Threads and devices."""

import torch

from balancegan.compute import device


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
