"""DICOM associations that end when the peer falls silent within a message.

pynetdicom reads a PDU with a blocking call, without a limit of time: its `network_timeout` ends an association between
PDUs alone. A peer that loses power after half a PDU would hold a thread, and with it the end of the process, for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pynetdicom.events import Event, EventType

__all__ = ["SILENCE", "end_when_silent"]

SILENCE = 60.0  # seconds


def end_when_silent(seconds: float = SILENCE) -> tuple[EventType, Callable[[Event], Any]]:
    """Return an event handler for `AE.associate` or `AE.start_server`.

    Args:
        seconds: an association is aborted when no byte came, or none was taken, for so long within a PDU; > 0.
    """
    from pynetdicom import evt

    def opened(event: Event) -> None:
        link = event.assoc.dul.socket
        if link is not None and link.socket is not None:
            link.socket.settimeout(seconds)

    return evt.EVT_CONN_OPEN, opened
