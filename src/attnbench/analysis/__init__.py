"""From records to verdicts; needs no torch."""
