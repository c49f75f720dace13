"""balancegan: balance imbalanced image data sets with GANs, and say honestly whether it helps."""

__version__ = "0.1.0"
