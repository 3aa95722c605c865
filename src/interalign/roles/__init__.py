"""The roles of a conversation: user simulator, inducer, responder, judge."""
