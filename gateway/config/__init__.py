"""Configuration: settings declared once, read from files, judged all at once before anything starts."""
