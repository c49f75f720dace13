"""What everything else stands on; no torch."""
