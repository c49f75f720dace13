"""balancegan: balance imbalanced image data sets with GANs, and see honestly what you got."""

from balancegan.core.version import __version__

__all__ = ["__version__"]
