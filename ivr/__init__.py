"""Trees: what a customer meets before a person."""
