"""Who does what of a plan, and what if he dies."""
