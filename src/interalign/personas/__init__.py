"""Personas: who the users are."""
