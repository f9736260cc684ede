"""A process between usagebox and its servers that spoils connections on command. Each link is a port that it listens
on and a server that it connects to. Commands come on standard input, one JSON object a line: {"link": name, "mode":
mode, ...}; they hold until the next one for the link, whose "clear" ends all.

    clear     passes everything on; what a hole has swallowed from can't be mended and is cut
    delay     each piece waits {"delay_s": …}, in order
    stall     nothing is passed on; after "clear" it goes on where it was
    hole      what comes is swallowed, and nothing comes back, on old connections and new ones
    cut       resets a {"share": …} of the connections, once
    halve     passes half of the next piece towards {"towards": "client" or "server"} and resets the connection
    swallow   passes a piece that holds {"text": …} to the server, and resets the client before it has the answer
    refuse    resets all connections, and new ones at once
"""
import asyncio
import json
import random
import socket
import struct
import sys

CHUNK_BYTES = 1 << 16
ANSWER_S = 0.05  # until a server has taken in what it was sent


class Link:
    def __init__(self, name, listen_port, server_port):
        self.name, self.listen_port, self.server_port = name, listen_port, server_port
        self.order = {"mode": "clear"}
        self.connections = set()
        self.passing = asyncio.Event()
        self.passing.set()

    @property
    def mode(self):
        return self.order["mode"]

    async def listen(self):
        await asyncio.start_server(self.accept, "127.0.0.1", self.listen_port)

    async def accept(self, reader, writer):
        if self.mode == "refuse":
            return reset(writer)
        try:
            upstream = await asyncio.open_connection("127.0.0.1", self.server_port)
        except OSError:
            return reset(writer)
        connection = Connection(self, (reader, writer), upstream)
        self.connections.add(connection)
        await connection.run()
        self.connections.discard(connection)

    def obey(self, order):
        self.order = order
        if self.mode == "cut":
            for connection in list(self.connections):
                if random.random() < order["share"]:
                    connection.reset()
            self.order = {"mode": "clear"}
        elif self.mode == "refuse":
            for connection in list(self.connections):
                connection.reset()
        elif self.mode == "clear":
            for connection in [c for c in self.connections if c.swallowed]:
                connection.reset()
        (self.passing.clear if self.mode == "stall" else self.passing.set)()


class Connection:
    def __init__(self, link, client, server):
        self.link, self.client, self.server = link, client, server
        self.swallowed = False

    async def run(self):
        await asyncio.gather(self.pass_on(self.client[0], self.server[1], "server"),
                             self.pass_on(self.server[0], self.client[1], "client"))

    def reset(self):
        reset(self.client[1])
        reset(self.server[1])

    async def pass_on(self, reader, writer, towards):
        try:
            while piece := await reader.read(CHUNK_BYTES):
                await self.treat(piece, writer, towards)
        except OSError:
            pass
        if self.link.mode != "hole":
            self.reset_gently()

    def reset_gently(self):
        for writer in (self.client[1], self.server[1]):
            if not writer.is_closing():
                writer.close()

    async def treat(self, piece, writer, towards):
        await self.link.passing.wait()
        order, mode = self.link.order, self.link.mode
        if mode == "hole" or self.swallowed:
            self.swallowed = True
            return
        if mode == "delay":
            await asyncio.sleep(order["delay_s"])
        halves = mode == "halve" and towards == order["towards"]
        writer.write(piece[:len(piece) // 2] if halves else piece)
        await writer.drain()
        swallows = mode == "swallow" and towards == "server" and order["text"].encode() in piece
        if halves or swallows:
            self.link.order = {"mode": "clear"}
            if swallows:
                reset(self.client[1])
            await asyncio.sleep(ANSWER_S)
            self.reset()


def reset(writer):
    """RST, not FIN: nothing that waits is delivered."""
    if writer.is_closing():
        return
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def obey_orders(links):
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        order = json.loads(line)
        links[order["link"]].obey(order)


async def main(arguments):
    links = {}
    for argument in arguments:
        name, listen_port, server_port = argument.split(":")
        links[name] = Link(name, int(listen_port), int(server_port))
        await links[name].listen()
    print("ready", flush=True)
    await obey_orders(links)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
