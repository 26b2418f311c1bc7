"""Files: images, label images, checkpoints. No registry, no runner."""
