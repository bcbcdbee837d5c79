"""The doors: a port taken before what listens on it is made, and who is let in."""

import socket

from upshotd.adapters.grpc.boundary import Boundary
from upshotd.application.credentials import KeyCredentials, ReadLink
from upshotd.application.keys import Keys
from upshotd.application.ports import Clock, Ids
from upshotd.config import Settings
from upshotd.config_network import Address
from upshotd.domain.errors import FailedPrecondition


def bound(address: Address) -> socket.socket:
    """Return a socket that holds *address*; links can name its port from then on.

    Raises FailedPrecondition where it cannot be had.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    door = socket.socket(family, socket.SOCK_STREAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind((address.host, address.port))
        door.listen()  # a port that is bound only is not taken yet
    except OSError:
        door.close()
        text = f"cannot listen on {address}: another program does, or it is no address of ours"
        raise FailedPrecondition(text, subject=str(address)) from None
    return door


def guarded(
    settings: Settings, keys: Keys, read_link: ReadLink, clock: Clock, ids: Ids
) -> Boundary:
    """Return what every call passes: by its key or its signed link, within its limits."""
    auth, limits = settings.network.auth, settings.limits
    credentials = KeyCredentials(
        keys,
        read_link,
        root_key=auth.root_key,
        required=auth.required,
        rate=auth.rate,
    )
    return Boundary(
        credentials,
        clock,
        ids,
        unary_limit_us=limits.call_us,
        write_limit_us=limits.reader_us,
    )
