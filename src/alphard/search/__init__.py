"""Search: a space of configs, the studies that look through it, and what they found."""
