"""How well models come to know the person they talk to, with the uncertainty of every number."""
