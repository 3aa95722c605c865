"""The roles of a conversation, played by language models."""
