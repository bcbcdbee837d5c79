"""Providers: one file per kind, `build` makes them out of the settings."""
