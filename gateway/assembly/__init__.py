"""The parts of a running gateway, each built by one file, so that one can be exchanged while others run."""
