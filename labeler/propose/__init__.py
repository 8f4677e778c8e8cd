"""What turns evidence into hypotheses. Never decides."""
