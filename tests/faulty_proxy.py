"""A TCP proxy in front of a server's Unix socket: delays, cuts, resets, or swallows what passes."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

_DELAY_S = 0.2


@dataclass
class FaultyProxy:
    """Passes bytes both ways; what it does beside that is set while connections are open."""

    #: Path of the socket.
    target: str
    port: int = 0
    #: Every piece waits a moment.
    slow: bool = False
    #: Nothing passes; connections stay open and can be made.
    black_hole: bool = False
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _passes: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["FaultyProxy"]:
        """Listen on a port of loopback."""
        self._passes.set()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()

    def swallow(self, nothing_passes: bool) -> None:
        """Let nothing pass, or everything again."""
        self.black_hole = nothing_passes
        if nothing_passes:
            self._passes.clear()
        else:
            self._passes.set()

    def cut(self) -> None:
        """End every connection in good order."""
        for writer in tuple(self._open):
            writer.close()

    def reset(self) -> None:
        """End every connection as a crashed host would: RST, and what is in the buffers is gone."""
        for writer in tuple(self._open):
            end = writer.get_extra_info("socket")
            if end is not None and end.family == socket.AF_INET:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            behind, ahead = await asyncio.open_unix_connection(self.target)
        except OSError:
            writer.close()
            return
        self._open |= {writer, ahead}
        await asyncio.gather(self._pass(reader, ahead), self._pass(behind, writer))

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                if self.slow:
                    await asyncio.sleep(_DELAY_S)
                await self._passes.wait()
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            self._open.discard(sink)
            sink.close()
