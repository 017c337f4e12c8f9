"""The release of a set: the audit of its procedure, the gate, the log, and copies of bundles."""
