"""A consortium to try: a real coordinator and real sites on this machine, each command printed as a person types it."""
