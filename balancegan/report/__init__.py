"""Renders the quality report, comparison and inspection pages, and their charts and pictures."""
