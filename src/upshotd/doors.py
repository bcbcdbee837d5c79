"""A port taken before what listens on it is made."""

import socket

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
