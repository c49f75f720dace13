"""Read a folder of images into a uint8 store: scan, decode, store, split, imbalance, demo data."""
