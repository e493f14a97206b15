"""Southbound protocols, one folder each, behind one small port (`connectors.base`)."""
