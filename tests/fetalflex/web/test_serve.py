import pytest

from fetalflex.errors import UsageError
from fetalflex.web.serve import bind, check_address, is_loopback


def test_loopback_needs_no_token_and_another_address_does() -> None:
    for host in ("127.0.0.1", "localhost", "::1", "127.5.5.5"):
        assert is_loopback(host)
        assert check_address(host, None) is None
    for host in ("0.0.0.0", "192.168.1.5", "::", "scanner.example"):
        with pytest.raises(UsageError, match="--token"):
            check_address(host, None)
        assert check_address(host, "a-token-of-some-length") == "a-token-of-some-length"


@pytest.mark.parametrize("token", ["short", "a token of some length", "täken-of-some-length?"])
def test_a_weak_token_is_refused(token: str) -> None:
    with pytest.raises(UsageError, match="16"):
        check_address("0.0.0.0", token)


def test_a_port_in_use_is_one_error() -> None:
    with bind("127.0.0.1", 0) as first:
        first.listen()
        with pytest.raises(UsageError, match="another --port"):
            bind("127.0.0.1", first.getsockname()[1])
