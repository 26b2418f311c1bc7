"""Reports, audits, prediction folders, the web page, studies; for tools only."""
