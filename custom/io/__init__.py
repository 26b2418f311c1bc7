"""Files: images, label images, annotation formats. No registry, no runner."""
