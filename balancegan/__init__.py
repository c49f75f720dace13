"""balancegan: balance imbalanced image data sets with GANs, and see honestly what you got."""

__version__ = "0.1.0"
