"""What goes wrong: each seed switches on some of the faults (swarm testing), and counts them."""

import random
from collections import Counter

#: Every fault, and the share of seeds that have it.
FAULTS = {
    # processes
    "crash": 0.7,
    "freeze": 0.4,
    "drain": 0.3,
    # the database
    "away": 0.4,
    "answer_lost": 0.5,
    "slow_database": 0.4,
    "clock_jump": 0.3,
    # providers
    "send_slow": 0.5,
    "send_lost_before": 0.5,
    "send_lost_after": 0.5,
    "send_deferred": 0.5,
    "send_refused": 0.5,
    "send_unclear": 0.4,
    # what runs ask
    "fetch_lost_before": 0.4,
    "fetch_lost_after": 0.4,
    "fetch_busy": 0.4,
    # callbacks
    "callback_twice": 0.5,
    "callback_early": 0.5,
    "callback_late": 0.5,
    "callback_lost": 0.3,
    # people who decide
    "same_instant": 0.5,
    # people who text back
    "text": 0.6,
    "text_twice": 0.5,
    # clients and the network to them
    "request_lost": 0.5,
    "response_lost": 0.5,
    "event_twice": 0.7,
    # readers
    "relay_crash": 0.6,
    "relay_slow": 0.3,
    "prune": 0.3,
    # people who change things
    "redefine": 0.5,
    "migrate": 0.5,
    "cancel": 0.4,
    "choose": 0.5,
    "list": 0.5,
    "retell": 0.4,
    "regroup": 0.5,
    "merge": 0.5,
    "erase": 0.4,
    # devices
    "device_gone": 0.5,
}


class Faults:
    """The faults of one seed. `strikes` is asked where one can happen."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.on = {name for name, share in FAULTS.items() if chance.random() < share}
        self.injected: Counter[str] = Counter()
        #: False once everything is to heal.
        self.active = True

    def strikes(self, name: str, share: float) -> bool:
        """Return whether the fault happens here, in *share* of all cases; it is counted then."""
        if not self.active or name not in self.on or self._chance.random() >= share:
            return False
        self.injected[name] += 1
        return True

    def count(self, name: str) -> None:
        """Count one that is injected elsewhere."""
        self.injected[name] += 1
