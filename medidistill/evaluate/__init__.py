"""What a distilled set is worth: fresh networks trained on each arm, scored with intervals over patients."""
