"""The demo: the bundled plant as a child process, and the configuration that fits it."""
