"""The process: configuration, journal, sinks, supervision, command line."""
