"""X-rays from a PACS into a folder: received (C-STORE), fetched (C-FIND, C-MOVE), or fetched by DICOMweb.

Needs the extra `pacs`. What arrives is patients' data as the PACS holds it: the folder is closed to others.
"""

from medidistill.ingest.pacs.query import Query
from medidistill.ingest.pacs.spool import Spool

__all__ = ["Query", "Spool"]
