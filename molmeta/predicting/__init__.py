"""A bundle at work: support tables read, assays learned, libraries predicted row by row."""
