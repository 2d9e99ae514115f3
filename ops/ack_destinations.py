"""Where application acknowledgements go: an MLLP line to each sender that wants them."""

from collections.abc import Mapping

from adapters.transport.mllp_client import MllpSender
from ops.channel import Channel
from ops.flow_delivery import Destination


def ack_destinations(channels: Mapping[str, Channel]) -> list[Destination]:
    """Return the destinations that channels name with `application_acks`.

    The same acknowledgement twice does no harm: MSA-2 names the message, MSH-10 stays the same.
    """
    found = []
    for channel in channels.values():
        if channel.application_acks is None:
            continue
        host, _, port = channel.profile.application_acks.rpartition(":")
        found.append(
            Destination(
                name=channel.application_acks,
                sender=MllpSender(host=host, port=int(port)),
                is_idempotent=True,
                parallel=1,
            )
        )
    return found
