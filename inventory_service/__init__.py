"""Stock, reserved exactly once."""
