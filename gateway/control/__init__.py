"""Commands to machines: judged by rules, kept in a ledger, sent at most once, read back, told and audited."""
