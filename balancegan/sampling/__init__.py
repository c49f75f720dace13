"""Sample images from seeds."""
