"""MMCell's parts; ``custom_imports`` in ``configs/_base_/runtime.py`` loads them."""
