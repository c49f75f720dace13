"""Computes a report's document from images."""
