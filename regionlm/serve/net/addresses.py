"""Addresses of the internet protocol: anybody's, or those of somebody's own network."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_SPECIAL = [
    ip_network(network)
    for network in (
        "168.63.129.16/32",  # looks public, but inside Azure it is the host's own service
        "192.0.0.0/24",  # the rest: what some versions of Python take for global
        "192.88.99.0/24",
        "2001::/23",
        "2002::/16",  # 6to4, which leads to an IPv4 address
        "3fff::/20",
    )
]
_IPV6_UNICAST = ip_network("2000::/3")


def is_public(address: str) -> bool:
    """Whether an address is an ordinary one of the public internet.

    Private, loopback, link-local, shared, multicast, reserved, documentation and unspecified
    addresses are not; nor are IPv6 addresses that stand for an IPv4 one (mapped, NAT64, 6to4,
    Teredo), whatever that is, and what is no address at all.
    """
    try:
        found = ip_address(address.partition("%")[0])  # after it: the interface of a local address
    except ValueError:
        return False
    return found.is_global and _is_unicast(found) and not any(found in one for one in _SPECIAL)


def _is_unicast(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address):
        return address in _IPV6_UNICAST
    return not (address.is_multicast or address.is_reserved)
