"""The quality report: compute the numbers and pictures, then render one self-contained page."""
