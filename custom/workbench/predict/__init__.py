"""Files that a prediction run writes, and resuming it."""
