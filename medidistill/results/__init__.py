"""What stages find, as frozen dataclasses: one module a concept, written and read as JSON by `serialise` alone."""
