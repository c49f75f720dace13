"""From a folder of images to a uint8 store and back: scan, decode, store, inspect, imbalance, export, demo data."""
