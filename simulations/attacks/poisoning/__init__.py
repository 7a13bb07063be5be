"""Bad hospitals among good ones: what they send or train on, and what a rule of aggregation leaves of it."""
