"""Studies: one baseline, rows that each change something, and a table that compares."""
