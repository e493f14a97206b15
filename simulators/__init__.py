"""Plants to test against, with faults and a ledger of the truth. Imports nothing of the product."""
