"""What a person looks at: reports, audits, the web page, studies. Tools import it."""
