"""Who may come in: tokens that stand, one-time codes, sessions, and issuers elsewhere."""
