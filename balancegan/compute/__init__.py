"""Devices, memory, processes."""
