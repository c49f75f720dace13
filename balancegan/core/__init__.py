"""Foundations that everything else uses, without torch."""
