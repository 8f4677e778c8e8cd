"""Which images stand for a unit, and how they are shown."""
