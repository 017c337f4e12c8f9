"""The pages: each file draws one. What they show is computed in `view_models`."""
