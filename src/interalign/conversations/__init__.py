"""Conversations that branch, and the preferences that fall out of them."""
