"""Inspect a data set and advise what to do about it."""
