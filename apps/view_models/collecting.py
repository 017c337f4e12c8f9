"""Short clicks: what the imported libraries hold is taken out of the garbage collector's sight.

Streamlit collects all garbage after every run of a script. With torch, MONAI and pandas loaded that looks at a million
objects which never become garbage, and takes 0.3 s for every click of every session, one after another.
"""

from __future__ import annotations

import gc
import sys
import threading

__all__ = ["freeze_imported_objects"]

_LOCK = threading.Lock()
_seen = 0


def freeze_imported_objects() -> bool:
    """Freeze what lives now, if modules were loaded since the last call; return whether that was so.

    What was frozen before is collected once more, so that nothing stays for good that was only in use at the time.
    """
    global _seen
    with _LOCK:
        if len(sys.modules) == _seen:
            return False
        _seen = len(sys.modules)
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        return True
