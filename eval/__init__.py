"""Measurements: how well regions are named, each by one command."""
