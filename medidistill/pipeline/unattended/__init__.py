"""Runs that nobody watches: nights over an inbox, and the way from a PACS to a bundle."""
