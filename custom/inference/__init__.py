"""Tiles and merging: plain NumPy and PyTorch, no registry, no config."""
