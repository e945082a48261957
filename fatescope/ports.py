"""Whether a server could listen on a port, asked before anything is started."""

import ipaddress
import os
import socket

from fatescope.errors import ParamsError

OTHER_PORT = "choose another port with --port"
"""What to do where a command can listen on another one."""


def check_port(host: str, port: int, remedy: str = "") -> None:
    """Raise ParamsError where no server could listen on `port` of `host`, an IP address.

    `remedy` says what else to do than to end the program that uses the port.
    """
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    except ValueError as error:
        raise ParamsError(f"--host {host}: not an IP address; write 127.0.0.1, or 0.0.0.0 for all addresses") from error
    try:
        with socket.socket(family) as probe:
            # As servers do: a port whose last connections are still closing is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen(1)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise ParamsError(
            f"port {port} of {host} cannot be used ({reason}); end the program that uses it"
            + (f", or {remedy}" if remedy else "")
        ) from error
