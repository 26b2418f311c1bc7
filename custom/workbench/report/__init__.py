"""Pages for the browser: one file each, without any request to a network."""
