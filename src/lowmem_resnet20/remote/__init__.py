"""The client of a service: keys and encrypted pictures go there, progress and encrypted results come back."""
