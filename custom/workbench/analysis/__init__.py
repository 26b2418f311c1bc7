"""Scores of a run with their intervals, image by image and cell by cell."""
