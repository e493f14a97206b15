"""Whether journal, database, broker and memory tell the same story, and mending where they do not."""
