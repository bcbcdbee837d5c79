"""A TCP proxy that cuts connections where it is told: also in the middle of a response."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class CuttingProxy:
    """Passes bytes both ways until `budget` bytes have come from the server, then resets."""

    target: str
    address: str = ""
    #: Bytes from the server that still pass; None: all.
    budget: int | None = None
    #: Connections that were cut.
    cuts: int = 0
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["CuttingProxy"]:
        """Listen on a port of loopback."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        self.address = f"{host}:{port}"
        try:
            yield self
        finally:
            server.close()
            self._reset()
            await server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self.target.rpartition(":")
        behind, ahead = await asyncio.open_connection(host, int(port))
        self._open |= {writer, ahead}
        await asyncio.gather(self._pass(reader, ahead), self._pass(behind, writer, metered=True))

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, metered: bool = False
    ) -> None:
        try:
            while data := await source.read(65_536):
                if metered and self.budget is not None:
                    data, self.budget = data[: self.budget], self.budget - len(data)
                sink.write(data)
                await sink.drain()
                if metered and self.budget is not None and self.budget <= 0:
                    self.cuts += 1
                    self._reset()
        except OSError:
            pass
        finally:
            self._open.discard(sink)
            sink.close()

    def _reset(self) -> None:
        for writer in tuple(self._open):
            writer.close()
        self._open.clear()
