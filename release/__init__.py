"""A model version comes into service: the registry's rules, the second person, the gates, and the way back."""
