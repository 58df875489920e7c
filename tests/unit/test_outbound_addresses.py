"""Which addresses an endpoint may be sent to: public unicast, in whatever spelling, and what is opened."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.deliver.outbound import AddressGuard, Blocked, is_public, plain

REFUSED = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.254 127.0.0.1 127.1.2.3 168.63.129.16
169.254.0.1 169.254.169.254 169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.8 192.0.0.170
192.0.0.192 192.0.2.1 192.31.196.1 192.52.193.1 192.88.99.1 192.168.0.1 192.168.255.255 192.175.48.1
198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255
:: ::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::127.0.0.1 ::ffff:0:127.0.0.1
64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 100::1 2001::1 2001:0:53aa:64c:0:fbff:f5ff:fffe 2001:2::1
2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1:: 2002:a9fe:a9fe:: 2620:4f:8000::1 3fff::1 5f00::1 fc00::1
fd00:ec2::254 fe80::1 fe80::1%eth0 fec0::1 ff02::1 ff0e::1 4000::1
""".split()

PUBLIC = """
1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1 168.63.129.15
169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.167.255.255 192.169.0.0 198.17.255.255
198.20.0.0 223.255.255.255 3.5.140.2 34.120.0.1
2001:4860:4860::8888 2606:4700:4700::1111 2a00:1450:4001::1 2400:cb00::1 2001:200::1 2003::1 3ffe::1
::ffff:8.8.8.8
""".split()


@pytest.mark.fault(19)
def test_the_corpus_is_large_enough(figures: Callable[..., None]) -> None:
    """At least 47 addresses that must be refused, and all of them are; of the public ones none."""
    assert len(set(REFUSED)) >= 47
    passed = [each for each in REFUSED if AddressGuard().permits(each)]
    shut = [each for each in PUBLIC if not AddressGuard().permits(each)]
    told = f"{len(passed)} of {len(REFUSED)} addresses let through"
    figures(f"{told}, {len(shut)} of {len(PUBLIC)} public ones refused", rounds=len(REFUSED))
    assert (passed, shut) == ([], [])


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_not_public_unicast_is_refused(text: str) -> None:
    """Private, local, shared, reserved, metadata, multicast, and IPv4 hidden in IPv6."""
    assert not AddressGuard().permits(text)


@pytest.mark.parametrize("text", PUBLIC)
def test_no_public_address_is_refused(text: str) -> None:
    """Neighbours of every refused block pass."""
    assert AddressGuard().permits(text)


@given(st.ip_addresses(v=4))
def test_a_mapped_address_is_judged_as_what_it_is(address: IPv4Address) -> None:
    """::ffff:a.b.c.d reaches a.b.c.d, so both are judged alike."""
    mapped = str(IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed))
    assert AddressGuard().permits(mapped) == AddressGuard().permits(str(address))


@given(st.ip_addresses(v=4))
def test_no_other_way_of_hiding_an_address_is_open(address: IPv4Address) -> None:
    """NAT64, its local prefix, 6to4, Teredo, compatible and translated forms are all refused."""
    value = int(address)
    hidden = [
        0x0064FF9B << 96 | value,
        0x0064FF9B0001 << 80 | value,
        0x2002 << 112 | value << 80 | 1,
        0x20010000 << 96 | (value ^ 0xFFFFFFFF),
        value,
        0xFFFF0000 << 32 | value,
    ]
    assert not any(is_public(IPv6Address(each)) for each in hidden)


@given(st.ip_addresses())
def test_the_table_is_at_least_as_strict_as_the_standard_library(address: IPv4Address | IPv6Address) -> None:
    """Nothing is public here that Python's own tables call private."""
    if not address.is_global and plain(str(address)) == address:
        assert not is_public(address)


def test_allow_private_opens_its_block_and_nothing_else() -> None:
    """One CIDR opens one CIDR, mapped spellings of it included."""
    guard = AddressGuard((ip_network("10.1.0.0/16"), ip_network("fd00::/8")))
    assert guard.permits("10.1.2.3")
    assert guard.permits("::ffff:10.1.2.3")
    assert guard.permits("fd12::1")
    assert not guard.permits("10.2.0.1")
    assert not guard.permits("127.0.0.1")


def test_the_refusal_names_the_address_and_the_remedy() -> None:
    """Whoever meets it learns which CIDR to write where."""
    with pytest.raises(
        Blocked, match=r"hooks\.internal resolves to 10\.0\.0\.7.*10\.0\.0\.7/32.*allow_private"
    ):
        AddressGuard().demand("10.0.0.7", name="hooks.internal")


def test_a_zone_does_not_hide_an_address() -> None:
    """fe80::1%eth0 is fe80::1."""
    assert plain("fe80::1%eth0") == ip_address("fe80::1")
