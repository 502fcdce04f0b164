"""Volumes from views."""
