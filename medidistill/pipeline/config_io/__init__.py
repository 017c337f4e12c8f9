"""Configuration files: YAML to dataclasses and back, their JSON Schema, and the ready-made ones."""
