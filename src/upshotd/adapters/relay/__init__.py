"""Relays: clients of StreamOutcomes that tell other systems what happened."""
