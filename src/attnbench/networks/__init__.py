"""A backbone with a mechanism grafted into it, and what it costs."""
