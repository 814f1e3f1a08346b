"""A dialog (RFC 3261 12): who talks to whom under which tags, in which order, and where the next request goes."""

from __future__ import annotations

import ipaddress

from softphone_bridge.message import Message, RemoteError
from softphone_bridge.signals import Flow
from softphone_bridge.uri import parse_address, parse_uri, uri_param


class Dialog:
    """`local` and `remote` are whole From/To values with their tags; `flow` is where the far side was last heard."""

    __slots__ = (
        "call_id",
        "flow",
        "local",
        "local_cseq",
        "local_tag",
        "remote",
        "remote_cseq",
        "remote_tag",
        "routes",
        "target",
        "trusted",
    )

    def __init__(
        self,
        *,
        call_id: str,
        local: str,
        local_tag: str,
        remote: str,
        remote_tag: str,
        target: str,
        routes: list[str],
        flow: Flow,
        local_cseq: int = 0,
        remote_cseq: int = 0,
        trusted: bool = False,
    ) -> None:
        self.call_id = call_id
        self.local = local
        self.local_tag = local_tag
        self.remote = remote
        self.remote_tag = remote_tag
        self.target = target
        self.routes = routes
        self.flow = flow
        self.local_cseq = local_cseq
        self.remote_cseq = remote_cseq
        self.trusted = trusted

    @classmethod
    def answering(cls, request: Message, local_tag: str, flow: Flow, *, trusted: bool) -> Dialog:
        """The server's side (12.1.1). Raises RemoteError when the Contact is missing or bad."""
        contacts = request.contacts()
        target = contacts[0].uri if contacts and contacts[0].uri != "*" else request.from_.uri
        to = request.get("to")
        return cls(
            call_id=request.call_id,
            local=f"{to};tag={local_tag}",
            local_tag=local_tag,
            remote=request.get("from"),
            remote_tag=request.from_tag,
            target=target,
            routes=request.elements("record-route"),
            flow=flow,
            remote_cseq=request.cseq[0],
            trusted=trusted,
        )

    def take_response(self, response: Message) -> None:
        """Complete the client's side from a 2xx (12.1.2)."""
        self.remote = response.get("to")
        self.remote_tag = response.to_tag
        self.routes = response.elements("record-route")[::-1]
        self.refresh(response)

    def refresh(self, message: Message) -> None:
        """A new remote target, when the message brings one (12.2.1.2)."""
        try:
            contacts = message.contacts()
        except RemoteError:
            return
        if contacts and contacts[0].uri[:3].lower() == "sip":
            self.target = contacts[0].uri

    def matches(self, request: Message) -> bool:
        return request.call_id == self.call_id and request.from_tag == self.remote_tag

    def next_hop(self) -> Flow:
        """Where the next request goes: the first route or the target if we may reach it, else back the flow.

        A phone behind address translation gives a Contact that is not where it is heard from: then the flow
        wins. A stream is always used again.
        """
        if self.flow.transport != "udp" and self.flow.key:
            return self.flow
        uri = self.target
        if self.routes:
            route = parse_address(self.routes[0])
            if route is not None:
                uri = route.uri
        found = flow_of(uri)
        if found is None:
            return self.flow
        if found.host == self.flow.host or self.trusted:
            return found
        return self.flow


def flow_of(uri: str) -> Flow | None:
    """The flow that a URI names by address; None when it holds a name (nobody here asks DNS)."""
    parts = parse_uri(uri)
    if parts is None:
        return None
    host = parts.host.strip("[]")
    if host.lower() == "localhost":
        host = "127.0.0.1"
    if not host[-1:].isdigit() and ":" not in host:
        return None
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return None
    transport = (uri_param(parts.params, "transport") or "udp").lower()
    if parts.scheme == "sips":
        transport = "tls"
    if transport not in ("udp", "tcp", "tls"):
        return None
    return Flow(transport, host, parts.port or (5061 if transport == "tls" else 5060))
