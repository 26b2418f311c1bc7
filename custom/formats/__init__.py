"""Reading and writing what other programs use. Neither torch nor mmdet is imported."""
