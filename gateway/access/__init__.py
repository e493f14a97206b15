"""Users, keys, sessions and tokens of an issuer: who is there. What each may do is said by `api.access`."""
