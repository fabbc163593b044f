"""Addresses that lead into somebody's network are told from those of the public internet."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regionlm.serve.net.addresses import is_public

ADDRESSES = st.integers(0, 2**32 - 1).map(IPv4Address)


@pytest.mark.parametrize("address", ["93.184.216.34", "1.1.1.1", "2606:4700:4700::1111"])
def test_ordinary_addresses_are_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1"),
        *("169.254.169.254", "100.64.0.1", "100.100.100.200", "224.0.0.1", "240.0.0.1"),
        *("255.255.255.255", "192.0.2.1", "198.18.0.1", "168.63.129.16", "192.0.0.192"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1"),
        *("2001:db8::1", "fec0::1", "3fff::1", "100::1", "5f00::1"),
        *("", "example.org", "2130706433", "0x7f.1", "127.1", "1.1.1.1/32", "[::1]"),
    ],
)
def test_special_addresses_and_no_addresses_are_not(address):
    assert not is_public(address)


@given(ADDRESSES)
def test_an_ipv6_address_that_stands_for_an_ipv4_one_is_not(address):
    number = int(address)
    forms = {
        "mapped": (0xFFFF << 32) | number,
        "compatible": number,
        "translated": (0xFFFF << 48) | number,
        "nat64": (0x64FF9B << 96) | number,
        "6to4": (0x2002 << 112) | (number << 80),
        "teredo": (0x20010000 << 96) | (number ^ 0xFFFFFFFF),
    }
    assert not [name for name, form in forms.items() if is_public(str(IPv6Address(form)))]


@given(ADDRESSES)
def test_none_that_python_calls_private_is_public(address):
    if is_public(str(address)):
        assert address.is_global
        assert not (address.is_private or address.is_multicast or address.is_loopback)
        assert not (address.is_link_local or address.is_reserved or address.is_unspecified)
