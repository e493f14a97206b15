"""What differs between two configurations, how one is applied, and those that ran before."""
