"""`python -m gateway` is the same as `andon`."""

from gateway.cli import main

main()
