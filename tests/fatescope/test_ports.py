import socket

import pytest

from fatescope.errors import ParamsError
from fatescope.ports import OTHER_PORT, check_port
from tests.support.servers import free_port


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1"])
def test_a_free_port_can_be_used_and_stays_free(host):
    port = free_port()
    check_port(host, port)
    check_port(host, port)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_is_taken_is_one_line_with_what_to_do(host):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ParamsError) as raised:
            check_port(host, port)
        with pytest.raises(ParamsError) as advised:
            check_port(host, port, OTHER_PORT)
    reason = f"port {port} of {host} cannot be used (Address already in use); end the program that uses it"
    assert str(raised.value) == reason
    assert str(advised.value) == f"{reason}, or choose another port with --port"


def test_a_host_that_is_not_an_address_of_this_machine_is_refused():
    with pytest.raises(ParamsError, match=r"--host localhost: not an IP address; write 127\.0\.0\.1"):
        check_port("localhost", 3000)
    with pytest.raises(ParamsError, match=r"port 3000 of 192.0.2.1 cannot be used \(Cannot assign requested address\)"):
        check_port("192.0.2.1", 3000)
