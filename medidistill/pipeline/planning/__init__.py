"""What a run will need: measured steps, the plan, the memory check, the device."""
