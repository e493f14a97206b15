"""Snapshots of what the engine knows, backups of a whole gateway, and the way back from both."""
