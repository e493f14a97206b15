"""Loss accounting: what was recorded of each tag, and where each sample of it is now."""
