"""The commands of `andon`, one file a verb; `gateway.cli` declares their options."""
