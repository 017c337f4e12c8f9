"""The comparison: its arms and cells, clinical figures, verdict, and the bundles and images of others."""
